"""The exception that the arguments of a throw() mean. Iterators of futures and native coroutines have one."""

from __future__ import annotations

import sys
import types
import warnings

import cython

THROW_WITH_TYPE_IS_DEPRECATED = cython.declare(cython.bint, sys.version_info >= (3, 12))


@cython.cfunc
def thrown_exception(typ, val, tb) -> object:
    """The exception that the arguments of a throw() mean."""
    if THROW_WITH_TYPE_IS_DEPRECATED and (val is not None or tb is not None):
        warnings.warn(
            "the (type, exc, tb) signature of throw() is deprecated, "
            "use the single-arg signature instead.",
            DeprecationWarning,
            stacklevel=1,
        )
    if tb is not None and not isinstance(tb, types.TracebackType):
        raise TypeError("throw() third argument must be a traceback")
    if isinstance(typ, type) and issubclass(typ, BaseException):
        if not isinstance(val, typ):
            val = typ() if val is None else typ(*val) if isinstance(val, tuple) else typ(val)
    elif isinstance(typ, BaseException):
        if val is not None:
            raise TypeError("instance exception may not have a separate value")
        val = typ
    else:
        raise TypeError(
            "exceptions must be classes or instances deriving from BaseException, "
            f"not {type(typ).__name__}"
        )
    return val if tb is None else val.with_traceback(tb)
