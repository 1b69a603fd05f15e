"""The core's assumptions about the layouts of CPython and Cython are checked when it is imported."""

from __future__ import annotations

import pytest

from hoop._c import core as layout


def test_all_is_where_the_core_looks_for_it():
    layout.check()


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        ("sys.hexversion ^= 1 << 16", "Python is another version"),
        (
            "import weakref; weakref.ref = lambda o: memoryview(b'no reference')",
            "a weak reference has another layout",
        ),
    ],
)
def test_another_layout_is_an_import_error_that_says_what_to_do(python, prepare, says):
    told = python(
        f"""
        import sys
        import asyncio, importlib.machinery
        {prepare}
        try:
            import hoop
        except ImportError as exc:
            print(exc)
        """
    )
    assert f": {says}. Please compile hoop again" in told
    assert told.startswith("hoop was compiled for Python 3.")


class OnTheHeap:
    """A class of Python's."""


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (OnTheHeap, "OnTheHeap is a heap type"),
        (int, "int has objects of several sizes"),
        (float, "float is not seen by the garbage collector"),
        (map, "map keeps its weak references elsewhere"),
    ],
)
def test_a_type_that_cannot_be_spared_is_refused(kind, says):
    with pytest.raises(ImportError, match=f": {says}. Please compile hoop again"):
        layout.check_spared(kind)
