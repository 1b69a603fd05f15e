from typing import Any, final

from _typeshed import ReadableBuffer

from hoop.drivers.op import Op
from hoop.net.letters import Letters

@final
class SendOp(Op): ...

class DatagramSender(Letters):
    def sendto(self, data: ReadableBuffer, addr: Any = None) -> None: ...
