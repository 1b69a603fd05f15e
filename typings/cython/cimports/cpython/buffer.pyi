from typing import Any

PyBUF_SIMPLE: int
PyBUF_WRITABLE: int

class Py_buffer:
    buf: Any
    obj: Any
    len: int
    itemsize: int
    readonly: bool

def PyObject_CheckBuffer(o: object) -> bool: ...
def PyObject_GetBuffer(o: object, view: Any, flags: int) -> int: ...
def PyBuffer_FillInfo(
    view: Any, o: object, buf: Any, n: int, readonly: bool, flags: int
) -> int: ...
def PyBuffer_Release(view: Any) -> None: ...
