from collections.abc import Iterable
from typing import final

from hoop._core.driver import Driver

@final
class UringDriver(Driver):
    def __init__(self, without: Iterable[str] = ()) -> None: ...
    def fileno(self) -> int: ...
    def capabilities(self) -> dict[str, bool]: ...
