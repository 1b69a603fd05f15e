"""A world with hosts: their turns, and what happens between them."""

from __future__ import annotations

import _socket
import asyncio
import gc
import inspect
import sys
import warnings
from asyncio import events
from collections.abc import Callable, Iterable
from typing import Any

from hoop.observe.reading import is_done, task_name
from hoop.sim import graph
from hoop.sim.driver import RAN, Choices, Script, take_turn
from hoop.sim.errors import SimError
from hoop.sim.event_loop import SimEventLoop
from hoop.sim.hosts.holdings import Holdings
from hoop.sim.hosts.host import Host, Program
from hoop.sim.net.links import Place, Road, checked
from hoop.sim.net.network import Network
from hoop.sim.settings import check_main, check_positive
from hoop.sim.storage.disks import Disk
from hoop.sim.storage.mounting import use
from hoop.sim.threads.turns import Threads

Some = Host | str | Iterable[Host | str]
HOSTS_MAX = 10_000
TURNS_OF_THE_DEAD = 2  # until an aborted transport has closed its socket


class Link:
    """The ways between two hosts, or groups of them. World.link() returns it, and each method does, too."""

    def __init__(self, network: Network, roads: list[Road]) -> None:
        self._network = network
        self._roads = roads

    def latency(self, low: float, high: float | None = None) -> Link:
        """Let each message take so many seconds, from and to, in place of what the seed has drawn."""
        low = checked("low", low)
        high = low if high is None else checked("high", high, low)
        for road in self._roads:
            road.low, road.high = low, high
        return self

    def bandwidth(self, bytes_per_second: float) -> Link:
        """Let so many bytes pass in a second."""
        checked("bytes_per_second", bytes_per_second, 1.0)
        for road in self._roads:
            road.bandwidth = bytes_per_second
        return self

    def hold(self) -> Link:
        """Keep all messages until release()."""
        for road in self._roads:
            road.held = True
        return self

    def release(self) -> Link:
        """Let messages pass that hold() has kept, and those that follow."""
        for road in self._roads:
            road.held = False
        self._network.resume()
        return self


class World:
    """A world with several hosts. A main function that takes an argument gets it.

    async def main(world):
        db = world.host("db", run_db)
        await world.run("client", scenario)
    """

    def __init__(
        self,
        loop: SimEventLoop,
        network: Network,
        script: Script,
        disk: Disk | None = None,
        pattern: Disk | None = None,
    ) -> None:
        self._mixes = loop.parameters["order"] != "fifo"
        self.loop = loop
        self.network = network
        self.script = script
        self._disk = disk  # that of the main function
        self._pattern = pattern  # of which each host gets a copy
        self.hosts: dict[str, Host] = {}
        self._choices: Choices | None = None
        # The exception of a program for which nobody waits.
        self.failed: BaseException | None = None
        # The loops of processes that have ended, and what these have held.
        self.gone: dict[SimEventLoop, Holdings] = {}
        self._waiting: list[tuple[Callable[[], object], asyncio.Future[None]]] = []
        self.program: object = None  # the coroutine of the main task
        self.has_ended = False
        self.has_stopped = False  # no host takes a turn any more
        network.threads = loop.threads = self.threads = Threads(self)
        faults = network.faults
        if faults.cancel:
            loop.parameters["cancel"] = f"{faults.cancel:.2g}"
            loop.sim_driver.cancel_some(faults.cancel, self._cancel)

    @property
    def choices(self) -> Choices:
        """The numbers that decide about hosts."""
        if self._choices is None:
            self._choices = self.script.stream("hosts")
        return self._choices

    # ---- tasks that are cancelled ----

    def _cancel(self, task: asyncio.Task[Any], choices: Choices, place: int) -> None:
        """Cancel a task that has begun to wait, now or after a while."""
        delay = 0.0
        if choices.choose(2):
            delay = 10.0 ** (choices.choose(5) - 4) * choices.fraction()
        if is_done(task) or (self._is_main(task) and not self.network.faults.cancel_main):
            return
        if delay:
            loop: SimEventLoop = task.get_loop()  # type: ignore[assignment]
            loop.call_later(delay, self._cancel_now, task, place)
        else:
            self._cancel_now(task, place)

    def _cancel_now(self, task: asyncio.Task[Any], place: int) -> None:
        if is_done(task):
            return
        host = getattr(task.get_loop(), "host", "")
        name = f"{host}/{task_name(task)}" if host else task_name(task)
        self.network.count("cancellations")
        if self.script.explains:
            self.script.say(f"{name} is cancelled [{graph.awaiting(task)}]", place)
        self.network.note(f"cancel {graph.without_addresses(name)}")
        task.cancel()

    def _is_main(self, task: asyncio.Task[Any]) -> bool:
        """Whether it is the main task of a program, or ends one."""
        if task.get_coro() is self.program:
            return True
        return any(task in host.main_tasks for host in self.hosts.values())

    # ---- hosts ----

    def host(
        self, name: str, main: Program, *, disk: Disk | None = None, ipv6: bool = False
    ) -> Host:
        """Make a host, and start its program: a coroutine function without arguments.

        Its name leads to its address of IPv4, for all hosts; with `ipv6` first to that of IPv6. If the run
        has a disk, the host has `disk`, or else a copy of what the run's disk was at the beginning.
        """
        check_main(main)
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, not {type(name).__name__}")
        if not name or not all(c.isalnum() or c in "-._" for c in name):
            raise ValueError(
                f"name must consist of letters, digits, '-', '.' and '_', not {name!r}"
            )
        if _is_address(name):
            raise ValueError(f"name must not be an address, such as {name!r}")
        if name in self.hosts or name.lower() in self.network.names:
            raise ValueError(f"there is a host {name!r} already")
        if disk is not None and not isinstance(disk, Disk):
            raise TypeError(f"disk must be a hoop.sim.Disk, not {type(disk).__name__}")
        if not isinstance(ipv6, bool):
            raise TypeError(f"ipv6 must be True or False, not {type(ipv6).__name__}")
        if disk is None:
            disk = None if self._pattern is None else self._pattern.copy()
        elif self._disk is None:
            raise RuntimeError("a host has a disk if the run has one: hoop.sim.run(main, disk=...)")
        number = len(self.hosts)
        if number >= HOSTS_MAX:
            raise ValueError(f"a world has at most {HOSTS_MAX} hosts")
        host = Host(self, name, main, number, disk)
        self.network.names[name.lower()] = [host.address6] * ipv6 + [host.address]
        try:
            host.restart()
        except BaseException:
            del self.network.names[name.lower()]
            host.give_up()
            raise
        if not self.hosts:
            self.loop.world = self
        self.hosts[name] = host
        self.lead()
        return host

    async def run(
        self, name: str, main: Program, *, disk: Disk | None = None, ipv6: bool = False
    ) -> Any:
        """Make a host, and wait for the end of its program. Returns its result."""
        return await self.host(name, main, disk=disk, ipv6=ipv6)

    def find(self, host: Host | str) -> Host:
        """The host of a name."""
        found = self.hosts.get(host) if isinstance(host, str) else host
        if not isinstance(found, Host) or found._world is not self:
            raise ValueError(f"no host of this world: {host!r}")
        return found

    def note(self, what: str) -> None:
        """Write a line into the trace."""
        self.network.note(what)

    # ---- between hosts ----

    def link(self, a: Some, b: Some, *, one_way: bool = False) -> Link:
        """The way from `a` to `b`, and back unless it is to be one way. Both may be groups of hosts."""
        make = self.network.roads.make
        pairs = _pairs(self._places(a), self._places(b), one_way)
        return Link(self.network, [make(x, y) for x, y in pairs])

    def partition(self, a: Some, b: Some, *, one_way: bool = False) -> None:
        """Let no message pass from `a` to `b`, nor back unless it is one way. Both may be groups of hosts.

        TCP keeps what it has sent, and sends it again after heal(). After 15 minutes it gives up with
        ETIMEDOUT.

            world.partition(db, [api, cache])
        """
        starts, ends = self._places(a), self._places(b)
        self.network.count("partitions")
        self.note(f"partition {_text(starts)} {'->' if one_way else '-'} {_text(ends)}")
        for start, end in _pairs(starts, ends, one_way):
            self.network.roads.make(start, end).cut = True

    def heal(self, a: Some | None = None, b: Some | None = None) -> None:
        """End all partitions, or those of a host or group, or that between two of them."""
        roads = self.network.roads.between
        if a is None and b is not None:
            a, b = b, None
        if a is None:
            self.note("heal")
            ended = list(roads.values())
        elif b is None:
            ones = self._places(a)
            self.note(f"heal {_text(ones)}")
            ended = [road for pair, road in roads.items() if any(x in ones for x in pair)]
        else:
            starts, ends = self._places(a), self._places(b)
            self.note(f"heal {_text(starts)} - {_text(ends)}")
            ended = [roads[pair] for pair in _pairs(starts, ends, False) if pair in roads]
        for road in ended:
            road.cut = False
        self.network.resume()

    def _places(self, some: Some) -> list[Place]:
        if isinstance(some, Host | str):
            some = [some]
        return [self.find(host)._place for host in some]

    # ---- waiting ----

    async def until(self, condition: Callable[[], object], *, within: float) -> None:
        """Wait until a condition holds: it is looked at after each turn of a host.

        Raises TimeoutError if it does not hold within so many virtual seconds.

            await world.until(lambda: leader() is not None, within=60)
        """
        check_positive("within", within)
        if not callable(condition) or inspect.iscoroutinefunction(condition):
            raise TypeError("condition must be a function, and no coroutine function")
        if condition():
            return
        if not self.hosts:
            raise SimError("until() needs a host, whose turns change something")
        found = asyncio.get_running_loop().create_future()
        entry = (condition, found)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(within):
                await found
        except TimeoutError:
            if not condition():
                raise TimeoutError(
                    f"{_name_of(condition)} did not hold within {within:g} s"
                ) from None
        finally:
            self._waiting.remove(entry)

    # ---- turns ----

    def lead(self) -> None:
        """There are hosts, or threads. When the loop asks for news they take turns."""
        self.loop.sim_driver.lead(self._turns)

    def _turns(self, now: int) -> int:
        ran = self._step(now) if self.hosts and not self.has_stopped else -1
        return ran if self.threads is None else self.threads.step(ran)

    def _step(self, now: int) -> int:
        """Have each host with something to do take a turn. Returns RAN, or when one has, or -1."""
        running = [host for host in self.hosts.values() if host._state == "running"]
        ran = False
        hooks = sys.get_asyncgen_hooks()
        try:
            busy = [host for host in running if host._has_work()]
            while busy:
                mixed = self._mixes and len(busy) > 1
                host = busy.pop(self.choices.choose(len(busy)) if mixed else 0)
                if host._state == "running":
                    host._turn()
                    ran = True
        finally:
            self.network.here = self.network.home
            if self._disk is not None:
                use(self._disk)
            events._set_running_loop(self.loop)
            sys.set_asyncgen_hooks(*hooks)
        if self.failed is not None:
            error, self.failed = self.failed, None
            raise error
        for entry in list(self._waiting):
            ran = _look_at(*entry) or ran
        if ran:
            return RAN
        return min((due for host in running if (due := host._due()) >= 0), default=-1)

    def stop(self) -> None:
        """The main task has ended: no host takes a turn any more."""
        if self.hosts:
            self.has_stopped = True
            for host in self.hosts.values():
                host._stop("ended", world_goes_on=False)

    def close(self) -> None:
        """Close the loops of all processes, and their coroutines, so that `finally` runs here and unseen."""
        self.has_ended = True
        if not self.hosts:
            return
        self.loop.sim_driver.lead(None)
        hook, sys.unraisablehook = sys.unraisablehook, _ignore
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._release()
                self.loop.world = None
                gc.collect(0)  # a world collects nothing else, so all that it has made is young
        finally:
            sys.unraisablehook = hook

    def _release(self) -> None:
        """Let go of all hosts. No variable may keep one."""
        of_dead = self.network.here = Place("", "", "", self.loop)
        given_back: set[int] = set()
        while self.gone:
            loop, of_dead.holdings = self.gone.popitem()
            given_back |= of_dead.holdings.given_back
            _end(loop)
            del loop
        of_dead.holdings = Holdings()
        of_dead.holdings.given_back.update(given_back)  # what is freed later may close these, too
        for host in self.hosts.values():
            if host.disk is not None:
                host.disk.unmount()
        self.hosts.clear()


def _end(loop: SimEventLoop) -> None:
    """Close all that belongs to a process that is gone: coroutines, transports and the loop.

    A run that fails keeps them otherwise, and what is freed later than now would complain.
    """
    events._set_running_loop(loop)
    try:
        _close_coroutines(loop)
        for transport in loop._open_transports():
            transport.abort()
        for _ in range(TURNS_OF_THE_DEAD):
            take_turn(loop)
        _close_coroutines(loop)
    finally:
        events._set_running_loop(None)
    loop.close()


def _close_coroutines(loop: SimEventLoop) -> None:
    tasks: Iterable[asyncio.Task[Any]] = loop._unfinished_tasks()
    if loop.get_task_factory() is not None:
        tasks = asyncio.all_tasks(loop)  # this looks at those of all loops
    for task in tasks:
        coroutine: Any = task.get_coro()
        try:
            coroutine.close()
        except Exception:  # some await something when they are closed, or fail
            continue


def _pairs(starts: list[Place], ends: list[Place], one_way: bool) -> list[tuple[Place, Place]]:
    """All ways from one group to another, and back unless they are one way."""
    there = [(x, y) for x in starts for y in ends if x is not y]
    if starts and ends and not there:
        raise ValueError("there is no way from a host to itself: name two hosts, or groups")
    return there if one_way else there + [(y, x) for x, y in there]


def _text(places: list[Place]) -> str:
    return ",".join(place.name for place in places)


def _ignore(unraisable: Any) -> None:
    """Drop the news of code of a dead process that runs when it is freed."""


def _look_at(condition: Callable[[], object], found: asyncio.Future[None]) -> bool:
    """Tell who waits for a condition that it holds. Returns whether that is news."""
    if found.done():
        return False
    try:
        if not condition():
            return False
        found.set_result(None)
    except Exception as exc:
        found.set_exception(exc)
    return True


def _is_address(name: str) -> bool:
    """Whether look-ups take a name for an address of IPv4, as they do with a number."""
    try:
        _socket.inet_aton(name)
    except OSError:
        return False
    return True


def takes_world(main: Any) -> str | None:
    """The name of the argument of a main function that needs one; "" if it goes by its place."""
    try:
        parameters = inspect.signature(main).parameters.values()
    except (TypeError, ValueError):
        return None
    needed = [p for p in parameters if p.default is p.empty and p.kind < p.VAR_POSITIONAL]
    named = [p for p in parameters if p.default is p.empty and p.kind == p.KEYWORD_ONLY]
    if needed:
        return ""
    return named[0].name if named else None


def _name_of(condition: Any) -> str:
    """The name of a condition; of a lambda its place."""
    code = getattr(condition, "__code__", None)
    name = getattr(condition, "__qualname__", type(condition).__name__).rpartition(".")[2]
    if code is None or name != "<lambda>":
        return str(name)
    return f"the condition of line {code.co_firstlineno}"


__all__ = ["Host", "Link", "World", "takes_world"]
