"""Checks that objects of this Python lie in memory as the compiled code expects.

hoop imports this module before any other compiled one. Its shared object has all of them. Types whose slots
are changed are checked where that is done: see shim.h.
"""

from __future__ import annotations

import contextvars
import sys
import weakref

import cython
from cython.cimports.hoop._c.layout import (
    PY_VERSION_HEX,
    hoop_finds_c_function,
    hoop_finds_referent,
    hoop_finds_stop_value,
    hoop_finds_variables,
    hoop_head_size,
    hoop_type_size,
)
from cython.cimports.hoop._c.python import (
    hoop_check_spared,
    hoop_require,
    hoop_type_version,
)

_variable = cython.declare(object, contextvars.ContextVar("hoop._c.core"))


def check() -> None:
    """Raise ImportError if a field is not where the compiled code reads it."""
    hoop_require(sys.hexversion >> 16 == PY_VERSION_HEX >> 16, b"Python", b"is another version")
    hoop_require(object.__basicsize__ == hoop_head_size(), b"object", b"has another head")
    hoop_require(type.__basicsize__ == hoop_type_size(), b"type", b"has other slots")
    hoop_require(
        hoop_finds_stop_value(StopIteration(check), check), b"StopIteration", b"has another layout"
    )
    hoop_require(
        hoop_finds_referent(weakref.ref(Probe), Probe), b"a weak reference", b"has another layout"
    )
    hoop_require(
        hoop_finds_c_function(list.append, b"append"), b"a method of C", b"has another layout"
    )
    one = contextvars.Context()
    other = contextvars.Context()
    other.run(_variable.set, None)
    hoop_require(hoop_finds_variables(one, one.copy(), other), b"a context", b"has another layout")
    hoop_require(tells_changes(Probe), b"a type's version", b"does not tell changes")


def check_spared(kind: type) -> None:
    """Raise ImportError if dead objects of a type cannot be kept for later use."""
    hoop_check_spared(kind)


class Probe:
    """A class for the checks to look at."""

    attribute = None


@cython.cfunc
def tells_changes(cls) -> cython.bint:
    """Whether a change gives a class another version tag, or none."""
    before: cython.uint
    for _ in range(2):
        if cls().attribute is cls:  # a look-up gives it a tag
            return False
        before = hoop_type_version(cls)
        cls.attribute = check
        if before != 0 and hoop_type_version(cls) == before:
            return False
    return True


check()
