# Where the code of Python is that runs now.
from hoop._c.python cimport Ref

cdef extern from "frames.h":
    Ref hoop_caller(tuple folders, int *offset) noexcept
    int hoop_code_line(Ref code, int offset) noexcept
