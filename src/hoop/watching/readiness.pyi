from typing import final

from hoop.drivers.op import Op

@final
class SocketSlot: ...

@final
class SocketTable(Op): ...
