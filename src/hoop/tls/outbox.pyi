from typing import final

from hoop.drivers.op import Op
from hoop.tls.application import Application

@final
class SealOp(Op): ...

class TlsOutbox(Application): ...
