from collections.abc import Iterable
from typing import final

from hoop.drivers.requests import Requests

@final
class UringDriver(Requests):
    def __init__(self, without: Iterable[str] = ()) -> None: ...
    def fileno(self) -> int: ...
    def capabilities(self) -> dict[str, bool]: ...
