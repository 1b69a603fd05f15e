from typing import final

from hoop.drivers.driver import Driver
from hoop.drivers.op import Op

@final
class EpollDriver(Driver):
    def __init__(self, nested: bool = False) -> None: ...
    def fileno(self) -> int: ...

@final
class NestedOp(Op): ...
