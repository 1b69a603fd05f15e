"""The places that make tasks, and how many each has made.

A task notes the number of its site. The site is the code object that made it, and where in that code it was.
A name and a line are worked out when somebody asks. The nearest code outside asyncio and hoop counts.
"""

from __future__ import annotations

import asyncio
import os

import cython
from cython.cimports.cpython.mem import PyMem_Calloc
from cython.cimports.hoop._c.frames import (
    hoop_caller,
    hoop_code_line,
    hoop_know,
    hoop_known_site,
)
from cython.cimports.hoop._c.python import Ref, own

_hoop = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Code in the last one is a program like yours.
_folders = cython.declare(
    tuple,
    (
        os.path.dirname(asyncio.__file__) + os.sep,
        _hoop + os.sep,
        os.path.join(_hoop, "demo") + os.sep,
    ),
)
_count = cython.declare(cython.uint, 0)
_slots = cython.declare(cython.pointer[cython.uint], cython.NULL)  # numbers of sites, by hash


@cython.cfunc
@cython.exceptval(-1, check=False)
def make_tables() -> cython.int:
    """The kernel gives memory for them only as it is used."""
    global sites, _slots
    sites = cython.cast(cython.pointer[Site], PyMem_Calloc(SITES_MAX + 1, cython.sizeof(Site)))
    _slots = cython.cast(
        cython.pointer[cython.uint], PyMem_Calloc(SLOTS, cython.sizeof(cython.uint))
    )
    if sites is cython.NULL or _slots is cython.NULL:
        raise MemoryError
    return 0


make_tables()


def record(on: cython.bint) -> None:
    """Let tasks that are made from now on note where, or no longer."""
    global recording
    recording = on


@cython.cfunc
@cython.exceptval(check=False)
def note_site() -> cython.uint:
    """Count a task that the running code makes, and return the number of its site."""
    number: cython.uint = hoop_known_site()
    if cython.unlikely(number == 0):
        number = find_site()
    sites[number].made += 1
    return number


@cython.cfunc
@cython.exceptval(check=False)
def find_site() -> cython.uint:
    """Return the number of the site of the running code, 0 if there is none."""
    global _count
    offset: cython.int = 0
    is_users: cython.int = 0
    number: cython.uint
    i: cython.size_t
    code: Ref = hoop_caller(_folders, cython.address(offset), cython.address(is_users))
    if code is cython.NULL:
        return 0
    i = (cython.cast(cython.size_t, code) >> 5) + cython.cast(cython.size_t, offset) * 40503
    while True:
        i &= SLOTS - 1
        number = _slots[i]
        if number == 0 or (sites[number].code == code and sites[number].offset == offset):
            break
        i += 1
    if number == 0:
        if _count == SITES_MAX:
            return 0
        _count += 1
        number = _count
        _slots[i] = number
        sites[number].code = own(cython.cast(object, code))
        sites[number].offset = offset
    if is_users:
        hoop_know(code, offset, number)
    return number


@cython.cfunc
def running_code() -> object:
    """The nearest code outside asyncio and hoop that this thread runs, and the place in it; None if none."""
    offset: cython.int = 0
    is_users: cython.int = 0
    code: Ref = hoop_caller(_folders, cython.address(offset), cython.address(is_users))
    return None if code is cython.NULL else (cython.cast(object, code), offset)


@cython.cfunc
def place_of(number: cython.uint) -> object:
    """The file and the line of a site; None for the unknown one."""
    if number == 0:
        return None
    site: cython.pointer[Site] = cython.address(sites[number])
    code = cython.cast(object, site.code)
    line: cython.int = hoop_code_line(site.code, site.offset)
    return code.co_filename, line if line > 0 else code.co_firstlineno


def counts() -> list:
    """Return the number of each site, its code object, file, line, and how many tasks it made and ended."""
    found = []
    number: cython.uint
    for number in range(1, _count + 1):
        file, line = place_of(number)
        found.append(
            (
                number,
                cython.cast(object, sites[number].code),
                file,
                line,
                sites[number].made,
                sites[number].ended,
            )
        )
    return found
