from typing import final

from hoop._core.op import Op

@final
class SocketSlot: ...

@final
class SocketTable(Op): ...
