import asyncio
from collections.abc import Coroutine, Generator
from contextvars import Context
from types import TracebackType
from typing import Any, Self, TypeVar, final

from hoop.scheduling.coroutine import Method
from hoop.scheduling.notice import Watcher

_T = TypeVar("_T")

# Passes for asyncio.TaskGroup at run time, by its `__class__`, without deriving from it.
class TaskGroup(Watcher, asyncio.TaskGroup):
    def __init__(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        et: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None: ...
    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **kwargs: Any,
    ) -> asyncio.Task[_T]: ...
    def cancel(self) -> None: ...

@final
class EnterGroup(Method): ...

@final
class ExitGroup(Method): ...
