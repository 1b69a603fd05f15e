import asyncio
import contextvars
import socket
from collections.abc import Iterable
from typing import Any, final

from _typeshed import ReadableBuffer

from hoop.drivers.op import CallOp
from hoop.net.receiver import Receiver
from hoop.scheduling.base import LoopBase

@final
class SendOp(CallOp): ...

# Passes for asyncio.Transport at run time, by its `__class__`, without deriving from it.
class StreamTransport(Receiver, asyncio.Transport):
    def write(self, data: ReadableBuffer) -> None: ...
    def writelines(self, list_of_data: Iterable[ReadableBuffer]) -> None: ...
    def write_eof(self) -> None: ...
    def can_write_eof(self) -> bool: ...
    def is_closing(self) -> bool: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    # For hoop.loop only.
    def _is_accepted(self) -> bool: ...

def open_stream(
    loop: LoopBase,
    sock: socket.socket,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None] | None = None,
    extra: dict[str, Any] | None = None,
    server: Any = None,
    lent: bool = False,
    context: contextvars.Context | None = None,
) -> StreamTransport: ...
