from typing import Any

class Runnable:
    @property
    def since(self) -> int: ...
    def failure(self, exc: BaseException) -> dict[str, Any]: ...

class ReadyRing:
    @property
    def stamp(self) -> int: ...
