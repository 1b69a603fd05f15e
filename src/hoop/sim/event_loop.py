"""The event loop of a simulation: hoop's own, with virtual time and a seeded order.

Calls of executors, and of files, are made on the loop's thread at a virtual time that the seed decides.
Connections are those of a simulated network, and threads take turns with the loop. All that would reach the
real network or another process raises Unsimulated.
"""

from __future__ import annotations

import _socket
import asyncio
import contextvars
import errno
import functools
import inspect
import signal as signals
from asyncio import events
from collections.abc import Callable
from typing import Any

from hoop.disk.call import SystemCall
from hoop.disk.pool import FilePool, Job
from hoop.drivers.driver import Driver
from hoop.loop.event_loop import EventLoop
from hoop.sim import calls, graph
from hoop.sim.driver import ORDERS, Script, SimDriver, adopt, seconds_of
from hoop.sim.errors import Deadlock, Livelock, SimError, TimeLimit, Unsimulated
from hoop.sim.net.datagrams import ANY
from hoop.sim.net.failures import os_error
from hoop.sim.net.network import Network
from hoop.sim.net.sockets import is_empty, is_simulated
from hoop.sim.settings import DEPTH, LIMIT, check_positive, check_seed
from hoop.sim.stuck import Interruption
from hoop.sim.swaps import is_inside

NETWORK = "replace the connection in the test, for example by two queues"
ADVICE = {
    "connection": NETWORK,
    "process": "replace the child process in the test",
    "descriptor": "replace the descriptor in the test, for example by a queue",
    "name": "use an address instead of the name",
}


class SimEventLoop(EventLoop):
    """An event loop in virtual time. `seed` decides the order in which ready tasks run, as `order` allows."""

    def __init__(
        self,
        seed: int = 0,
        order: str = "wakes",
        *,
        limit: float = LIMIT,
        depth: int = DEPTH,
        step_us: tuple[int, int] = (0, 0),
        trace: Any = None,
        script: Script | None = None,
        leader: SimEventLoop | None = None,
        host: str = "",
    ) -> None:
        if order not in ORDERS:
            self._closed = True  # nothing is open yet: no warning
            raise ValueError(f"order must be one of {', '.join(ORDERS)}, not {order!r}")
        if script is None:
            try:
                check_seed(seed)
                check_positive("limit", limit)
            except (TypeError, ValueError):
                self._closed = True
                raise
        # All choices of this world come from here.
        self.script = script = Script(seed) if script is None else script
        self.host = host  # the name of the host that has this loop
        self.threads: Any = None  # those of the world that this loop leads
        self.world: Any = None  # the world with hosts that this loop leads
        self._made_with = (order, limit, depth, step_us)
        self.handlers: dict[int, tuple[Any, tuple[Any, ...]]] = {}  # of signals
        self.actions: dict[int, Any] = {}  # those of signal.signal(), if they are not the default
        self.tasks_made = 0  # of a host, which has names of its own
        words = graph.Words(host) if host else graph
        driver = None if leader is None else leader.sim_driver
        self.sim_driver: SimDriver = SimDriver(
            order, script, self._why, words, depth, limit, step_us, driver, host
        )
        if leader is None:
            self.sim_driver.follow(trace)
        # For the report. The first has all that the seed draws for the whole run, the other counts faults.
        self.parameters: dict[str, str] = {"order": order}
        self.injected: dict[str, int] = {}
        if leader is None:
            self._delays = script.stream("delay")
            # Each seed has calls of another length: from a tenth of a millisecond to a second.
            self._delay_max: float = 10.0 ** (script.stream("scale").choose(5) - 4)
        else:
            self._delays = script.stream(f"delay {host}")
            self._delay_max = leader._delay_max
            self.parameters, self.injected = leader.parameters, leader.injected
        if step_us[1]:
            self.parameters["turns"] = f"of {step_us[0]} to {step_us[1]} µs"
        self.network: Network | None = None  # nothing is connected in a loop that no world runs
        super().__init__()
        self._file_pool = SimFilePool(self, 1)
        adopt(self)

    def of_host(self, name: str) -> SimEventLoop:
        """Make the loop of a host in the world that this loop leads."""
        order, limit, depth, step_us = self._made_with
        made = SimEventLoop(
            order=order,
            limit=limit,
            depth=depth,
            step_us=step_us,
            script=self.script,
            leader=self,
            host=name,
        )
        made.set_debug(self.get_debug())
        return made

    def _first_driver(self, name: Any) -> Driver:
        return self.sim_driver

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return seconds_of(self)

    def now(self) -> float:
        """Return the virtual seconds since the world began."""
        return self.sim_driver.now * 1e-9

    def _delay(self) -> float:
        """How long a call of an executor waits, or takes. One in fifty is much slower than the others."""
        self.parameters["calls of executors"] = f"up to {1e3 * self._delay_max:g} ms"
        slow = self._delays.rarely(0.02)
        if slow:
            self.script.say("a call in an executor is slow")
        delay = self._delays.fraction() * self._delay_max * (60.0 if slow else 1.0)
        self.script.say(f"a call in an executor is {1e3 * delay:.1f} ms late")
        return delay

    def _why(self, kind: str) -> SimError:
        """The exception for a loop that cannot go on, or an operation of the kernel."""
        if kind.startswith("descriptor"):
            return Unsimulated(f"the use of {kind}", ADVICE["descriptor"])
        if kind == "call":
            return Unsimulated("a system call", ADVICE["descriptor"])
        cls, about = {
            "deadlock": (Deadlock, "nothing is ready, and no timer is set"),
            "threads": (Deadlock, "no thread can go on"),
            "exit": (Deadlock, "the program has ended, and these threads have not"),
            "livelock": (Livelock, self._why_livelock()),
            "limit": (TimeLimit, "`limit` seconds have passed"),
        }[kind]
        loops = {"": self}
        if self.world is not None:
            running = [host for host in self.world.hosts.values() if host.is_running]
            loops |= {host.name: host._loop for host in running}
        heading = f"at {self.now():.3f} s: {about}; {graph.summary(*loops.values())}"
        graphs = [graph.await_graph(loop, self.time(), name) for name, loop in loops.items()]
        threads = [] if self.threads is None else self.threads.lines()
        return cls("\n".join([heading, *filter(None, graphs), *threads]))

    def _why_livelock(self) -> str:
        low, high = self._made_with[-1]
        if high:
            return (
                f"100,000 turns of {low} to {high} µs, and the loop never waited for time to pass"
            )
        return "100,000 turns, and time did not move (with step_us=(1, 50) each turn takes some)"

    # ---- signals: no real one comes, and Ctrl-C raises KeyboardInterrupt in Python's own way ----

    def _make_self_pipe(self) -> None:
        self._ssock = self._csock = _socket.socket.__new__(_socket.socket)  # it is closed

    def _close_self_pipe(self) -> None:
        pass

    def _get_ready_for_signals(self) -> None:
        pass

    def _watch_signals(self) -> None:
        pass

    def _unwatch_signals(self) -> None:
        pass

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        """Call callback(*args) when the program, or Host.signal(), sends a signal."""
        self._check_signal(sig)  # type: ignore[attr-defined]
        if inspect.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
            raise TypeError("add_signal_handler() needs a function, not a coroutine")
        if sig in (signals.SIGKILL, signals.SIGSTOP):
            raise RuntimeError(f"sig {sig} cannot be caught")
        self.handlers[sig] = (callback, args)
        self.actions[sig] = handled_by_loop

    def remove_signal_handler(self, sig: int) -> bool:
        """Take a handler away. Returns whether there was one."""
        self._check_signal(sig)  # type: ignore[attr-defined]
        if self.handlers.pop(sig, None) is None:
            return False
        self.actions.pop(sig, None)
        return True

    # ---- executors and threads ----

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call a function on the loop's thread, at a virtual time. The answer comes later still."""
        self._check_closed()
        if executor is None:
            self._check_default_executor()  # type: ignore[attr-defined]
        else:
            executor.submit  # noqa: B018  what is no executor raises AttributeError, as in asyncio
        future = self.create_future()
        # A thread of an executor has a context of its own.
        self.call_later(
            self._delay(), self._perform, future, func, args, context=contextvars.Context()
        )
        return future

    def _perform(
        self, future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        if future.done():
            return
        deliver: Callable[[Any], None] = future.set_result
        events._set_running_loop(None)  # as in a thread
        try:
            outcome = func(*args)
        except StopIteration as exc:
            deliver = future.set_exception
            outcome = RuntimeError("a function in an executor raised StopIteration")
            outcome.__cause__ = exc
        except Interruption:
            raise
        except BaseException as exc:
            deliver, outcome = future.set_exception, exc
        finally:
            events._set_running_loop(self)
        self.call_later(self._delay(), _deliver, future, deliver, outcome)

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        """Call callback(*args) next turn. Raises Unsimulated in a thread from outside of the world."""
        if not is_inside() and self._thread_id is not None:
            raise Unsimulated(
                "call_soon_threadsafe() from a real thread", "start the thread in the simulation"
            )
        handle = super().call_soon_threadsafe(callback, *args, context=context)
        threads: Any = None if self.network is None else self.network.threads
        if threads is not None and threads.is_elsewhere():
            threads.pause()
        return handle

    # ---- the network ----

    def _look_up(self, call: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        if self.network is None:
            raise Unsimulated(f"{call.__name__}({args[0]!r})", ADVICE["name"])
        future = self.create_future()
        self.call_later(self.network.answer_time(), _answer, future, call, args)
        return future

    def _check_descriptor(self, call: str, fd: Any, about: str = "connection") -> None:
        """Raise Unsimulated for a descriptor whose other end is outside of the world."""
        if not is_simulated(self.network, fd):
            raise Unsimulated(call, ADVICE[about])

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        """Call callback(*args) when a descriptor is readable. See asyncio.loop.add_reader.

        Raises Unsimulated for what is neither a socket of the world nor one of a pair.
        """
        self._check_descriptor("loop.add_reader()", fd, "descriptor")
        super().add_reader(fd, callback, *args)

    def add_writer(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        """Call callback(*args) when a descriptor is writable. See add_reader()."""
        self._check_descriptor("loop.add_writer()", fd, "descriptor")
        super().add_writer(fd, callback, *args)

    def _error_of(self, network: Network, sock: Any, call: str) -> int:
        """The errno with which a call on a socket fails at once; 0 if it does not."""
        if call == "sock_sendall" and network.failures is not None:
            error = network.failures.of_send(sock.fileno())
            if error:
                return error
        if not network.has_errors or (call != "sock_sendall" and not is_empty(sock)):
            return 0
        return network.take_error(sock.fileno())

    def _make_socket_transport(self, sock: Any, *args: Any, **kwargs: Any) -> Any:
        self._check_descriptor("a connection from outside of the simulation", sock)
        return super()._make_socket_transport(sock, *args, **kwargs)

    def _make_datagram_transport(self, sock: Any, *args: Any, **kwargs: Any) -> Any:
        self._check_descriptor("a connection from outside of the simulation", sock)
        if self.network is not None and sock.family in ANY:
            self.network.mail.of(sock)
        return super()._make_datagram_transport(sock, *args, **kwargs)

    def _make_ssl_transport(self, rawsock: Any, *args: Any, **kwargs: Any) -> Any:
        self._check_descriptor("a connection from outside of the simulation", rawsock)
        return super()._make_ssl_transport(rawsock, *args, **kwargs)


def handled_by_loop(number: int, frame: object) -> None:
    """Do nothing: the action of a signal for which a loop has a handler."""


def _answer(future: asyncio.Future[Any], call: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Look a name up, if somebody still wants to know."""
    if future.done():
        return
    try:
        future.set_result(call(*args))
    except Exception as exc:
        future.set_exception(exc)


def _deliver(future: asyncio.Future[Any], deliver: Callable[[Any], None], outcome: Any) -> None:
    if not future.done():
        deliver(outcome)


class SimFilePool(FilePool):
    """Makes the calls of files on the loop's thread, at a virtual time. The disk is the real one."""

    def __init__(self, loop: SimEventLoop, threads_max: int) -> None:
        super().__init__(loop, threads_max)
        self._opens: list[Any] = []  # that may hold a descriptor which nobody has taken yet
        self._is_gone = False

    def submit(self, job: Job) -> None:
        """Have a job done at a virtual time."""
        if self._is_gone:
            job.forgo()
            return
        self.jobs += 1
        self._unfinished[job] = 0
        loop: Any = self._loop()
        loop.call_later(self._delay(job), self._do, job)

    def _delay(self, job: Job) -> float:
        loop: Any = self._loop()
        delay: float = loop._delay()
        return delay

    def _submit_alone(self, job: Job, stop: Callable[[], bool] | None) -> None:
        self.submit(job)

    def _do(self, job: Job) -> None:
        if job in self._unfinished:
            job.perform()
            self._finish(job)

    def _finish(self, job: Job) -> None:
        del self._unfinished[job]
        job.finish()
        if isinstance(job, SystemCall) and calls.holds(job):
            self._opens = [*filter(calls.holds, self._opens), job]

    def give_back(self) -> None:
        """The process has ended: make no calls any more, and close the descriptors that belong to calls."""
        self._is_gone = True
        for op in self._opens:
            op.drop()
        for job in self._unfinished:
            if isinstance(job, SystemCall) and calls.closes(job):
                job.forgo()
        self._unfinished.clear()

    def close(self, *_: Any) -> None:
        """Forgo the jobs whose time has not come."""
        for job in list(self._unfinished):
            job.forgo()
        super().close()


def _refuse(name: str, about: str) -> Any:
    """A coroutine function that refuses to do what the loop's method of that name does."""

    @functools.wraps(getattr(EventLoop, name))
    async def refused(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise Unsimulated(f"loop.{name}()", ADVICE[about])

    refused.__doc__ = f"Raise Unsimulated. See asyncio.loop.{name}."
    return refused


def _check_socket(name: str) -> Any:
    """A coroutine function that refuses a socket whose other end is outside of the world."""
    stock = getattr(EventLoop, name)

    @functools.wraps(stock)
    async def checked(self: SimEventLoop, sock: Any, *args: Any, **kwargs: Any) -> Any:
        self._check_descriptor(f"loop.{name}()", sock)
        error = 0 if self.network is None else self._error_of(self.network, sock, name)
        if error:
            raise os_error(error)
        try:
            return await stock(self, sock, *args, **kwargs)
        except OSError as exc:
            # A Unix socket that listens says EINVAL.
            if exc.errno == errno.EINVAL and self.network and self.network.is_listening(sock):
                raise os_error(errno.ENOTCONN) from None
            raise

    checked.__doc__ = f"Raise Unsimulated for a real connection. See asyncio.loop.{name}."
    return checked


_REFUSED = {
    "process": ("subprocess_exec", "subprocess_shell"),
    "descriptor": ("connect_read_pipe", "connect_write_pipe"),
}
for _about, _names in _REFUSED.items():
    for _name in _names:
        setattr(SimEventLoop, _name, _refuse(_name, _about))
for _name in (
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
):
    setattr(SimEventLoop, _name, _check_socket(_name))
