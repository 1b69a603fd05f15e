"""Helpers of the tests that check when written data leaves."""

import socket
import time

SLOW_S = 0.002  # a wait that is taken for too long: twice what outbox.py puts up with


def there(peer):
    """The bytes that the peer has received so far."""
    try:
        return peer.recv(65536, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""


def hold_up(seconds=SLOW_S):
    """Compute, without letting the loop go on."""
    until_then = time.thread_time() + seconds
    while time.thread_time() < until_then:
        pass


# The calls that would show that data waits.
SHOWS = {
    "get_write_buffer_size": lambda t: t.get_write_buffer_size() == 0,
    "get_extra_info": lambda t: t.get_extra_info("socket"),
    "write_eof": lambda t: t.write_eof() is None,
    "close": lambda t: t.close() is None,
    "abort": lambda t: t.abort() is None,
    "sendfile": lambda t: t._make_empty_waiter().done(),
    "limits": lambda t: t.set_write_buffer_limits(high=0) is None,
}
