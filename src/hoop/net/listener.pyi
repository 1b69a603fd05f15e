import asyncio
import contextvars
import socket
from collections.abc import Callable
from typing import Any, final

from hoop.drivers.op import Op
from hoop.scheduling.base import LoopBase
from hoop.scheduling.coroutine import Method

class AcceptOp(Op):
    @property
    def server(self) -> Any: ...
    @property
    def accepted(self) -> int: ...
    @property
    def refused(self) -> int: ...
    def _statistics(self) -> dict[str, Any]: ...
    def __init__(
        self,
        loop: LoopBase,
        sock: socket.socket,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        server: Any = None,
        backlog: int = 100,
        on_socket: Callable[[socket.socket, dict[str, Any]], object] | None = None,
        context: contextvars.Context | None = None,
    ) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...

@final
class Accepting(Method): ...
