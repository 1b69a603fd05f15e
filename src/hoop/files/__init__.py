"""Files that never block the loop. The names are those of aiofiles: `from hoop import files as aiofiles`."""

from hoop.files import os, ospath, tempfile
from hoop.files.file import AsyncFile, BinaryFile, TextFile
from hoop.files.opening import open
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
