"""Decides which system calls of the program fail, as on a machine that runs out of something."""

from __future__ import annotations

import _socket
import errno
import os
from typing import TYPE_CHECKING, Any

from hoop.sim.net.datagrams import Box
from hoop.sim.net.weather import Faults, rarely
from hoop.sim.net.wires import End

if TYPE_CHECKING:
    from hoop.sim.driver import Choices

# Of each fault the errnos, and its name in a report.
ERRNOS = {
    "emfile": (errno.EMFILE, errno.ENFILE),
    "enobufs": (errno.ENOBUFS, errno.ENOMEM),
    "econnaborted": (errno.ECONNABORTED,),
}
KINDS = {
    "emfile": "EMFILE or ENFILE",
    "enobufs": "ENOBUFS or ENOMEM",
    "econnaborted": "ECONNABORTED",
}


def fail_calls(faults: Faults) -> bool:
    """Whether any call is to fail."""
    return any(getattr(faults, fault) for fault in ERRNOS)


class Failures:
    """The calls that fail in one world. Each host draws for itself."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self.faults = network.faults
        self._streams: dict[tuple[str, str], Choices] = {}

    def of_send(self, fd: int) -> int:
        """The errno with which a send on a descriptor fails; 0 if it does not."""
        if not self._comes("enobufs", "sends"):
            return 0
        found = self.network.known(fd)
        if not isinstance(found, End | Box):  # a pair of sockets, which is real
            return 0
        return self._drawn("enobufs", "sends", f"a send at {self.network.shown(found.local)}")

    def of_accept(self, fd: int) -> int:
        """The errno with which accept() fails; 0 if it does not. ECONNABORTED takes a connection away."""
        listening = self.network.known(fd)
        if listening is None:
            return 0
        where = f"accept() at {self.network.shown(listening.local)}"
        if self._comes("emfile", "accepts"):
            return self._drawn("emfile", "accepts", where)
        if self._comes("econnaborted", "accepts") and self._abort_one(fd):
            return self._drawn("econnaborted", "accepts", where)
        return 0

    def of_descriptor(self, call: str) -> int:
        """The errno with which a call fails that makes a descriptor; 0 if it does not."""
        if not self._comes("emfile", "descriptors"):
            return 0
        return self._drawn("emfile", "descriptors", call)

    def _abort_one(self, fd: int) -> bool:
        """Reset the connection that is the next to be accepted, if there is one."""
        listening: Any = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
        try:
            accepted, _ = listening._accept()
        except OSError:
            return False
        finally:
            listening.detach()
        end = self.network.known(accepted)
        if isinstance(end, End):
            end.reset_later(end.other)
            end.close()
        os.close(accepted)
        return True

    def _choices(self, what: str) -> Choices:
        key = what, self.network.here.name
        found = self._streams.get(key)
        if found is None:
            site = " ".join(filter(None, key))
            found = self._streams[key] = self.network.script.stream(site)
        return found

    def _comes(self, fault: str, what: str) -> bool:
        return rarely(self._choices(what), getattr(self.faults, fault))

    def _drawn(self, fault: str, what: str, call: str) -> int:
        self.network.happened(KINDS[fault], f"{call} fails with {KINDS[fault]}")
        error = ERRNOS[fault][self._choices(what).choose(len(ERRNOS[fault]))]
        self.network.note(f"failed {call} {errno.errorcode[error]}")
        return error


def os_error(number: int, *about: Any) -> OSError:
    """The exception for an errno."""
    return OSError(number, os.strerror(number), *about)


__all__ = ["Failures", "fail_calls", "os_error"]
