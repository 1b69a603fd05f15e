"""Arguments that act: each is what its class says and does something random whenever it is looked at."""

from __future__ import annotations

import array
import asyncio
import collections.abc
from typing import Any

from world import Boom, World


def quietly(world: World, where: str) -> None:
    """Act and raise nothing: a task whose step ends here is never resumed, on asyncio's loops too.

    For example, a task that yields what it may not is shown in the error, and its callbacks with it.
    """
    try:
        world.act(where)
    except BaseException:
        pass


class Actor:
    """Something that acts when it is compared, hashed, shown or dropped."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __eq__(self, other: object) -> bool:
        self.world.act("__eq__")
        self.world.may_raise()
        return self is other

    def __hash__(self) -> int:
        return 7

    def __lt__(self, other: object) -> bool:
        self.world.act("__lt__")
        self.world.may_raise()
        return id(self) < id(other)

    def __repr__(self) -> str:
        if asyncio.current_task(self.world.loop) is None:
            self.world.act("__repr__")
            self.world.may_raise()
        else:
            quietly(self.world, "__repr__")
        return "<Actor>"

    def __del__(self) -> None:
        self.world.act("__del__")
        self.world.may_raise()


class Callback(Actor):
    """A callback that acts."""

    def __call__(self, *args: Any) -> None:
        self.world.act("callback")
        self.world.may_raise()


class Ordered(Actor):
    """A callback of call_soon that knows its place among all."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.number = world.next_number
        world.next_number += 1

    def __call__(self) -> None:
        if self.number < self.world.last_number:
            self.world.wrong(f"callback {self.number} ran after {self.world.last_number}")
        self.world.last_number = self.number
        self.world.act("ordered callback")
        self.world.may_raise()


class HBytes(bytes):
    """A bytes that acts."""

    world: World

    def _act(self) -> None:
        self.world.act("bytes")
        self.world.may_raise()

    def __len__(self) -> int:
        self._act()
        return bytes.__len__(self)

    def __getitem__(self, key: Any) -> Any:
        self._act()
        return bytes.__getitem__(self, key)

    def __bytes__(self) -> bytes:
        self._act()
        return self

    def __iter__(self) -> Any:
        self._act()
        return bytes.__iter__(self)

    def __bool__(self) -> bool:
        self._act()
        return bytes.__len__(self) > 0

    def __eq__(self, other: object) -> bool:
        self._act()
        return bytes.__eq__(self, other)

    __hash__ = bytes.__hash__


class HStr(str):
    """A str that acts."""

    world: World

    def _act(self) -> None:
        self.world.act("str")
        self.world.may_raise()

    def __str__(self) -> str:
        self._act()
        return self

    def __len__(self) -> int:
        self._act()
        return str.__len__(self)

    def encode(self, *args: Any) -> Any:
        self._act()
        return str.encode(self, *args)

    def __eq__(self, other: object) -> bool:
        self._act()
        return str.__eq__(self, other)

    def __format__(self, spec: str) -> str:
        self._act()
        return self

    __hash__ = str.__hash__


class HInt(int):
    """An int that acts."""

    world: World

    def _act(self) -> None:
        self.world.act("int")
        self.world.may_raise()

    def __index__(self) -> int:
        self._act()
        return self

    def __int__(self) -> int:
        self._act()
        return self

    def __bool__(self) -> bool:
        self._act()
        return int.__bool__(self)

    def __eq__(self, other: object) -> bool:
        self._act()
        return int.__eq__(self, other)

    def __lt__(self, other: Any) -> bool:
        self._act()
        return int.__lt__(self, other)

    def __sub__(self, other: Any) -> int:
        self._act()
        return int.__sub__(self, other)

    __hash__ = int.__hash__


class HFloat(float):
    """A float that acts."""

    world: World

    def __radd__(self, other: Any) -> Any:
        self.world.act("float")
        self.world.may_raise()
        return float.__radd__(self, other)

    def __add__(self, other: Any) -> Any:
        self.world.act("float")
        return float.__add__(self, other)

    def __float__(self) -> float:
        self.world.act("float")
        self.world.may_raise()
        return float.__float__(self)

    def __lt__(self, other: Any) -> bool:
        self.world.act("float")
        return float.__lt__(self, other)

    __hash__ = float.__hash__


class HIterable:
    """An iterable that acts between its items."""

    def __init__(self, world: World, items: list[Any]) -> None:
        self.world = world
        self.items = items

    def __iter__(self) -> Any:
        for item in self.items:
            self.world.act("iterable")
            self.world.may_raise()
            yield item


class HError(Boom):
    """An exception that acts when it is made, and may not be what its class promises."""

    world: World

    def __new__(cls, *args: Any) -> Any:
        cls.world.act("exception")
        if cls.world.chance(0.1):
            return HBytes()
        return super().__new__(cls)

    def __eq__(self, other: object) -> bool:
        self.world.act("exception __eq__")
        return self is other

    __hash__ = Boom.__hash__


class HCoroutine(collections.abc.Coroutine):
    """A coroutine by its methods only: it awaits odd things and acts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.steps = world.dice.randrange(6)

    def send(self, value: Any) -> Any:
        self.world.act("send")
        self.world.may_raise()
        self.steps -= 1
        if self.steps <= 0:
            raise StopIteration(self.world.dice.choice((None, 1, (), (1, 2), Boom("value"))))
        return odd_yield(self.world)

    def throw(self, *args: Any) -> Any:
        self.world.act("throw")
        self.steps -= 1
        if self.steps > 0 and self.world.chance(0.3):
            return odd_yield(self.world)
        if self.world.chance(0.2):
            raise StopIteration(3)
        raise args[0]

    def close(self) -> None:
        self.world.act("close of a coroutine")

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self.send(None)


class HFuture:
    """A future of somebody else's, by its attributes only."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._blocking = True
        self._loop = world.loop
        self.callbacks: list[Any] = []
        world.cleanups.append(self.wake)

    def wake(self) -> None:
        """Call whom nobody has called: who waits for us cannot be cancelled."""
        for callback, context in self.callbacks:
            self.world.loop.call_soon(callback, self, context=context)

    @property
    def _asyncio_future_blocking(self) -> bool:
        quietly(self.world, "_asyncio_future_blocking")
        return self._blocking

    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, value: bool) -> None:
        quietly(self.world, "_asyncio_future_blocking")
        self._blocking = value

    def get_loop(self) -> Any:
        quietly(self.world, "get_loop")
        return self._loop

    def add_done_callback(self, callback: Any, *, context: Any = None) -> None:
        self.callbacks.append((callback, context))
        self.world.act("add_done_callback")
        self.world.may_raise()
        for _ in range(self.world.dice.choice((0, 1, 1, 2))):
            self.world.loop.call_soon(callback, self, context=context)

    def cancel(self, msg: Any = None) -> bool:
        quietly(self.world, "cancel")
        return self.world.chance(0.5)

    def result(self) -> Any:
        quietly(self.world, "result")
        self.world.may_raise()

    def done(self) -> bool:
        return True


def odd_yield(world: World) -> Any:
    """Objects that a coroutine should or should not yield."""
    kind = world.dice.randrange(9)
    if kind < 3:
        return None
    if kind < 5:
        future = world.loop.create_future()
        world.loop.call_soon(finish, future)
        future._asyncio_future_blocking = world.chance(0.8)
        return future
    if kind == 5:
        return HFuture(world)
    if kind == 6:
        future = asyncio.Future(loop=world.loop)
        world.loop.call_soon(finish, future)
        future._asyncio_future_blocking = True
        return future
    if kind == 7:
        future = world.get("futures")
        future._asyncio_future_blocking = True
        return future
    return object()


def finish(future: Any) -> None:
    """End a future if that can still be done."""
    if not future.done():
        future.set_result(None)


def _made(cls: type, world: World, value: Any) -> Any:
    made = cls(value)
    made.world = world
    return made


def hostile_int(world: World, value: int) -> Any:
    return _made(HInt, world, value) if world.chance(0.3) else value


def hostile_str(world: World, value: str) -> Any:
    return _made(HStr, world, value) if world.chance(0.3) else value


def hostile_float(world: World, value: float) -> Any:
    return _made(HFloat, world, value) if world.chance(0.3) else value


def hostile_bytes(world: World, data: bytes) -> Any:
    return _made(HBytes, world, data) if world.chance(0.3) else data


def buffer_of(world: World, data: bytes) -> Any:
    """Some object that has these bytes, mostly."""
    kind = world.dice.randrange(8)
    if kind < 2:
        return data
    if kind == 2:
        return _made(HBytes, world, data)
    if kind == 3:
        return bytearray(data)
    if kind == 4:
        return memoryview(data)
    if kind == 5:
        return memoryview(bytearray(data))
    if kind == 6:
        return array.array("B", data)
    return memoryview(array.array("B", data))


def odd_buffer(world: World) -> Any:
    """Something that can be no bytes to write, or is odd at least."""
    view = memoryview(b"released")
    view.release()
    return world.dice.choice(
        (None, "text", 3, view, memoryview(b"every other")[::2], [b"list"], Actor(world))
    )


def writable_buffer(world: World, size: int) -> Any:
    """Something to receive into, mostly."""
    kind = world.dice.randrange(8)
    if kind < 4:
        return bytearray(size)
    if kind == 4:
        return memoryview(bytearray(size))
    if kind == 5:
        return array.array("B", bytes(size))
    if kind == 6:
        return memoryview(bytearray(2 * size))[::2]
    return bytes(size)
