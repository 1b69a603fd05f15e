import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from hoop._core.base import LoopBase
from hoop._core.driver import Driver
from hoop._core.future import Future
from hoop._core.handle import Handle
from hoop._core.task import Task
from hoop._core.timers import TimerHandle

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

class Loop(LoopBase):
    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle: ...
    def call_soon_threadsafe(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> Handle: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> TimerHandle: ...
    def create_future(self) -> Future[Any]: ...
    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: object = None,
        context: Context | None = None,
        eager_start: bool | None = None,
    ) -> Task[_T]: ...
    def stop(self) -> None: ...
    def time(self) -> float: ...
    def is_running(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def get_debug(self) -> bool: ...

    # For hoop.loop only.
    _debug: bool
    _stopping: bool
    _thread_id: int | None
    def _set_driver(self, driver: Driver) -> None: ...
    def _driver_name(self) -> str: ...
    def _check_inherited(self) -> None: ...
    def _run_turns(self) -> None: ...
    def _release(self) -> None: ...
    def _unfinished_tasks(self) -> list[Task[Any]]: ...
    def _watched(self, fd: int) -> tuple[Handle | None, Handle | None]: ...
    def _transport_of(self, fd: int) -> asyncio.Transport | None: ...
    def _set_transport(self, fd: int, transport: asyncio.Transport | None) -> None: ...
