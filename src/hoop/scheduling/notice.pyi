from typing import Any, final

from hoop.drivers.ready import Runnable
from hoop.scheduling.attributes import Attributed

class Watcher(Attributed): ...

@final
class Notice(Runnable):
    @property
    def _wakeup(self) -> Any: ...
    @property
    def _context(self) -> Any: ...
