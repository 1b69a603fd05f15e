"""Looks up names in threads of its own, so that no lookup waits for jobs in the loop's executor.

Literal addresses need no thread, because the C library converts them at once. All answers come from
`socket.getaddrinfo` and `socket.getnameinfo`.
"""

from __future__ import annotations

import concurrent.futures
import socket
import time
from collections.abc import Callable
from typing import Any

# Lookups wait for the network and use hardly any processor time. More at a time rarely helps a resolver.
THREADS_MAX = 8


class Resolver:
    """The threads of one loop that look up names. The first lookup that needs one starts them."""

    def __init__(self) -> None:
        self._threads: concurrent.futures.ThreadPoolExecutor | None = None
        # For each lookup, what is looked up, and since when in nanoseconds of time.monotonic_ns().
        self._unfinished: dict[concurrent.futures.Future[Any], tuple[Any, int]] = {}

    def submit(self, call: Callable[..., Any], *args: Any) -> concurrent.futures.Future[Any]:
        """Run a lookup in one of the threads."""
        if self._threads is None:
            self._threads = concurrent.futures.ThreadPoolExecutor(THREADS_MAX, "hoop-dns")
        lookup = self._threads.submit(call, *args)
        self._unfinished[lookup] = (args[0] if args else None, time.monotonic_ns())
        lookup.add_done_callback(self._unfinished.pop)
        return lookup

    def close(self) -> None:
        """Accept no more lookups. Those that have not begun are dropped. The others end by themselves."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            if not self._unfinished:
                self._threads.shutdown(wait=True)
            self._threads = None


def resolve_literal(
    host: Any, port: Any, family: int, kind: int, proto: int, flags: int
) -> list[tuple[Any, ...]] | None:
    """Call socket.getaddrinfo() for a literal address and a numeric port. None if they are not that."""
    if not (port is None or isinstance(port, int)) or not (host is None or _is_literal(host)):
        return None
    try:
        return socket.getaddrinfo(host, port, family, kind, proto, flags | socket.AI_NUMERICHOST)
    except socket.gaierror:
        return None  # let the real call raise the error


def _is_literal(host: Any) -> bool:
    """Whether a host is an address and no name. A lookup of a name here would reach audit hooks twice."""
    if isinstance(host, bytes):
        host = host.decode("latin1")
    if not isinstance(host, str) or not (host[:1].isdigit() or ":" in host):
        return False
    address = host.partition("%")[0]  # without its scope
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError):
        return False
    return True
