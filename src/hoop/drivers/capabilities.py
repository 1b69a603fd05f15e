"""Finds out, once per process, which features of io_uring the kernel offers here.

Containers refuse io_uring in several ways, and kernels support parts of it. No version number tells which.
So this module makes a small ring and tries each feature that the driver needs. If one of them fails, the
loop uses epoll.
"""

from __future__ import annotations

import os
import socket

import cython
from cython.cimports.cpython.unicode import PyUnicode_AsUTF8
from cython.cimports.hoop._c.linux import MSG_NOSIGNAL, hoop_eventfd_write
from cython.cimports.hoop._c.uring import (
    CQE_BUFFER,
    CQE_MORE,
    FEATURE_EXT_ARG,
    FEATURE_NO_IOWAIT,
    FEATURE_NODROP,
    FEATURE_SUBMIT_STABLE,
    OP_ASYNC_CANCEL,
    OP_POLL_ADD,
    OP_RECV,
    OP_SEND,
    POOL_GROUP,
    hoop_ask_call,
    hoop_ask_cancel,
    hoop_ask_poll,
    hoop_ask_receive,
    hoop_cqe,
    hoop_pool,
    hoop_pool_data,
    hoop_pool_done,
    hoop_pool_open,
    hoop_pool_take_back,
    hoop_ring,
    hoop_ring_close,
    hoop_ring_enter,
    hoop_ring_next,
    hoop_ring_open,
    hoop_ring_probe,
    hoop_ring_take,
)
from cython.cimports.libc.stdlib import getenv
from cython.cimports.libc.string import memcmp, memset

BITS = ("receive", "incremental", "send", "no_iowait")
ETIME = cython.declare(cython.int, 62)
ECANCELED = cython.declare(cython.int, 125)
SYSCTL = "/proc/sys/kernel/io_uring_disabled"

# `user_data` of the test's requests. The kernel returns it with each completion.
WAKE = cython.declare(cython.ulonglong, 1)
RECEIVE = cython.declare(cython.ulonglong, 2)
SEND = cython.declare(cython.ulonglong, 3)
CANCEL = cython.declare(cython.ulonglong, 4)

_found = cython.declare(object, None)  # a tuple (reason or None,) once refusal() was called


class Refused(Exception):
    """A feature of io_uring does not work as the driver needs it."""


@cython.cfunc
def refusal() -> object:
    """Return why io_uring cannot be used here, in words; None if it can be used."""
    global _found
    if _found is None:
        try:
            _try_everything()
        except (Refused, OSError) as exc:
            memset(cython.address(of_this_kernel), 0, cython.sizeof(Capabilities))
            _found = (str(exc),)
        else:
            _found = (None,)
    return _found[0]


def why_not() -> str | None:
    """Return why io_uring cannot be used here, in words; None if it can. Only the first call asks the
    kernel.
    """
    return refusal()


def setting(name: str) -> str | None:
    """The value of an environment variable, or None if it is empty or not set.

    The C library is asked first, because a look in vain into os.environ takes a microsecond.
    """
    if getenv(PyUnicode_AsUTF8(name)) is cython.NULL:
        return None
    return os.environ.get(name) or None


def io_uring_disabled() -> str | None:
    """Return the value of the sysctl kernel.io_uring_disabled; None if this kernel has none."""
    try:
        with open(SYSCTL) as file:
            return file.read().strip()
    except OSError:
        return None


def list_capabilities() -> dict[str, bool]:
    """Return the optional features by name, and whether the kernel has each."""
    refusal()
    return {
        "receive": of_this_kernel.receive,
        "incremental": of_this_kernel.incremental,
        "send": of_this_kernel.send,
        "no_iowait": of_this_kernel.no_iowait,
    }


@cython.cfunc
@cython.exceptval(-1, check=False)
def _try_everything() -> cython.int:
    ring: hoop_ring
    result: cython.int = hoop_ring_open(cython.address(ring), 8, 64)
    if result < 0:
        raise Refused(f"io_uring_setup: {os.strerror(-result)}{_hint(-result)}")
    try:
        _check_features(cython.address(ring))
        _try_wake_and_cancel(cython.address(ring))
        # The driver uses the following features if they are there, and works without them.
        of_this_kernel.receive = of_this_kernel.incremental = _try_receive(
            cython.address(ring), True
        )
        if not of_this_kernel.receive:
            of_this_kernel.receive = _try_receive(cython.address(ring), False)
        of_this_kernel.send = _try_send(cython.address(ring))
    finally:
        hoop_ring_close(cython.address(ring))
    return 0


def _hint(error: int) -> str:
    """Guess why the kernel refused a ring, for the message to the user."""
    disabled = io_uring_disabled()
    if disabled is None or disabled == "0":
        return ""
    return f" (kernel.io_uring_disabled is {disabled})"


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_features(ring: cython.pointer[hoop_ring]) -> cython.int:
    needed: cython.uint = FEATURE_NODROP | FEATURE_SUBMIT_STABLE | FEATURE_EXT_ARG
    i: cython.int
    result: cython.int
    if ring.features & needed != needed:
        raise Refused(f"the kernel is too old (features {ring.features:#x})")
    of_this_kernel.no_iowait = ring.features & FEATURE_NO_IOWAIT != 0
    result = hoop_ring_probe(ring, of_this_kernel.calls)
    if result < 0:
        raise Refused(f"io_uring_register: {os.strerror(-result)}")
    for i in (OP_POLL_ADD, OP_ASYNC_CANCEL, OP_RECV, OP_SEND):
        if not of_this_kernel.calls[i]:
            raise Refused(f"the kernel has no operation {i}")
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _expect(ring: cython.pointer[hoop_ring], out: cython.pointer[hoop_cqe]) -> cython.bint:
    """Enter the kernel, and take one completion. False if there is none."""
    result: cython.int = hoop_ring_enter(ring, 0, 0)
    if result < 0:
        raise Refused(f"io_uring_enter: {os.strerror(-result)}")
    return hoop_ring_take(ring, out)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _try_wake_and_cancel(ring: cython.pointer[hoop_ring]) -> cython.int:
    """Test what waking and cancelling need.

    A multishot poll must report every write, a wait must end after its time, and a cancelled request must
    end.
    """
    cqe: hoop_cqe
    out = cython.address(cqe)
    fd: cython.int = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        hoop_ask_poll(hoop_ring_next(ring), fd, False, True, WAKE)
        if _expect(ring, out):
            raise Refused(f"POLL_ADD ended at once: {cqe.res}")
        for _ in range(2):
            hoop_eventfd_write(fd)
            if not _expect(ring, out) or cqe.res <= 0 or not cqe.flags & CQE_MORE:
                raise Refused("a multishot POLL_ADD does not go on")
        result: cython.int = hoop_ring_enter(ring, 1, 1000)
        if result != -ETIME:
            raise Refused(f"io_uring_enter does not end in time: {result}")
        hoop_ask_cancel(hoop_ring_next(ring), WAKE, CANCEL)
        if not _expect(ring, out) or cqe.user_data != WAKE or cqe.res != -ECANCELED:
            raise Refused("ASYNC_CANCEL does not cancel")
    finally:
        os.close(fd)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _try_receive(ring: cython.pointer[hoop_ring], incremental: cython.bint) -> cython.bint:
    """Test whether one multishot RECV hands over two pieces of data and then the end of the stream."""
    pool: hoop_pool
    cqe: hoop_cqe
    out = cython.address(cqe)
    ended: cython.bint = False
    if hoop_pool_open(cython.address(pool), ring, incremental) < 0:
        return False
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        hoop_ask_receive(hoop_ring_next(ring), ours.fileno(), POOL_GROUP, RECEIVE)
        if _expect(ring, out):
            return False
        for text in (b"first", b"second"):
            theirs.send(text)
            if not _expect(ring, out) or not cqe.flags & CQE_BUFFER or not cqe.flags & CQE_MORE:
                return False
            data = hoop_pool_data(cython.address(pool), out)
            if cqe.res != len(text) or memcmp(data, cython.cast(cython.p_char, text), cqe.res):
                return False
            hoop_pool_done(cython.address(pool), out)
        theirs.close()
        if not _expect(ring, out) or cqe.res != 0 or cqe.flags & CQE_MORE:
            return False
        ended = True
        return True
    finally:
        if not ended:
            _stop(ring, RECEIVE)
        hoop_pool_take_back(cython.address(pool), ring)
        ours.close()
        theirs.close()


@cython.cfunc
@cython.exceptval(-1, check=False)
def _try_send(ring: cython.pointer[hoop_ring]) -> cython.bint:
    """Test SEND: it must send at once if it can, and wait if the socket's buffer is full."""
    cqe: hoop_cqe
    out = cython.address(cqe)
    text = b"x" * 2048
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel's minimum
        try:
            for _ in range(64):
                hoop_ask_call(
                    hoop_ring_next(ring), OP_SEND, ours.fileno(), MSG_NOSIGNAL,
                    cython.cast(cython.p_char, text), len(text), 0, SEND,
                )  # fmt: skip
                if not _expect(ring, out):
                    return True
                if cqe.res <= 0:
                    return False
            return False
        finally:
            _stop(ring, SEND)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _stop(ring: cython.pointer[hoop_ring], name: cython.ulonglong) -> cython.int:
    """Cancel a request if it is still there, and take all completions."""
    cqe: hoop_cqe
    hoop_ask_cancel(hoop_ring_next(ring), name, CANCEL)
    _expect(ring, cython.address(cqe))
    while hoop_ring_take(ring, cython.address(cqe)):
        pass
    return 0
