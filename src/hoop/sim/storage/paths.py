"""The paths of Unix sockets in a world. They are no files, but some functions of `os` find them."""

from __future__ import annotations

import functools
import os
import stat
import time
from collections.abc import Callable
from typing import Any

from hoop.sim.calls import straight
from hoop.sim.net.network import Network


class Paths:
    """The functions of `os` for paths, which also find those of sockets."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def stat(self, path: str, **_: Any) -> os.stat_result:
        mode, number = self.network.paths[path]
        now = int(time.time())
        kind = stat.S_IFSOCK | mode
        return os.stat_result((kind, number, 0, 1, os.getuid(), os.getgid(), 0, now, now, now))

    def chmod(self, path: str, mode: int, **_: Any) -> None:
        self.network.paths[path] = (stat.S_IMODE(mode), self.network.paths[path][1])

    def chown(self, path: str, *_: Any, **__: Any) -> None:
        """Change nothing: all is permitted."""

    def unlink(self, path: str, **_: Any) -> None:
        self.network.unlink(path)

    lstat = stat
    remove = unlink


def _on_paths(network: Network, ours: Callable[..., Any], others: Callable[..., Any]) -> Any:
    """A function that is ours for paths of sockets of the world."""

    def call(path: Any, *args: Any, **kwargs: Any) -> Any:
        if network.paths and isinstance(path, (str, bytes, os.PathLike)):
            text = os.fsdecode(path)
            if text in network.paths and text[0] != "\0":
                return ours(text, *args, **kwargs)
        return others(path, *args, **kwargs)

    return call


def with_paths(network: Network, table: dict[Any, Callable[..., Any]]) -> dict[Any, Any]:
    """Functions in the place of builtin ones, and those that find the paths of sockets before them."""
    paths = Paths(network)
    found = dict(table)
    for name in ("stat", "lstat", "chmod", "chown", "unlink", "remove"):
        builtin = getattr(os, name)
        others = table.get(builtin, functools.partial(straight, builtin))
        found[builtin] = _on_paths(network, getattr(paths, name), others)
    return found
