"""open(), os.open() and os.close() in a world: a process that ends gives back what it has opened."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import Any

from hoop.files import opening
from hoop.sim.calls import real, straight
from hoop.sim.net.network import Network
from hoop.sim.swaps import is_inside


class Openings:
    """The functions that make and close descriptors of files. Here the files are real."""

    _opener: Any = None

    def __init__(self, network: Network) -> None:
        self.network = network

    def table(self) -> dict[Any, Callable[..., Any]]:
        """The methods, each by the builtin function in whose place it is called."""
        return {os.open: self.open, os.close: self.close, io.open: self.open_file}

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        fd: int = real(os.open, path, flags, mode, dir_fd=dir_fd)
        return fd

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """In the place of os.open()."""
        fd = self._open(path, flags, mode, dir_fd=dir_fd)
        if self.network.here.holdings is not None:
            self.network.here.holdings.add_descriptor(fd)
        return fd

    def close(self, fd: int) -> None:
        """In the place of os.close()."""
        holdings = self.network.here.holdings
        if holdings is None or not isinstance(fd, int):
            real(os.close, fd)
        else:
            holdings.close_descriptor(fd)

    def open_file(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """In the place of the builtin open()."""
        if not isinstance(file, int) and opener is None:
            opener = self._opener
        args = file, mode, buffering, encoding, errors, newline, closefd, opener
        opened = straight(io.open, *args)
        if self.network.here.holdings is not None:
            self.network.here.holdings.add_file(_raw(opened))
        return opened


def _raw(file: Any) -> Any:
    """The file below the buffers of one that open() has returned."""
    if isinstance(file, io.TextIOWrapper):
        file = file.buffer
    return file if isinstance(file, io.FileIO) else file.raw


def changes(network: Network) -> Iterator[tuple[Any, str, Any]]:
    """All that is changed for hoop's own files: an object, the name of its attribute, and the new value."""
    real_buffer: Any = opening.FileBuffer

    def new_buffer(*args: Any) -> Any:
        buffer = real_buffer(*args)
        if is_inside() and network.here.holdings is not None:
            network.here.holdings.add_buffer(buffer)
        return buffer

    yield opening, "FileBuffer", new_buffer
