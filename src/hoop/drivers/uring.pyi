from collections.abc import Iterable
from typing import final

from hoop.drivers.driver import Driver

@final
class UringDriver(Driver):
    def __init__(self, without: Iterable[str] = ()) -> None: ...
    def fileno(self) -> int: ...
    def capabilities(self) -> dict[str, bool]: ...
