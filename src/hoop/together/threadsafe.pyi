from asyncio import run_coroutine_threadsafe as run_coroutine_threadsafe
from typing import Any, final

from hoop.drivers.ready import Runnable
from hoop.scheduling.notice import Watcher

@final
class Crossing(Runnable):
    def _start(self, coro: Any) -> None: ...

@final
class Chain(Watcher):
    def _call_set_state(self, task: Any) -> None: ...
    def _call_check_cancel(self, future: Any) -> None: ...
