"""Files that never block the loop. The names are those of aiofiles: `from hoop import files as aiofiles`."""

import importlib
from typing import TYPE_CHECKING, Any

from hoop._c.shown import show_as_public
from hoop.files import os, ospath
from hoop.files.descriptors import (
    copy_file_range,
    fallocate,
    fdatasync,
    fstat,
    fsync,
    ftruncate,
    pread,
    preadv,
    pwrite,
    pwritev,
)
from hoop.files.file import AsyncFile, BinaryFile, TextFile
from hoop.files.opening import open
from hoop.files.whole import read_bytes, read_text, write_bytes, write_text

if TYPE_CHECKING:
    from hoop.files import tempfile
    from hoop.files.standard import stderr, stderr_bytes, stdin, stdin_bytes, stdout, stdout_bytes

__all__ = [
    "AsyncFile",
    "BinaryFile",
    "TextFile",
    "open",
    "os",
    "ospath",
    "stderr",
    "stderr_bytes",
    "stdin",
    "stdin_bytes",
    "stdout",
    "stdout_bytes",
    "tempfile",
]

_STANDARD = ("stderr", "stderr_bytes", "stdin", "stdin_bytes", "stdout", "stdout_bytes")

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import what few programs use when yours first asks for it."""
        if name == "tempfile":
            return importlib.import_module("hoop.files.tempfile")
        if name in _STANDARD:
            return getattr(importlib.import_module("hoop.files.standard"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


for _public in (  # what `hoop` itself has of this room
    *(BinaryFile, TextFile, open, read_bytes, read_text, write_bytes, write_text),
    *(copy_file_range, fallocate, fdatasync, fstat, fsync, ftruncate),
    *(pread, preadv, pwrite, pwritev),
):
    show_as_public(_public)
