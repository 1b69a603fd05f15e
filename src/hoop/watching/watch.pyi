import contextvars
from collections.abc import Callable
from typing import Any

from hoop.drivers.op import Op
from hoop.scheduling.handle import Handle
from hoop.watching.sockets import SocketLoop

class WatchOp(Op):
    @property
    def _handle(self) -> Handle: ...

class WatchLoop(SocketLoop):
    # For hoop.loop only.
    def _add_reader(
        self,
        fd: int,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle: ...
    def _remove_reader(self, fd: int) -> bool: ...
    def _watch_kept(self, fd: int, callback: Callable[..., object], *args: Any) -> WatchOp: ...
    def _unwatch_kept(self, watch: WatchOp) -> None: ...
    def _watched(self, fd: int) -> tuple[Handle | None, Handle | None]: ...
