from asyncio import gather as gather
from asyncio import shield as shield
from typing import Any, final

from hoop.scheduling.notice import Watcher

@final
class Gathering(Watcher):
    def _done_callback(self, child: Any) -> None: ...

@final
class Shield(Watcher):
    @property
    def _outer(self) -> Any: ...
    def _inner_done_callback(self, inner: Any) -> None: ...

@final
class ShieldEnd(Watcher):
    def _outer_done_callback(self, outer: Any) -> None: ...
