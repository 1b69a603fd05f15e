"""The driver of a simulated loop never sleeps: time jumps to the next deadline. A seed decides the order.

    Script      the choices of one run: drawn from a seed, recorded, or given
    Choices     numbers that a seed decides: one stream of choices
    Clock       the time of a world
    SimDriver   moves the clock, and decides the order in which a turn runs what is ready
    SimLoop     the C methods of a loop that differ then: its clock, and the running of a turn

`call_soon` promises to keep the order of its callbacks, so handles stay in their places in every order. No
order is promised between tasks that futures wake in the same turn. In the order `wakes` those change places.
But a task runs after the callbacks that its future had before it.

A loop gets the methods of SimLoop by adopt(). No class can derive from both, which change the fields of Loop.
"""

from __future__ import annotations

import zlib

import cython
from cython.cimports.hoop._c.python import PyErr_CheckSignals, Ref
from cython.cimports.hoop._c.swap import hoop_adopt_methods, hoop_queued
from cython.cimports.hoop._c.uring import OP_SEND
from cython.cimports.hoop.drivers.driver import Driver
from cython.cimports.hoop.drivers.epoll import EpollDriver
from cython.cimports.hoop.drivers.op import ARMED, CALL, RECEIVE, WRITABLE, Op
from cython.cimports.hoop.drivers.ready import ReadyRing, Runnable
from cython.cimports.hoop.loop.turn import Loop
from cython.cimports.hoop.net.receiver import RecvOp
from cython.cimports.hoop.scheduling import task as task_module
from cython.cimports.hoop.scheduling.places import (
    begins_task,
    first_places,
    steps_task,
    swap_places,
    task_key,
    wakes_task,
)
from cython.cimports.hoop.scheduling.task import Task
from cython.cimports.hoop.sim.net.completions import Completions
from cython.cimports.hoop.sim.net.transports import adopt_op
from cython.cimports.hoop.watching.watch import WatchOp
from cython.cimports.libc.stdint import uint32_t

ORIGIN = cython.declare(cython.double, 1000.0)  # the loop's clock when a world begins
# The constants of SplitMix64. As literals in an expression they would be objects of Python's.
STEP = cython.declare(cython.ulonglong, 0x9E3779B97F4A7C15)
FIRST = cython.declare(cython.ulonglong, 0xBF58476D1CE4E5B9)
SECOND = cython.declare(cython.ulonglong, 0x94D049BB133111EB)
RAN = -2  # what the hosts answer if one of them has run something
ORDERS = ("fifo", "wakes", "starts", "single", "pct")
NANOSECONDS = cython.declare(cython.double, 1e-9)
# The least that may be missing to a deadline after a wait for it, in seconds: see poll().
ROUNDING = cython.declare(cython.double, 3e-9)
FRACTIONS = cython.declare(cython.ulong, 1 << 30)
NEVER = cython.declare(cython.uint, 0xFFFFFFFF)
# Above the priorities of tasks that have lost theirs.
HIGH = cython.declare(cython.ulonglong, 1 << 40)


@cython.final
@cython.cclass
class Script:
    """The choices of one run. Each has a site, such as "order", and a number of possible values.

    0 is the plain one: the first of the ready tasks, the shortest delay, no fault. Without `given`, a list of
    (site, n, value), the seed draws them. With it they are taken from there, each site its own in turn. A
    value that is missing, or not below n, is 0. `record` writes a log of them, and `explain` what each did.
    """

    def __init__(self, seed: int, given: list | None = None, record: bool = False, explain=False):
        self.seed = seed
        if given is not None:
            self.given = {}
            for site, _, value in reversed(given):
                self.given.setdefault(site, []).append(value)
        self.log = [] if record or explain else None
        self.said = {} if explain else None
        self.watched = given is not None or self.log is not None

    @property
    def explains(self) -> bool:
        """Whether somebody wants to know what each choice has done: see say()."""
        return self.said is not None

    def stream(self, site: str) -> Choices:
        """Return the stream of choices for a site."""
        return Choices(self.seed, zlib.crc32(site.encode()), site, self)

    def say(self, text: str, place: cython.Py_ssize_t = -1) -> None:
        """Say what the last choice has done, or that of a place. Does nothing if nobody wants to know."""
        if self.said is not None:
            now = 0 if self.driver is None else self.driver.clock.ns
            self.said[self.last_place() if place < 0 else place] = (now, text)

    def last_place(self) -> int:
        """Return the place of the last choice in the log. -1 if there is no log."""
        return -1 if self.log is None else len(self.log) - 1

    @cython.cfunc
    @cython.exceptval(-1, check=True)
    def settled(self, site: str, n: cython.ulong, value: cython.ulong) -> cython.ulong:
        """The value of a choice for which the seed has drawn one."""
        if self.given is not None:
            values: list = self.given.get(site)
            value = values.pop() if values else 0
            if value >= n:
                value = 0
        if self.log is not None:
            self.log.append((site, n, value))
        if self.driver is not None and self.driver.trace is not None:
            self.driver.trace.append(f"{self.driver.clock.ns} choice {site} {n} {value}")
        return value


@cython.cclass
class Choices:
    """A stream of numbers that a seed and a name decide: SplitMix64."""

    def __init__(self, seed: int, stream: int = 0, site: str = "", script: Script | None = None):
        self.state = (seed * 0xD1B54A32D192ED03 + stream * 0x8CB92BA72F3D8DD7) & 0xFFFFFFFFFFFFFFFF
        self.draw()
        self.state ^= self.draw()
        self.site = site
        self.script = script

    @cython.cfunc
    @cython.exceptval(check=False)
    def draw(self) -> cython.ulonglong:
        z: cython.ulonglong
        self.state += STEP
        z = self.state
        z = (z ^ (z >> 30)) * FIRST
        z = (z ^ (z >> 27)) * SECOND
        return z ^ (z >> 31)

    @cython.cfunc
    @cython.exceptval(-1, check=True)
    def below(self, n: cython.ulong) -> cython.ulong:
        """A number from 0 to n - 1."""
        if n < 2:
            return 0
        value: cython.ulong = cython.cast(cython.ulong, self.draw() % n)
        if self.script is not None and self.script.watched:
            return self.script.settled(self.site, n, value)
        return value

    def choose(self, n: cython.ulong) -> int:
        """Return a number from 0 to n - 1. 0 is to be the plain choice."""
        return self.below(n)

    def rarely(self, share: cython.double) -> cython.bint:
        """Return True for such a share of the draws, such as 0.01. To the script it is a choice of two."""
        value: cython.ulong = (self.draw() >> 11) * (1.0 / 9007199254740992.0) < share
        if self.script is not None and self.script.watched:
            value = self.script.settled(self.site, 2, value)
        return value != 0

    def fraction(self) -> cython.double:
        """Return a number from 0 to 1, without 1. To the script it is a choice of a billion."""
        return self.below(FRACTIONS) * (1.0 / FRACTIONS)

    def octets(self, n: cython.Py_ssize_t) -> bytes:
        """Return `n` bytes, which are told to no script."""
        words = [self.draw() for _ in range((n + 7) // 8)]
        return b"".join([int(word).to_bytes(8, "little") for word in words])[:n]


@cython.final
@cython.cclass
class Clock:
    """The time of a world. All its loops have the same."""


@cython.final
@cython.cclass
class SimDriver(Driver):
    """A Driver whose clock moves only when the loop has nothing to do.

    In a world with several hosts each has a loop and a driver. That of the world's own loop leads: when it is
    asked for news it has the hosts take turns, and it alone moves the clock.
    """

    name = "sim"

    def __init__(
        self,
        order: str,
        script: Script,
        why,
        words,
        depth: int,
        limit: float,
        step_us: tuple,
        leader: SimDriver | None = None,
        host: str = "",
    ):
        """Make a driver.

        `why(kind)` makes the exception for a loop that cannot go on: "deadlock", "livelock" or "limit".
        `words` has functions that name runnables: describe(one) and before(one, another). `depth` is that of
        the order `pct`, `limit` the greatest time in seconds, and `step_us` what a turn takes, from and to.
        The driver of a host gets the one that leads, and the name of the host.
        """
        of_host = f" {host}" if host else ""
        self.order = ORDERS.index(order)
        self.script = script
        self.leader = leader
        self.choices = script.stream("order" + of_host)
        self.costs = script.stream("step" + of_host)
        self.ranks = Choices(script.seed, zlib.crc32(f"ranks{of_host}".encode()))
        self.why = why
        self.words = words
        self.limit_ns = int(limit * 1e9)
        self.cost_us = step_us[0]
        self.spread_us = step_us[1] - step_us[0] + 1 if step_us[1] else 0
        self.announces = self.pending = True  # so that the loop asks in each turn
        if leader is None:
            script.driver = self
            self.clock = Clock.__new__(Clock)
            self.first_serial = task_module.tasks_linked
        else:
            self.clock = leader.clock
            self.first_serial = leader.first_serial
            self.trace, self.steps = leader.trace, leader.steps
            self.victim, self.victim_steps = leader.victim, leader.victim_steps
            self.strike = leader.strike
            self.doom, self.cancel_share = leader.doom, leader.cancel_share
        self.cancels = script.stream("cancel" + of_host)
        self.struck_now = []
        self.failing = []
        self.priorities = {}
        horizon: cython.ulong = cython.cast(cython.ulong, 1) << (4 + self.ranks.below(7))
        self.changes = {self.ranks.below(horizon) for _ in range(depth - 1)}

    @property
    def now(self) -> int:
        """The nanoseconds since the world began."""
        return self.clock.ns

    @property
    def turn(self) -> int:
        """A number that changes with each turn of a loop that ran something."""
        return self.arranged + self.rounds

    def follow(self, trace) -> None:
        """Write what runs from now on into a list, or to what has append(). Stop that by None."""
        self.trace = trace
        self.script.watched = self.script.watched or trace is not None

    def count_steps(self, steps: dict) -> None:
        """Count the steps of each task. Tasks have the numbers 1, 2, ... in the order of their making."""
        self.steps = steps

    def strike_at(self, task: cython.ulong, steps: cython.ulong, strike) -> None:
        """Call strike(task) when the task of this number has taken so many steps."""
        self.victim = task
        self.victim_steps = steps
        self.strike = strike

    def cancel_some(self, share: float, doom) -> None:
        """Call doom(task, choices, place of the last choice) after such a share of the steps of tasks."""
        self.cancel_share, self.doom = share, doom

    def note(self, what: str) -> None:
        """Write a line into the trace, if there is one."""
        if self.trace is not None:
            self.trace.append(f"{self.clock.ns} {what}")

    def attach(self, network) -> None:
        """Have `network(now, look)` called before each look at the descriptors.

        It moves bytes, and returns when it has more to do, in nanoseconds, or -1. `look` means that a program
        may have sent something.
        """
        self.network = network

    def lead(self, hosts) -> None:
        """Have `hosts(now)` called when the loop asks for news: each host takes a turn.

        It returns RAN if one had something to do, or else the time at which one will, or -1.
        """
        self.hosts = hosts

    def complete(self, receive_max: cython.int, send_max: cython.int) -> None:
        """Receive and send for the transports from now on, at most so many bytes at once."""
        self.completions = Completions(receive_max, send_max)

    def exchange_file(self, fd: cython.int, exchange) -> None:
        """Call exchange(), which gives the number of a descriptor to another file. Watch that like the first.

        If the file that was watched was closed before, the kernel has stopped watching this number. The next
        op for it finds that out.
        """
        inner: EpollDriver = self.inner
        mask: uint32_t = 0
        if inner is not None and 0 <= fd < inner.n_slots:
            mask = inner.slots[fd].mask
        goes_on: cython.bint = mask != 0 and inner.update(fd, True) >= 0
        exchange()
        if mask:
            inner.slots[fd].mask = 0 if goes_on else mask
        if goes_on:
            inner.update(fd, True)

    def pass_time(self, ns: cython.longlong) -> bool:
        """Let time pass, as a call that blocks the loop does. Returns whether it is within the limit."""
        self.clock.ns += ns
        self.still = 0
        return self.clock.ns <= self.limit_ns

    def grant(self, seconds: float) -> None:
        """Move the limit to this many seconds from now, for tasks that clean up."""
        self.still = 0
        self.limit_ns = self.clock.ns + int(seconds * 1e9)

    @cython.cfunc
    @cython.exceptval(check=False)
    def seconds(self) -> cython.double:
        return ORIGIN + self.clock.ns * NANOSECONDS

    # ---- the contract ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def poll(self, ready: ReadyRing, timeout_ns: cython.longlong) -> cython.int:
        """Let time pass until something is ready, or until the deadline."""
        event: cython.longlong
        tail: cython.ulong = ready.tail
        PyErr_CheckSignals()
        if self.struck is not None:
            struck = self.struck
            self.struck = None
            self.strike(struck)
            return 0
        while self.struck_now:
            self.doom(*self.struck_now.pop(0))
            if ready.head != ready.tail:
                timeout_ns = 0
        if self.leader is not None:
            self.moved += self.completions is not None and self.completions.send(ready)
            return self.gather(ready)
        self.clock.has_run = self.clock.stirred = True
        event = self.move(ready)
        loop: Loop = cython.cast(Loop, ready)
        due: cython.longlong = -1
        self.waits += timeout_ns != 0
        if timeout_ns == 0 or ready.tail != tail:
            if self.hosts is not None:
                due = self.step_hosts(ready)
            self.stand_still()
            if due == HOSTS_RAN or not self.idles(ready):
                return 0
            return self.pass_idle_time(loop, event if due < 0 or 0 <= event < due else due)
        deadline: cython.longlong = -1 if timeout_ns < 0 else self.clock.ns + timeout_ns
        while ready.tail == tail:
            due = event
            if self.hosts is not None:
                due = self.step_hosts(ready)
                if due == HOSTS_RAN:
                    self.clock.has_run = True
                    self.stand_still()
                    event = self.move(ready)
                    continue
                if due < 0 or 0 <= event < due:
                    due = event
            if due < 0 and deadline < 0:
                raise self.why("deadlock")
            if due < 0 or 0 <= deadline < due:
                self.jump_to(loop, deadline)
                break
            self.still = 0
            self.clock.ns = max(self.clock.ns, due)
            if self.clock.ns > self.limit_ns:
                raise self.why("limit")
            event = self.move(ready)
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def idles(self, ready: ReadyRing) -> cython.bint:
        """Whether callbacks of add_reader() and add_writer() run again and again, and change nothing.

        Each poll finds those descriptors ready, so the loop would never wait, and no time would pass.
        """
        i: cython.ulong
        op: WatchOp
        state: cython.longlong = 0
        if ready.head == ready.tail:
            return False
        for i in range(ready.head, ready.tail):
            what = cython.cast(object, ready.ring[i & ready.mask])
            if type(what) is not WatchOp:
                self.idle_turns = 0
                return False
            op = what
            state += hoop_queued(op.fd) * 64 + op.fd
        if state != self.queued:
            self.queued = state
            self.idle_turns = 0
        else:
            self.idle_turns += 1
        return self.idle_turns > IDLE_MAX

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def pass_idle_time(self, loop: Loop, event: cython.longlong) -> cython.int:
        """Let time pass until the next deadline or event, if there is one."""
        deadline: cython.longlong = -1
        if loop.timers.count:
            deadline = (
                cython.cast(cython.longlong, (loop.timers.heap[0].deadline - ORIGIN) * 1e9) + 1
            )
        if event >= 0 and (deadline < 0 or event <= deadline):
            self.still = 0
            self.clock.ns = max(self.clock.ns, event)
            if self.clock.ns > self.limit_ns:
                raise self.why("limit")
            self.move(loop)
        elif deadline > self.clock.ns:
            self.jump_to(loop, deadline)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stand_still(self) -> cython.int:
        """Count a turn without time moving."""
        self.still += 1
        if self.still > STILL_MAX:
            raise self.why("livelock")
        return 0

    @cython.cfunc
    @cython.exceptval(-3, check=False)
    def step_hosts(self, ready: ReadyRing) -> cython.longlong:
        """Have each host take a turn. Returns HOSTS_RAN, or when one has something to do, or -1."""
        cython.cast(Loop, ready).leave()  # no host is to have the context of a task of the leader's
        self.rounds += 1
        return self.hosts(self.clock.ns)

    @cython.cfunc
    @cython.exceptval(-2, check=False)
    def move(self, ready: ReadyRing) -> cython.longlong:
        """Have the network move bytes, and see what is ready. Returns when it has more to do, or -1."""
        event: cython.longlong = -1
        while True:
            if self.network is not None:
                event = self.network(self.clock.ns, self.clock.has_run)
            self.clock.has_run = self.completions is not None and self.completions.send(ready)
            if not self.clock.has_run:
                self.gather(ready)
                # A stream may have taken bytes without a turn. Then its wire has room for more.
                if not self.clock.has_run or ready.head != ready.tail:
                    return event

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def gather(self, ready: ReadyRing) -> cython.int:
        """Ask the kernel which descriptors are ready now."""
        while self.failing:
            op: Op = self.failing.pop(0)
            if op.phase == ARMED:
                op.enter_ready()
                ready.push(op)
        # In a world with hosts each driver asks for itself.
        asks: cython.bint = self.clock.stirred or self.leader is not None or self.hosts is not None
        self.clock.stirred = False
        if self.completions is not None and self.completions.receive(ready, asks):
            self.clock.has_run = True
            self.moved += 1
        return 0 if self.inner is None or not asks else self.inner.poll(ready, 0)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def jump_to(self, loop: Loop, deadline: cython.longlong) -> cython.int:
        """Let time pass until the deadline. It ends a nanosecond later, or code that compares would go round
        and round.
        """
        missing: cython.double
        self.still = 0
        if deadline > self.limit_ns:
            self.clock.ns = max(self.clock.ns, self.limit_ns)
            raise self.why("limit")
        self.clock.ns = max(self.clock.ns, deadline)
        while loop.timers.count:
            missing = loop.timers.heap[0].deadline - self.seconds()
            if missing < 0 or missing > ROUNDING:
                break
            self.clock.ns += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def submit(self, op: Op) -> cython.int:
        adopt_op(op)
        if self.completes(op):
            if op.interest != CALL:
                self.make_way(op)
            self.hold_nothing_back(op)
            return self.completions.submit(op)
        if op.interest == CALL:
            raise self.why("call")
        if self.inner is None:
            self.inner = EpollDriver(True)
        self.hold_nothing_back(op)
        return self.inner.submit(op)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def cancel(self, op: Op) -> cython.int:
        if self.completions is not None and self.completions.cancel(op):
            return 0
        return 0 if self.inner is None else self.inner.cancel(op)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def make_way(self, op: Op) -> cython.int:
        """Drop the ops of another file that had the number of a descriptor, but no transport's own send."""
        writer: Op = self.armed(op.fd, WRITABLE)
        if self.inner is None or (writer is not None and not writer.foreign):
            return 0
        return self.inner.forget(op.fd)

    @cython.cfunc
    @cython.exceptval(check=False)
    def completes(self, op: Op | None) -> cython.bint:
        """Whether the driver itself receives or sends for an op."""
        if self.completions is None or op.foreign:
            return False
        return op.interest == RECEIVE or op.interest == CALL

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def hold_nothing_back(self, op: Op) -> cython.int:
        """Have a connection send at once: it is the real clock that would hold writes back."""
        if isinstance(op, RecvOp) and cython.cast(RecvOp, op).receiver is not None:
            habit = cython.cast(RecvOp, op).receiver.own_habit()
            habit.rest = habit.reply_rest = NEVER
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def supports(self, interest: cython.int) -> cython.bint:
        return interest <= WRITABLE or (interest == RECEIVE and self.completions is not None)

    @cython.cfunc
    @cython.exceptval(check=False)
    def supports_call(self, code: cython.int) -> cython.bint:
        return code == OP_SEND and self.completions is not None

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def wake(self) -> cython.int:
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def close(self) -> cython.int:
        self.why = self.words = self.trace = self.strike = self.struck = self.network = None
        self.hosts = self.doom = None
        if self.leader is None:
            self.script.driver = None
        if self.completions is not None:
            self.completions.close()
        return 0 if self.inner is None else self.inner.close()

    @cython.cfunc
    def armed(self, fd: cython.int, interest: cython.int) -> Op:
        return None if self.inner is None else self.inner.armed(fd, interest)

    @cython.cfunc
    def take_armed(self) -> list:
        return [] if self.inner is None else self.inner.take_armed()

    # ---- order ----

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def arrange(self, loop: Loop) -> cython.int:
        """Put the runnables of a turn in the order in which they will run."""
        if self.arranged == loop.turns:  # the rest of a turn that an exception has cut short
            return 0
        self.arranged = loop.turns
        if loop.left > 1 and self.order != FIFO:
            if self.order >= SINGLE:
                self.pick(loop)
            else:
                self.shuffle(loop)
        if self.trace is not None or self.steps is not None or self.victim or self.cancel_share:
            self.look(loop)
        if self.spread_us and (loop.left or self.leader is None):
            self.clock.ns += (self.cost_us + self.costs.below(self.spread_us)) * 1000
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def look(self, loop: Loop) -> cython.int:
        """Tell those who watch of what will run in this turn."""
        i: cython.ulong
        number: cython.ulong
        task: Task
        for i in range(loop.head, loop.head + loop.left):
            what = cython.cast(object, loop.ring[i & loop.mask])
            if self.trace is not None:
                self.trace.append(f"{self.clock.ns} {self.words.describe(what)}")
            if not cython.cast(Runnable, loop.ring[i & loop.mask]).is_task:
                continue
            task = cython.cast(Task, loop.ring[i & loop.mask])
            number = task.serial - self.first_serial
            if self.steps is not None:
                self.steps[number] = task._polls + 1
            if number == self.victim and task._polls + 1 == self.victim_steps:
                self.struck = task
            if self.cancel_share and self.cancels.rarely(self.cancel_share):
                self.struck_now.append((task, self.cancels, self.script.last_place()))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def moves(self, r: Ref) -> cython.bint:
        """Whether a runnable may change places with another one.

        After sleep(0) a task waits for nothing, and goes on when each other ready task has run once. So it
        stays in its place, except where one task runs in each turn.
        """
        if not cython.cast(Runnable, r).is_task:
            if self.order == STARTS and begins_task(r):
                return True
            return wakes_task(r) or (self.order >= SINGLE and steps_task(r))
        if self.order >= SINGLE or cython.cast(Task, r).fut_waiter is not cython.NULL:
            return True
        return self.order == STARTS and cython.cast(Task, r)._polls == 0

    @cython.cfunc
    def movable(self, loop: Loop) -> list:
        """The places of the runnables that may change them."""
        i: cython.ulong
        last: cython.ulong = loop.head + loop.left
        return [i for i in range(loop.head, last) if self.moves(loop.ring[i & loop.mask])]

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def shuffle(self, loop: Loop) -> cython.int:
        """Let the runnables that may do so change places."""
        i: cython.ulong
        k: cython.ulong
        places: list = self.movable(loop)
        firsts: list = first_places(loop, places)
        count: cython.ulong = len(places)
        for i in range(count):
            if firsts is None:
                k = i + self.choices.below(count - i)
            else:
                free: list = [n for n in range(i, count) if firsts[n] <= places[i]]
                k = free[self.choices.below(len(free))]
            if k != i:
                self.exchange(loop, places[i], places[k])
                if firsts is not None:
                    firsts[i], firsts[k] = firsts[k], firsts[i]
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def exchange(self, loop: Loop, first: cython.ulong, chosen: cython.ulong) -> cython.int:
        """Let the runnable that was chosen take the place of the first one."""
        if self.script.said is not None:
            a = cython.cast(object, loop.ring[chosen & loop.mask])
            b = cython.cast(object, loop.ring[first & loop.mask])
            self.script.say(self.words.before(a, b))
        swap_places(loop, first, chosen)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def pick(self, loop: Loop) -> cython.int:
        """Let one runnable run in this turn. The others stay on the ring."""
        i: cython.ulong
        loop.callbacks -= loop.left - 1
        if not self.moves(loop.ring[loop.head & loop.mask]):
            loop.left = 1
            return 0
        movable: list = self.movable(loop)
        firsts: list = first_places(loop, movable)
        if firsts is not None:
            movable = [movable[n] for n in range(len(movable)) if firsts[n] == loop.head]
        loop.left = 1
        if len(movable) == 1:
            return 0
        self.picks += 1
        if self.picks % OLDEST_EACH == 0:  # or a task that waits for a callback could hold it up
            return 0
        if self.order == SINGLE:
            i = self.choices.below(len(movable))
        else:
            i = movable.index(self.preferred(loop, movable))
            if self.script.watched:
                i = self.script.settled("order", len(movable), i)
        if i:
            self.exchange(loop, loop.head, movable[i])
        return 0

    @cython.cfunc
    @cython.exceptval(0, check=True)
    def preferred(self, loop: Loop, movable: list) -> cython.ulong:
        """The place of the task with the highest priority. At some picks that one loses it."""
        i: cython.ulong
        best: cython.ulong = movable[0]
        for _ in range(2):
            for i in movable:
                if self.priority(loop, i) > self.priority(loop, best):
                    best = i
            if self.picks not in self.changes:
                return best
            self.changes.discard(self.picks)
            self.priorities[task_key(loop.ring[best & loop.mask])] = len(self.changes)
        return best

    @cython.cfunc
    def priority(self, loop: Loop, i: cython.ulong) -> object:
        key = task_key(loop.ring[i & loop.mask])
        found = self.priorities.get(key)
        if found is None:
            found = self.priorities[key] = HIGH + self.ranks.draw() % HIGH
        return found


@cython.cclass
class SimLoop(Loop):
    """The C methods of a loop with a SimDriver."""

    @cython.cfunc
    @cython.exceptval(-1, check=True)
    def now(self) -> cython.double:
        return cython.cast(SimDriver, self.driver).seconds()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run_ready(self) -> cython.int:
        cython.cast(SimDriver, self.driver).arrange(self)
        return Loop.run_ready(self)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def run_ready_watched(self) -> cython.int:
        cython.cast(SimDriver, self.driver).arrange(self)
        return Loop.run_ready_watched(self)


def adopt(loop: Loop) -> None:
    """Give a loop, whose driver is a SimDriver, the C methods of SimLoop."""
    if type(loop.driver) is not SimDriver:
        raise TypeError("the loop has another driver")
    hoop_adopt_methods(loop, Loop.__new__(Loop), SimLoop.__new__(SimLoop), object)


def seconds_of(loop: Loop) -> float:
    """Return the time on the clock of a simulated loop."""
    return cython.cast(SimDriver, loop.driver).seconds()


def has_work(loop: Loop) -> bool:
    """Ask the driver of a host, and say whether its loop has something to do now."""
    driver: SimDriver = cython.cast(SimDriver, loop.driver)
    moved: cython.ulong = driver.moved
    driver.poll(loop, 0)
    if driver.idles(loop):  # it takes one turn at each moment
        has_idled: bool = driver.idled_at == driver.clock.ns
        driver.idled_at = driver.clock.ns
        return not has_idled
    if loop.head != loop.tail or loop.dirty or driver.moved != moved:
        return True
    loop.timers.drop_cancelled()
    return loop.timers.count != 0 and loop.timers.heap[0].deadline <= driver.seconds()


def take_turn(loop: Loop) -> None:
    """Have the loop of a host take one turn."""
    loop.take_turns(True)


def due_of(loop: Loop) -> int:
    """Return the time in nanoseconds at which a timer of a host's loop is due, or -1."""
    ns: cython.longlong
    if loop.timers.cancelled:
        loop.timers.drop_cancelled()
    if loop.timers.count == 0:
        return -1
    deadline: cython.double = loop.timers.heap[0].deadline
    ns = cython.cast(cython.longlong, (deadline - ORIGIN) * 1e9)
    while ORIGIN + ns * NANOSECONDS <= deadline:  # a wait ends past its deadline: see jump_to()
        ns += 1
    return ns


def swap_tasks_made(count: cython.ulong) -> int:
    """Set how many tasks were made, which names "Task-1" and so on. Returns the number before."""
    before: cython.ulong = task_module.tasks_made
    task_module.tasks_made = count
    return before
