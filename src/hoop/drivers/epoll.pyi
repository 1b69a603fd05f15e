from typing import final

from hoop._core.driver import Driver
from hoop._core.op import Op

@final
class EpollDriver(Driver):
    def __init__(self, nested: bool = False) -> None: ...
    def fileno(self) -> int: ...

@final
class NestedOp(Op): ...
