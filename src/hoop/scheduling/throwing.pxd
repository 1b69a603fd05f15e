cdef object thrown_exception(object typ, object val, object tb)
