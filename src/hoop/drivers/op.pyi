from typing import Any

from hoop.drivers.ready import Runnable

class Op(Runnable):
    def about(self) -> tuple[str, int, Any]: ...

class CallOp(Op): ...

def count_live_ops() -> int: ...
