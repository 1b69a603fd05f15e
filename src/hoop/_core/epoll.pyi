from typing import final

from hoop._core.driver import Driver

@final
class EpollDriver(Driver):
    def __init__(self) -> None: ...
    def fileno(self) -> int: ...
