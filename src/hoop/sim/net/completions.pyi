from typing import final

@final
class Completions:
    def __init__(self, receive_max: int, send_max: int) -> None: ...
