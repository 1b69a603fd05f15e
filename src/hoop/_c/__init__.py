"""C code that hoop calls: headers, and the .pxd files that declare them to Cython.

Nothing here is public. check_compiled() tells whether hoop's core can run in this Python.
"""

import os
import sys
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES


def check_compiled() -> None:
    """Raise ImportError, with a hint, if hoop is not compiled for this Python or its GIL is off."""
    if hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled():
        raise ImportError(
            "hoop needs the GIL, and it is off in this Python. Set PYTHON_GIL=1, or use a Python that "
            "is not free-threaded."
        )
    turn = os.path.join(os.path.dirname(os.path.dirname(__file__)), "loop", "turn")
    if not any(os.path.exists(turn + suffix) for suffix in EXTENSION_SUFFIXES):
        raise ImportError(
            "hoop's core is not compiled for this Python. Build it with `pip install .` in the "
            "source tree (or `make build`), with gcc and Python's headers installed."
        )
    import_module("hoop._c.selfcheck")
