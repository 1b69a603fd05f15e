from collections.abc import Callable
from typing import Any, final

from hoop._core.handle import Handle
from hoop._core.op import Op
from hoop._core.sockets import SocketLoop

@final
class WatchOp(Op): ...

class WatchLoop(SocketLoop):
    # For hoop.loop only.
    def _add_reader(self, fd: int, callback: Callable[..., object], *args: Any) -> Handle: ...
    def _remove_reader(self, fd: int) -> bool: ...
    def _watched(self, fd: int) -> tuple[Handle | None, Handle | None]: ...
