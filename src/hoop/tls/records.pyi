from ssl import MemoryBIO, SSLObject
from typing import final

@final
class Window: ...

@final
class Workspace: ...

@final
class Records:
    def __init__(
        self, sslobj: SSLObject, incoming: MemoryBIO, outgoing: MemoryBIO, workspace: Workspace
    ) -> None: ...
    sslobj: SSLObject
