"""C code that hoop calls: headers, and the .pxd files that declare them to Cython.

Nothing here is public. load_core() checks that hoop's core can run in this Python, and lets Python find it.

All compiled modules lie in one shared object, that of `hoop._c.core`. Python's own finder would look for a
shared object for each module. There are nearly sixty, and to load as many took longer than to run them.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from types import ModuleType

PACKAGE = os.path.dirname(os.path.dirname(__file__))
CORE = os.path.join(PACKAGE, "_c", "core")


class CompiledLoader(ExtensionFileLoader):
    """Makes a module that lies in the shared object of another one."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Call the shared object's function for this module. setup.py named it after the whole module."""
        name = spec.name.replace(".", "__")
        module = super().create_module(ModuleSpec(name, self, origin=self.path))
        module.__name__ = spec.name
        module.__package__ = spec.parent
        return module


class CompiledFinder:
    """Finds the modules with a .pxd beside them, which are those that setup.py compiles."""

    def __init__(self, shared_object: str) -> None:
        self._shared_object = shared_object

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a compiled module of hoop's. None leaves the module to Python's finders."""
        if not name.startswith("hoop.") or name == "hoop._c.core":
            return None
        if not os.path.exists(f"{PACKAGE}{name[4:].replace('.', os.sep)}.pxd"):
            return None
        loader = CompiledLoader(name, self._shared_object)
        spec = ModuleSpec(name, loader, origin=self._shared_object)
        spec.has_location = True
        return spec


def load_core() -> None:
    """Let Python find the compiled modules.

    Raises ImportError, with a hint, if hoop is not compiled for this Python or its GIL is off.
    """
    if hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled():
        raise ImportError(
            "hoop needs the GIL, and it is off in this Python. Set PYTHON_GIL=1, or use a Python that "
            "is not free-threaded."
        )
    if not any(os.path.exists(CORE + suffix) for suffix in EXTENSION_SUFFIXES):
        raise ImportError(
            "hoop's core is not compiled for this Python. Build it with `pip install .` in the "
            "source tree (or `make build`), with gcc and Python's headers installed."
        )
    core = import_module("hoop._c.core")
    assert core.__file__ is not None
    sys.meta_path.insert(0, CompiledFinder(core.__file__))
