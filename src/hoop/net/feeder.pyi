import asyncio
from typing import final

from hoop.net.endpoint import Layer

@final
class Feeder(Layer): ...

class FailedReader(asyncio.StreamReader): ...
