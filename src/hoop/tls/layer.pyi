import asyncio
from ssl import MemoryBIO, SSLContext, SSLObject
from typing import Any, final

from _typeshed import ReadableBuffer

from hoop.scheduling.base import LoopBase
from hoop.tls.inbox import TlsInbox

# Passes for asyncio.Protocol at run time, by its `__class__`, without deriving from it.
@final
class TlsLayer(TlsInbox, asyncio.Protocol):
    def __init__(
        self,
        loop: LoopBase,
        transport: asyncio.Transport,
        protocol: asyncio.BaseProtocol,
        sslcontext: SSLContext,
        sslobj: SSLObject,
        incoming: MemoryBIO,
        outgoing: MemoryBIO,
        waiter: asyncio.Future[None] | None,
        connected: bool,
        handshake_timeout: float,
        shutdown_timeout: float,
    ) -> None: ...
    def _statistics(self) -> dict[str, Any]: ...
    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def data_received(self, data: ReadableBuffer) -> None: ...
    def eof_received(self) -> bool: ...
    def connection_lost(self, exc: BaseException | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
