# Where the code of Python is that runs now.
from hoop._c.python cimport Ref

cdef extern from "frames.h":
    unsigned int hoop_known_site() noexcept
    void hoop_know(Ref code, int offset, unsigned int site) noexcept
    Ref hoop_caller(tuple folders, int *offset, int *is_users) noexcept
    int hoop_code_line(Ref code, int offset) noexcept
