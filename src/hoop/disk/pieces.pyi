from typing import final

@final
class Chunk: ...

@final
class Piece: ...
