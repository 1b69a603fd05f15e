"""Objects that take attributes of any name, as asyncio's do: `transport.write = mock`, `writer.user =
user`.

An object has no dictionary until the first attribute is set. Until then it costs a null pointer. C code
that finds the null pointer knows that no instance attribute hides a method of the class.
"""

from __future__ import annotations

import cython
from cython.cimports.hoop._c.python import (
    Py_XDECREF,
    PyObject_GenericGetDict,
    Ref,
    hoop_set_dictoffset,
    hoop_swap_clear,
    hoop_swap_traverse,
    hoop_visit,
    inquiry,
    ref,
    traverseproc,
    visitproc,
)


@cython.cclass
class Attributed:
    """An object with attributes of any name. An instance's attribute hides a method of its class."""

    def __dealloc__(self):
        Py_XDECREF(self.attributes)

    @property
    def __dict__(self):
        return PyObject_GenericGetDict(self, cython.NULL)


# ---- slots that Cython cannot set --------------------------------------------------------------------
# Subclasses with slots of their own call these. There is no former slot to call: the class has only this
# field.


@cython.cfunc
@cython.exceptval(check=False)
def attributed_traverse(o: Attributed | None, visit: visitproc, arg: cython.p_void) -> cython.int:
    return hoop_visit(o.attributes, visit, arg)


@cython.cfunc
@cython.exceptval(check=False)
def attributed_clear(o: Attributed | None) -> cython.int:
    attributes: Ref = o.attributes
    o.attributes = cython.NULL
    Py_XDECREF(attributes)
    return 0


@cython.cfunc
def _attributes_offset() -> cython.Py_ssize_t:
    o: Attributed = Attributed.__new__(Attributed)
    return cython.cast(cython.Py_ssize_t, cython.address(o.attributes)) - cython.cast(
        cython.Py_ssize_t, ref(o)
    )


hoop_set_dictoffset(Attributed, _attributes_offset())
hoop_swap_traverse(Attributed, cython.cast(traverseproc, attributed_traverse))
hoop_swap_clear(Attributed, cython.cast(inquiry, attributed_clear))
