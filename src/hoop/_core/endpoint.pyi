from typing import Any

class Endpoint:
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...
