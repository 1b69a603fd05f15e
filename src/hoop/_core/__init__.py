"""The compiled heart of hoop. Each module is Python compiled to C; none works uncompiled."""

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

_folder = Path(__file__).parent
if not any((_folder / f"loop{suffix}").exists() for suffix in EXTENSION_SUFFIXES):
    raise ImportError(
        "hoop's core is not compiled for this Python. Build it with "
        "`pip install .` in the source tree (or `make build`), with gcc and Python's headers installed."
    )

from hoop._core import layout  # noqa: E402  # first of all: it raises an ImportError that says why

__all__ = ["layout"]
