"""Installs hoop in a Python process that was started by a program under `hoop run --children`.

Python imports the first `sitecustomize` on its path when it starts. With HOOP_INSTALL in the environment this
one installs hoop once the process imports asyncio, so that no other process pays for it. Then it imports the
`sitecustomize` that would have been the first without it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))


class AfterAsyncio(importlib.abc.MetaPathFinder):
    """Finds asyncio as Python does, and installs hoop when asyncio has been executed."""

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return asyncio's spec with a loader that calls install(); None for any other module."""
        if name != "asyncio":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = InstallsHoop(spec.loader)
        return spec


class InstallsHoop(importlib.abc.Loader):
    """The loader of asyncio, with hoop.install() after it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Let asyncio's own loader make the module."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Execute asyncio, then install hoop. Without hoop for this Python, say so and leave it at that."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        try:
            import hoop
        except ImportError as exc:
            print(f"HOOP_INSTALL: hoop cannot be imported here: {exc}", file=sys.stderr)
        else:
            hoop.install(names=os.environ["HOOP_INSTALL"] != "loop")


def next_sitecustomize() -> None:
    """Import the `sitecustomize` that this one stands before, if there is one."""
    path = [place for place in sys.path if os.path.abspath(place) != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if __name__ == "sitecustomize":
    if os.environ.get("HOOP_INSTALL") and "asyncio" not in sys.modules:
        sys.meta_path.insert(0, AfterAsyncio())
    next_sitecustomize()
