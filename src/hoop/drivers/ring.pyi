from collections.abc import Iterable
from typing import final

@final
class Ring:
    def __init__(self, without: Iterable[str] = ()) -> None: ...
