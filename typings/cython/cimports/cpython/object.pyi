from typing import Any, TypeAlias

PyObject: TypeAlias = Any
PyTypeObject: TypeAlias = Any
Py_TPFLAGS_HEAPTYPE: int
