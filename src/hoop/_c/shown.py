"""Makes a public class say that it is `hoop.Queue`, and not in which module of hoop it lies.

Pickles, reprs and error messages name a class by its `__module__`. With `hoop` there, a module may move in a
later version and old pickles still load.
"""

from __future__ import annotations

from cython.cimports.hoop._c.python import hoop_is_static, hoop_name_type


def show_as_public(public) -> None:
    """Let a class or function of hoop have `hoop` as its `__module__`."""
    if isinstance(public, type) and hoop_is_static(public):
        name: bytes = f"hoop.{public.__name__}".encode()
        hoop_name_type(public, name)
    else:
        public.__module__ = "hoop"
