from typing import Any

class Attributed:
    __dict__: dict[str, Any]
