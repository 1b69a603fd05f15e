import asyncio
from typing import final

from hoop._core.endpoint import Layer

@final
class Feeder(Layer): ...

class FailedReader(asyncio.StreamReader): ...
