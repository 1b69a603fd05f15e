import asyncio
from contextvars import Context

from hoop.drivers.ready import Runnable

# It passes for asyncio's class at run time, by its `__class__`, without deriving from it.

class Handle(Runnable, asyncio.Handle):
    def cancel(self) -> None: ...
    def cancelled(self) -> bool: ...
    def get_context(self) -> Context: ...
