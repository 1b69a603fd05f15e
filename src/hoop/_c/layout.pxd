# The checks that hoop._c.selfcheck uses.
cdef extern from "layout.h":
    const unsigned int PY_VERSION_HEX
    Py_ssize_t hoop_head_size() noexcept
    Py_ssize_t hoop_type_size() noexcept
    bint hoop_finds_stop_value(object stop, object value) noexcept
    bint hoop_finds_referent(object weak, object referent) noexcept
    bint hoop_finds_variables(object context, object like, object unlike) noexcept
    bint hoop_finds_c_function(object method, const char *name) noexcept
