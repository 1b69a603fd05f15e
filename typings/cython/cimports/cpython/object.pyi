from typing import Any, TypeAlias

PyObject: TypeAlias = Any
PyTypeObject: TypeAlias = Any
Py_TPFLAGS_HEAPTYPE: int

def PyObject_GenericSetAttr(o: object, name: object, value: object, /) -> int: ...
