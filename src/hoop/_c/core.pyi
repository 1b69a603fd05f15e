from typing import Any

def check() -> None: ...
def check_spared(kind: type) -> None: ...

class Probe:
    attribute: Any
