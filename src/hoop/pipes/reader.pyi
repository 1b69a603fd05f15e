import asyncio
from typing import Any, final

from hoop.pipes.end import PipeEnd
from hoop.watching.watch import WatchLoop

# Passes for asyncio's class at run time, by its `__class__`, without deriving from it.
@final
class ReadPipe(PipeEnd, asyncio.ReadTransport):
    max_size: int
    def is_closing(self) -> bool: ...
    def close(self) -> None: ...
    def is_reading(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

def open_read_pipe(
    loop: WatchLoop,
    pipe: Any,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None] | None = None,
    extra: dict[str, Any] | None = None,
) -> ReadPipe: ...
