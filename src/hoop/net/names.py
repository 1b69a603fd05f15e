"""Name resolution on threads of its own, so that no lookup waits behind what the program runs in executors.

Literal addresses need no thread: the C library answers them without asking anybody. Everything is
`socket.getaddrinfo` and `socket.getnameinfo` in the end, so the answers are theirs.
"""

from __future__ import annotations

import concurrent.futures
import socket
from collections.abc import Callable
from typing import Any

# Lookups wait for the network and not for the processor; more at a time rarely helps a resolver.
THREADS_MAX = 8


class Resolver:
    """The threads of one loop that resolve names. They are started by the first lookup that needs one."""

    def __init__(self) -> None:
        self._threads: concurrent.futures.ThreadPoolExecutor | None = None
        self._unfinished: set[concurrent.futures.Future[Any]] = set()

    def submit(self, call: Callable[..., Any], *args: Any) -> concurrent.futures.Future[Any]:
        """Run a lookup on one of the threads."""
        if self._threads is None:
            self._threads = concurrent.futures.ThreadPoolExecutor(THREADS_MAX, "hoop-dns")
        lookup = self._threads.submit(call, *args)
        self._unfinished.add(lookup)
        lookup.add_done_callback(self._unfinished.discard)
        return lookup

    def close(self) -> None:
        """Take no more lookups. Those that wait are dropped; one under way ends in its own time."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            if not self._unfinished:
                self._threads.shutdown(wait=True)
            self._threads = None


def resolve_literal(
    host: Any, port: Any, family: int, kind: int, proto: int, flags: int
) -> list[tuple[Any, ...]] | None:
    """socket.getaddrinfo() of a literal address and a numeric port; None if it is not one."""
    if not (port is None or isinstance(port, int)) or not (host is None or _is_literal(host)):
        return None
    try:
        return socket.getaddrinfo(host, port, family, kind, proto, flags | socket.AI_NUMERICHOST)
    except socket.gaierror:
        return None  # an error that the real call is to raise


def _is_literal(host: Any) -> bool:
    """Whether it is an address. Audit hooks would be told twice of a name that was taken for one."""
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
