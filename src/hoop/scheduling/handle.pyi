import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from hoop.drivers.ready import Runnable

# It passes for asyncio's class at run time, by its `__class__`, without deriving from it.

class Handle(Runnable, asyncio.Handle):
    def __init__(
        self,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: asyncio.AbstractEventLoop,
        context: Context | None = None,
    ) -> None: ...
    def cancel(self) -> None: ...
    def cancelled(self) -> bool: ...
    def get_context(self) -> Context: ...
