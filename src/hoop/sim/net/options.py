"""The options of sockets that are connected in a world: getsockopt() and setsockopt().

The kernel has a Unix socket in the place of each, and that has no options of TCP or IP. So a new socket of
the right kind gets the value that the program has set, and is asked.
"""

from __future__ import annotations

import _socket
import contextlib
from typing import Any

INTERNET = (_socket.AF_INET, _socket.AF_INET6)
NODELAY = _socket.IPPROTO_TCP, _socket.TCP_NODELAY
INFO = _socket.IPPROTO_TCP, _socket.TCP_INFO
# Those which only the socket itself knows.
_OF_SOCKET = {
    (_socket.SOL_SOCKET, option)
    for option in (
        _socket.SO_ACCEPTCONN,
        _socket.SO_ERROR,
        _socket.SO_RCVBUF,
        _socket.SO_SNDBUF,
    )
}
# Of a connection, as TCP_INFO begins with it.
ESTABLISHED, CLOSED, LISTENING = 1, 7, 10
_real: Any = _socket.socket

Options = dict[tuple[int, int], tuple[Any, ...]]


def put(sock: Any, options: Options, level: int, option: int, *value: Any) -> None:
    """Set an option. Raises what the kernel raises for such a socket."""
    with contextlib.closing(_socket.socket(sock.family, sock.type)) as probe:
        _real.setsockopt(probe, level, option, *value)
    options[level, option] = value
    if level == _socket.SOL_SOCKET:
        try:
            _real.setsockopt(sock, level, option, *value)
        except OSError:  # a Unix socket has no such option
            pass


def take(sock: Any, options: Options, state: int, level: int, option: int, *size: int) -> Any:
    """Ask for the value of an option. `state` is that of a TCP connection."""
    key = level, option
    if key not in options and (key in _OF_SOCKET or sock.family == _socket.AF_UNIX):
        return _real.getsockopt(sock, level, option, *size)
    with contextlib.closing(_socket.socket(sock.family, sock.type)) as probe:
        if key in options:
            _real.setsockopt(probe, level, option, *options[key])
        value = _real.getsockopt(probe, level, option, *size)
    if key == INFO and value:
        return bytes([state]) + value[1:] if size else state
    return value
