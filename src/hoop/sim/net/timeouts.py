"""Connections that TCP gives up: transports and tasks get an error that no wire has."""

from __future__ import annotations

import cython
from cython.cimports.hoop.drivers.errors import os_error
from cython.cimports.hoop.drivers.op import ARMED, READABLE, RECEIVE, Op
from cython.cimports.hoop.loop.turn import Loop
from cython.cimports.hoop.net.receiver import RecvOp
from cython.cimports.hoop.sim.driver import SimDriver
from cython.cimports.hoop.watching.readiness import SocketSlot, SocketTable


def tell_transport(loop: Loop, fd: cython.int, error: cython.int) -> bool:
    """Let the transport of a connection fail. Returns whether there is one that would notice."""
    driver: SimDriver = cython.cast(SimDriver, loop.driver)
    op: Op = receiver(driver, fd)
    if op is not None:
        op.delivers = True
        if op.complete(-error, cython.NULL):
            driver.failing.append(op)
        return True
    transport = loop._transport_of(fd)
    if transport is None or not transport.get_write_buffer_size():
        return False
    transport._fatal_error(os_error(-error))  # it has paused reading, and waits for room
    return True


def tell_tasks(loop: Loop, fd: cython.int, error: cython.int) -> bool:
    """Let the tasks fail that wait in loop.sock_recv() and its like. Returns whether there is one."""
    slot: SocketSlot = waited_for(cython.cast(SimDriver, loop.driver), fd)
    if slot is None:
        return False
    told: cython.bint = False
    for future in [slot.reader, slot.writer, *[entry[0] for entry in slot.more or ()]]:
        if future is not None and not future.done():
            future.set_exception(os_error(-error))
            told = True
    return told


@cython.cfunc
def receiver(driver: SimDriver, fd: cython.int) -> Op:
    """The op of a transport that waits for bytes, or None."""
    op: Op = driver.armed(fd, RECEIVE)
    if op is None and driver.completions is not None:
        op = driver.completions.receiver(fd)
    if op is None:
        op = driver.armed(fd, READABLE)
    return op if isinstance(op, RecvOp) and op.phase == ARMED else None


@cython.cfunc
def waited_for(driver: SimDriver, fd: cython.int) -> SocketSlot:
    """The state of a socket for which tasks wait in loop.sock_recv() and its like, or None."""
    table: SocketTable
    if driver.inner is None:
        return None
    for op in driver.inner.operations():
        if type(op) is SocketTable:
            table = op
            return table.slots[fd] if 0 <= fd < len(table.slots) else None
    return None
