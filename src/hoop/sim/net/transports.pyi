from typing import Any

from hoop.net.datagram import DatagramTransport
from hoop.net.listener import AcceptOp
from hoop.net.stream import StreamTransport

class Wire:
    ino: int
    @property
    def open(self) -> bool: ...
    shut: bool
    finished: bool

class SimStream(StreamTransport): ...
class FailingDatagrams(DatagramTransport): ...
class FailingAccept(AcceptOp): ...

def begin(these: Any) -> None: ...
