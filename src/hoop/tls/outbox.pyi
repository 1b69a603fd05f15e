from typing import final

from hoop._core.application import Application
from hoop._core.op import Op

@final
class SealOp(Op): ...

class TlsOutbox(Application): ...
