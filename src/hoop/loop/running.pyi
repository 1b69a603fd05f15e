from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar, final, overload

from hoop.scheduling.coroutine import Method
from hoop.scheduling.future import Future
from hoop.scheduling.task import Task
from hoop.scheduling.timers import TimerHandle

_T = TypeVar("_T")

@overload
async def sleep(delay: float) -> None: ...
@overload
async def sleep(delay: float, result: _T) -> _T: ...
def create_task(
    coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
    *,
    name: str | None = None,
    context: Context | None = None,
    **kwargs: Any,
) -> Task[_T]: ...

@final
class SleepTimer(TimerHandle):
    @property
    def _future(self) -> Future[None]: ...

@final
class Sleep(Method): ...
