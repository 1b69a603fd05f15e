"""Turns calls of builtin functions, and hoop's calls on files, to the disk of a simulation.

While a world with a disk runs, a call of such a function goes to the function in its place. So does a call
by a name that a module has imported long ago. Other threads, and calls within real(), go on as always.
"""

from __future__ import annotations

import cython
from cython.cimports.hoop._c.file import HOOP_STATX, hoop_set_stat_fields, hoop_statx
from cython.cimports.hoop._c.python import Ref
from cython.cimports.hoop._c.swap import (
    PyObject_Vectorcall,
    hoop_turn_back,
    hoop_turn_calls,
)
from cython.cimports.hoop.disk.call import CloseCall, OpenCall, SystemCall

from hoop.sim.swaps import is_inside

turned = cython.declare(dict, {})  # by function
real_calls = cython.declare(cython.int, 0)  # calls of real() under way


@cython.final
@cython.cclass
class Turned:
    """A builtin function whose calls go elsewhere."""


@cython.cfunc
def turned_call(function: Ref, args: cython.pointer[Ref], n: cython.size_t, names: Ref) -> object:
    """Take each call of a turned function."""
    found: Turned = turned[cython.cast(object, function)]
    if real_calls or found.straight or not is_inside():
        found.straight = False
        return found.former.way(function, args, n, names)
    return PyObject_Vectorcall(found.ours, args, n, names)


def turn(functions: dict) -> None:
    """Have calls of the builtin functions that are the keys go to the values."""
    made: Turned
    if turned:
        raise RuntimeError("calls are turned already")
    try:
        for function, ours in functions.items():
            made = Turned.__new__(Turned)
            made.function = function
            made.ours = ours
            hoop_turn_calls(function, turned_call, cython.address(made.former))
            turned[function] = made
    except BaseException:
        turn_back()
        raise


def turn_back() -> None:
    """Have all calls go where they went before."""
    made: Turned
    for made in turned.values():
        hoop_turn_back(made.function, cython.address(made.former))
    turned.clear()


def real(function, *args, **kwargs):
    """Call a function whose calls of turned functions reach the real disk."""
    global real_calls
    real_calls += 1
    try:
        return function(*args, **kwargs)
    finally:
        real_calls -= 1


def straight(function, *args, **kwargs):
    """Call a turned function itself. The turned functions that it calls stay turned."""
    made: Turned = turned[function]
    made.straight = True
    return function(*args, **kwargs)


# ---- calls of hoop's on files ------------------------------------------------------------------------


def closes(op: SystemCall) -> bool:
    """Return whether a call closes a descriptor."""
    return isinstance(op, CloseCall)


def holds(op: SystemCall) -> bool:
    """Return whether a call has opened a descriptor, and its caller has not taken it yet."""
    return isinstance(op, OpenCall) and op.result >= 0


def facts(op: SystemCall) -> tuple:
    """The arguments of a call: its code, descriptor, flags, paths, length, offset and address."""
    offset: cython.longlong = cython.cast(cython.longlong, op.offset)
    address: cython.longlong = cython.cast(cython.longlong, cython.cast(cython.size_t, op.address))
    return op.code, op.fd, op.flags, op.keep, op.length, offset, address


def make(op: SystemCall, at_most: cython.uint) -> int:
    """Make a call on a real descriptor, that moves at most so many bytes. Returns its result."""
    length: cython.uint = op.length
    op.length = at_most
    try:
        op.perform()
    finally:
        op.length = length
    return op.result


def answer(op: SystemCall, result: cython.longlong) -> None:
    """End a call that is not made: with this result, or -errno."""
    op.result = result


def answer_status(op: SystemCall, fields: tuple) -> None:
    """End a call that asks for a status: with these fields, in the order of os.stat_result."""
    status: cython.pointer[hoop_statx]
    if op.code != HOOP_STATX:
        raise TypeError("not a call for a status")
    status = cython.cast(cython.pointer[hoop_statx], cython.cast(cython.size_t, op.offset))
    hoop_set_stat_fields(status, fields)
    op.result = 0
