"""The watcher: a thread without the GIL that sees when a loop is blocked, and says by what signs.

A loop registers the addresses of eight words, which it keeps up to date for its own sake. It takes them back
when it is closed or freed, under the registry's lock, so nothing is read that is gone. A look compares the
words with those of the look before. A loop that waits in the kernel is not blocked, nor one that has begun
another turn.

    in_wait     whether the loop's thread waits in the kernel, for the GIL, or not
    tid         the kernel's number of that thread; 0 while the loop does not run
    turns       counts the turns
    head        counts the runnables, so if it moves it is a long turn
    stamp       when the loop last visited its driver
    stamp_turn  in which turn that was
    thread_state   Python's state of that thread, which leads to its stack
    running     the runnable that the loop runs

Before it asks for the GIL, the watcher writes down the stack of a thread that sleeps in the kernel. When the
GIL comes, that thread may have gone on. See _c/still.h. The watcher also arms a timer on the processor time
of the loop's thread. The timer's signal has that thread dump its own stack. So there is a stack even if C
code does not let go of the GIL. A thread that waits uses no processor time, and is never interrupted by it.
The timer is deleted when the watcher waits again.

Time for which the thread had no processor does not count towards the threshold, as it is no fault of the
program's.
"""

from __future__ import annotations

import os

import cython
from cython.cimports.hoop._c.frames import hoop_code_line
from cython.cimports.hoop._c.linux import hoop_now_ns
from cython.cimports.hoop._c.observe import IN_KERNEL, WANTS_GIL, hoop_tell
from cython.cimports.hoop._c.python import ref
from cython.cimports.hoop._c.still import (
    HOOP_STILL_STACK,
    hoop_note_still,
    hoop_own_state,
    hoop_read_stack,
)
from cython.cimports.hoop._c.watch import (
    POLLIN,
    SYS_futex,
    hoop_arm_timer,
    hoop_call_name,
    hoop_drop_timer,
    hoop_mutex,
    hoop_mutex_give,
    hoop_mutex_init,
    hoop_mutex_take,
    hoop_note_stall,
    hoop_read_int,
    hoop_read_ns,
    hoop_read_pointer,
    hoop_read_ulong,
    hoop_run_delay,
    hoop_thread_call,
    hoop_thread_cpu,
    hoop_thread_id,
    hoop_thread_state,
    hoop_thread_wchan,
    hoop_wait_for,
    pollfd,
)
from cython.cimports.hoop.insight.sites import running_code
from cython.cimports.libc.stdlib import realloc

# Between looks at loops of which one stays in its turn. Others are left in peace for twice as long.
LONGEST_STEP = cython.declare(cython.longlong, 25_000_000)
SHORTEST_STEP = cython.declare(cython.longlong, 1_000_000)
SHORTEST_PAUSE = cython.declare(
    cython.longlong, 500_000
)  # between looks at a turn whose end is waited for
LONGEST_HOLD = cython.declare(cython.longlong, 1_000_000_000)
NO_TURN = cython.declare(cython.ulong, 0xFFFFFFFFFFFFFFFF)
# After so much processor time of a thread that holds the GIL it is asked for its stack.
DUMP_AFTER = cython.declare(cython.longlong, 50_000_000)
DUMP_AGAIN_AFTER = cython.declare(cython.longlong, 1_000_000_000)
LEVELS = cython.declare(cython.int, 3)  # a report at 1, 10 and 100 times the threshold

_lock = cython.declare(hoop_mutex)
_loops = cython.declare(cython.pointer[Watched], cython.NULL)
_count = cython.declare(cython.int, 0)
_room = cython.declare(cython.int, 0)
_numbers = cython.declare(cython.ulong, 0)
_collecting = cython.declare(cython.int, 0)  # the thread that collects garbage; 0 if none does

hoop_mutex_init(cython.address(_lock))


def _after_fork():
    """The watcher may have had the lock, and its thread is not in the child. The loops of the parent do not
    run there, so they are forgotten.
    """
    global watching, _loops, _count, _room, _collecting
    hoop_mutex_init(cython.address(_lock))
    watching = False
    _loops = cython.NULL
    _count = _room = _collecting = 0


os.register_at_fork(after_in_child=_after_fork)


# ---- the loops that are watched ----------------------------------------------------------------------


@cython.cfunc
@cython.exceptval(0, check=False)
def watch_loop(
    in_wait: cython.pointer[cython.int],
    tid: cython.pointer[cython.int],
    turns: cython.pointer[cython.ulong],
    head: cython.pointer[cython.ulong],
    stamp: cython.pointer[cython.longlong],
    stamp_turn: cython.pointer[cython.ulong],
    thread_state: cython.pointer[cython.p_void],
    running: cython.pointer[cython.p_void],
) -> cython.ulong:
    """Register the words of a loop. Returns the number by which it takes them back."""
    global _loops, _count, _room, _numbers
    hoop_mutex_take(cython.address(_lock))
    if _count == _room:
        grown = cython.cast(
            cython.pointer[Watched], realloc(_loops, 2 * (_room + 4) * cython.sizeof(Watched))
        )
        if grown is cython.NULL:
            hoop_mutex_give(cython.address(_lock))
            raise MemoryError
        _loops = grown
        _room = 2 * (_room + 4)
    _numbers += 1
    w: cython.pointer[Watched] = cython.address(_loops[_count])
    w.number = _numbers
    w.in_wait = in_wait
    w.tid = tid
    w.turns = turns
    w.head = head
    w.stamp = stamp
    w.stamp_turn = stamp_turn
    w.thread_state = thread_state
    w.running = running
    w.level = 0
    w.stays = False
    w.seen = hoop_now_ns()
    begin_anew(w, hoop_read_ulong(turns), hoop_read_int(tid), w.seen)
    _count += 1
    hoop_mutex_give(cython.address(_lock))
    return _numbers


@cython.cfunc
@cython.exceptval(check=False)
def unwatch_loop(number: cython.ulong) -> cython.void:
    global _count
    i: cython.int
    hoop_mutex_take(cython.address(_lock))
    for i in range(_count):
        if _loops[i].number == number:
            if watching and _loops[i].level:  # the watcher has yet to say that it is over
                _loops[i].in_wait = cython.NULL
                _loops[i].seen = hoop_now_ns()
            else:
                forget(i)
            break
    hoop_mutex_give(cython.address(_lock))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def forget(i: cython.int) -> cython.void:
    """Take a loop out of the registry, whose lock the caller has."""
    global _count
    _count -= 1
    _loops[i] = _loops[_count]


def count_watched() -> int:
    """Return how many loops are registered. For tests."""
    i: cython.int
    return sum([_loops[i].in_wait is not cython.NULL for i in range(_count)])


# ---- a look ------------------------------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def begin_anew(
    w: cython.pointer[Watched], turn: cython.ulong, tid: cython.int, now: cython.longlong
) -> cython.void:
    """The loop is in another turn than at the last look, or waits, or does not run.

    A turn without a visit to the driver may have begun just before this look.
    """
    here: cython.bint = hoop_read_ulong(w.stamp_turn) == turn
    stamp: cython.longlong = hoop_read_ns(
        w.stamp
    )  # if the loop goes on meanwhile, that of a later turn
    w.turn = turn
    w.thread = tid
    w.last_head = hoop_read_ulong(w.head)
    w.moves = 0
    w.moved = now
    w.began = stamp if here and stamp < now else now
    w.cpu = hoop_thread_cpu(tid)
    w.delay = hoop_run_delay(tid) if tid else 0
    w.level = 0
    w.starved = False
    w.seen = now


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def look_at(
    w: cython.pointer[Watched],
    now: cython.longlong,
    late: cython.longlong,
    threshold: cython.longlong,
    s: cython.pointer[Sighting],
) -> cython.bint:
    """Look at one loop. Returns whether there is something to say, which is in `s` then."""
    wait: cython.int
    tid: cython.int
    turn: cython.ulong
    stamp: cython.longlong
    wanted: cython.longlong = threshold
    i: cython.int
    s.number = w.number
    s.tid = w.thread
    s.thread_state = w.thread_state
    s.running = cython.NULL
    s.level = w.level
    s.turn = w.turn
    s.cpu = s.delay = s.told = s.new_cpu = s.new_delay = 0
    s.state = ord("?")
    s.call = -1
    s.moved = s.collects = s.waits_for_gil = False
    s.wchan[0] = 0
    if w.in_wait is cython.NULL:
        s.kind = OVER
        s.began = w.began
        s.now = w.seen
        return True
    wait = hoop_read_int(w.in_wait)
    tid = hoop_read_int(w.tid)
    turn = hoop_read_ulong(w.turns)
    stamp = hoop_read_ns(w.stamp)
    s.running = hoop_read_pointer(w.running)
    s.began = max(w.began, stamp) if stamp <= now else w.began
    s.now = now
    w.stays = not (tid == 0 or wait == IN_KERNEL or turn != w.turn or tid != w.thread)
    if not w.stays:
        s.kind = OVER if w.level else NOTHING
        s.began = w.began
        if w.seen < stamp < now:  # the visit to the driver that came next
            s.now = stamp
        begin_anew(w, turn, tid, now)
        return s.kind == OVER
    w.seen = now
    head: cython.ulong = hoop_read_ulong(w.head)
    if head != w.last_head:
        w.last_head = head
        w.moves += 1
        w.moved = now
    if late > threshold // 2:  # this process was stopped, or no thread of it had a processor
        w.began = s.began + late
        if w.level == 0:
            s.kind = STARVED
            return True
    if w.level == 0:
        w.began = max(w.began, s.began)
    for i in range(w.level):
        wanted *= 10
    if w.level >= LEVELS or now - w.began < wanted:
        return False
    s.cpu = hoop_thread_cpu(tid) - w.cpu
    s.delay = hoop_run_delay(tid) - w.delay
    s.state = hoop_thread_state(tid)
    # The kernel adds a wait for a processor when it is over, so one that still goes on is in no number.
    own: cython.longlong = s.cpu if s.state == ord("R") else now - w.began - s.delay
    if w.level == 0 and own < wanted:
        s.kind = NOTHING if w.starved else STARVED
        w.starved = True
        return s.kind == STARVED
    s.kind = BLOCKED
    s.call = hoop_thread_call(tid)
    if s.call >= 0:
        hoop_thread_wchan(tid, s.wchan, NAME_MAX)
    # One runnable may have ended before. Of a long turn several looks see another one, the last not long ago.
    s.moved = w.moves >= 2 and 2 * (now - w.moved) < now - w.began
    s.collects = hoop_read_int(cython.address(_collecting)) != 0
    s.waits_for_gil = wait == WANTS_GIL
    s.began = w.began
    if w.level == 0:
        w.told = w.began
        w.told_cpu = w.told_delay = 0
    s.told = w.told
    s.new_cpu = s.cpu - w.told_cpu
    s.new_delay = s.delay - w.told_delay
    w.told = now
    w.told_cpu = s.cpu
    w.told_delay = s.delay
    w.level += 1
    return True


@cython.cclass
class Watcher:
    """Looks at all registered loops, in the thread that calls wait().

    `threshold` is in seconds. `signal` is a signal whose handler dumps the stack of the thread it reaches
    into `memfd`; without one (0) no stack is dumped. `dump_signal` does so elsewhere, if C code computes on.
    `starved` counts how often a loop seemed to be blocked, but had no processor.
    """

    def __init__(self, threshold=0.1, signal=0, memfd=-1, dump_signal=0):
        if not threshold > 0:
            raise ValueError("the threshold must be positive")
        self.threshold = threshold
        self.signal = signal
        self.dump_signal = dump_signal
        self.memfd = memfd

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def arm(self, blocked: cython.pointer[Sighting]) -> cython.void:
        """Arm timers before this thread asks for the GIL: C code may have it, and a stack tells which."""
        w: cython.pointer[Watched]
        tid: cython.int
        noted: cython.int = 0
        if blocked is not cython.NULL:
            hoop_note_stall(self.memfd, blocked.number, blocked.tid, blocked.began, blocked.cpu)
            hoop_note_still(self.memfd, blocked.tid, blocked.thread_state)
            self.arm_for(blocked.tid)
            return
        hoop_mutex_take(cython.address(_lock))
        for i in range(_count):
            w = cython.address(_loops[i])
            if self.armed == TIMERS_MAX:
                break
            if w.in_wait is cython.NULL or hoop_read_int(w.in_wait) == IN_KERNEL:
                continue
            tid = hoop_read_int(w.tid)
            if tid:
                if noted == 0:
                    noted = 1
                    hoop_note_stall(self.memfd, w.number, tid, hoop_read_ns(w.stamp), 0)
                self.arm_for(tid)
        hoop_mutex_give(cython.address(_lock))

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def arm_for(self, tid: cython.int) -> cython.void:
        i: cython.int = self.armed
        self.timers[i] = hoop_arm_timer(tid, self.signal, DUMP_AFTER) if self.signal else -1
        self.dumps[i] = (
            hoop_arm_timer(tid, self.dump_signal, DUMP_AGAIN_AFTER) if self.dump_signal else -1
        )
        self.armed = i + 1

    @cython.cfunc
    @cython.exceptval(check=False)
    def disarm_dumps(self) -> cython.void:
        """This thread has the GIL: what another one computes from now on is no fault of C code."""
        i: cython.int
        for i in range(self.armed):
            hoop_drop_timer(self.dumps[i])
            self.dumps[i] = -1

    def disarm(self):
        """Delete the timers. Those for the memory file stay armed while this thread runs Python code."""
        self.disarm_dumps()
        while self.armed:
            self.armed -= 1
            hoop_drop_timer(self.timers[self.armed])

    @cython.cfunc
    @cython.exceptval(check=False)
    def skip_levels(self, number: cython.ulong, now: cython.longlong) -> cython.void:
        """A report that came late stands for those that were due meanwhile."""
        w: cython.pointer[Watched]
        i: cython.int
        due: cython.longlong
        hoop_mutex_take(cython.address(_lock))
        for i in range(_count):
            w = cython.address(_loops[i])
            if w.number == number:
                due = cython.cast(cython.longlong, self.threshold * 1e9 * 10.0**w.level)
                while w.level < LEVELS and now - w.began >= due:
                    w.level += 1
                    due *= 10
        hoop_mutex_give(cython.address(_lock))

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def find(
        self, now: cython.longlong, late: cython.longlong, s: cython.pointer[Sighting]
    ) -> cython.bint:
        """Look at the loops until there is something to say of one."""
        i: cython.int = 0
        found: cython.bint = False
        threshold: cython.longlong = cython.cast(cython.longlong, self.threshold * 1e9)
        self.suspects = False
        hoop_mutex_take(cython.address(_lock))
        while i < _count:
            if not found:
                found = look_at(cython.address(_loops[i]), now, late, threshold, s)
                if found and s.kind == STARVED:  # not worth to ask for the GIL
                    self.starved += 1
                    found = False
                elif found and _loops[i].in_wait is cython.NULL:
                    forget(i)
                    continue
            elif late > threshold // 2:
                _loops[i].began += late
            self.suspects |= _loops[i].stays
            i += 1
        hoop_mutex_give(cython.address(_lock))
        return found

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def hold(self) -> cython.void:
        """Note in which turn each loop is that is in one. This thread is about to ask for the GIL.

        If that turn is to be a long one of C code with the GIL, the GIL comes when it is over. Nobody would
        then know that it was long.
        """
        w: cython.pointer[Watched]
        hoop_mutex_take(cython.address(_lock))
        for i in range(_count):
            w = cython.address(_loops[i])
            w.held = NO_TURN
            if (
                w.in_wait is not cython.NULL
                and hoop_read_int(w.in_wait) != IN_KERNEL
                and w.level == 0
            ):
                w.held = hoop_read_ulong(w.turns)
        hoop_mutex_give(cython.address(_lock))

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def holds(self) -> cython.bint:
        """Whether a loop is still in the turn that hold() has noted, and was not reported in it."""
        w: cython.pointer[Watched]
        found: cython.bint = False
        hoop_mutex_take(cython.address(_lock))
        for i in range(_count):
            w = cython.address(_loops[i])
            if w.in_wait is cython.NULL or w.held == NO_TURN or w.level or not hoop_read_int(w.tid):
                continue
            if hoop_read_int(w.in_wait) != IN_KERNEL and hoop_read_ulong(w.turns) == w.held:
                found = True
        hoop_mutex_give(cython.address(_lock))
        return found

    def wait(self, descriptors, timeout: cython.double):
        """Wait, without the GIL, until a descriptor is readable, something is seen, or the time is over.

        If a loop is in a turn then, this goes on until the turn is over or known to be long. That takes up
        to a second. Only the first descriptor ends it at once.

        Returns the readable descriptors, and a list of what was seen: loops that go on, then one that is
        blocked. Each is a dictionary:

            kind        "blocked" or "over"
            loop        the number of the loop: its `_watch_number`
            began, now  nanoseconds of time.monotonic_ns()

        The one that is blocked has more:

            level       how often it was reported before
            turn        the number of the turn in which it is
            running     the address of the runnable that it ran, which may be gone
            cpu, delay  nanoseconds that its thread has computed, and waited for a processor
            told        when the last report of it was made, or else when it began
            new_cpu, new_delay  as cpu and delay, since then
            tid, state  the thread, and its state as the kernel's letter
            call        the number of the system call in which it waits; -1 if that is not known
            wchan       the function of the kernel in which it waits; "" if that is not known
            moved       the loop has run several runnables in this turn
            collects    garbage is being collected
            waits_for_gil   the loop is back from the kernel, and another thread has the GIL
            gil_took    nanoseconds until the watcher had the GIL
            gil_cpu     nanoseconds that the loop's thread computed meanwhile
            gil_delay   nanoseconds that it waited for a processor meanwhile
            own_delay   nanoseconds that the watcher waited for a processor meanwhile
        """
        fds: pollfd[DESCRIPTORS_MAX]
        s: Sighting
        overs: Sighting[OVERS_MAX]
        n_overs: cython.int = 0
        n: cython.int = 0
        ready: cython.int = 0
        found: cython.bint = False
        before: cython.longlong
        own: cython.int = 0
        cpu: cython.longlong = 0
        delay: cython.longlong = 0
        waited: cython.longlong = 0
        now: cython.longlong = hoop_now_ns()
        end: cython.longlong = now + cython.cast(cython.longlong, timeout * 1e9)
        held_since: cython.longlong = 0
        step: cython.longlong = cython.cast(cython.longlong, self.threshold * 0.25e9)
        step = min(max(step, SHORTEST_STEP), LONGEST_STEP)
        rest: cython.longlong = 2 * step if step > SHORTEST_STEP else step
        pause: cython.longlong = step if self.suspects else rest
        self.disarm()
        for fd in list(descriptors)[:DESCRIPTORS_MAX]:
            fds[n].fd = fd
            fds[n].events = POLLIN
            fds[n].revents = 0
            n += 1
        waited_for: cython.int = n
        with cython.nogil:
            while True:
                before = now
                ready = hoop_wait_for(
                    fds, waited_for, min(pause, end - now) if held_since == 0 else pause
                )
                now = hoop_now_ns()
                self.looks += 1
                found = self.find(now, now - before - pause, cython.address(s))
                if found and s.kind == OVER and n_overs < OVERS_MAX:
                    overs[n_overs] = s
                    n_overs += 1
                    found = False
                if found or (n and fds[0].revents):
                    break
                if held_since:
                    pause = min(2 * pause, step)
                else:
                    pause = step if self.suspects else rest
                if held_since == 0 and (ready or n_overs or now >= end):
                    self.hold()
                    held_since = now
                    pause = SHORTEST_PAUSE
                    waited_for = min(n, 1)
                if held_since and (not self.holds() or now - held_since > LONGEST_HOLD):
                    break
            self.arm(cython.address(s) if found and s.kind == BLOCKED else cython.NULL)
            if found:
                own = hoop_thread_id()
                cpu = hoop_thread_cpu(s.tid)
                delay = hoop_run_delay(own)
                waited = hoop_run_delay(s.tid)
        took: cython.longlong = hoop_now_ns() - now
        self.disarm_dumps()
        if found and s.kind == BLOCKED:
            self.skip_levels(s.number, now + took)
        readable = [fds[i].fd for i in range(n) if fds[i].revents]
        seen: list = [
            {"kind": "over", "loop": overs[i].number, "began": overs[i].began, "now": overs[i].now}
            for i in range(n_overs)
        ]
        if found:
            seen.append(
                {
                    "kind": "blocked" if s.kind == BLOCKED else "over",
                    "loop": s.number,
                    "level": s.level,
                    "turn": s.turn,
                    "running": cython.cast(cython.size_t, s.running),
                    "began": s.began,
                    "now": s.now,
                    "cpu": s.cpu,
                    "delay": s.delay,
                    "told": s.told,
                    "new_cpu": s.new_cpu,
                    "new_delay": s.new_delay,
                    "tid": s.tid,
                    "state": chr(s.state),
                    "call": s.call,
                    "wchan": s.wchan.decode("ascii"),
                    "moved": s.moved,
                    "collects": s.collects,
                    "waits_for_gil": s.waits_for_gil,
                    "gil_took": took,
                    "gil_cpu": hoop_thread_cpu(s.tid) - cpu,
                    "gil_delay": hoop_run_delay(s.tid) - waited,
                    "own_delay": hoop_run_delay(own) - delay,
                }
            )
        return readable, seen


def own_stack() -> str:
    """Return the stack of this thread as the watcher reads that of one which sleeps; "" if it cannot."""
    text: bytearray = bytearray(HOOP_STILL_STACK)
    state: cython.p_void = hoop_own_state()
    n: cython.int = hoop_read_stack(cython.address(state), text, HOOP_STILL_STACK)
    return text[:n].decode("utf-8", "replace")


def set_watching(on: cython.bint) -> None:
    """Whether loops register when they begin to run."""
    global watching
    watching = on


# ---- garbage collection ------------------------------------------------------------------------------


class Collections:
    """A callback for gc.callbacks: what collections cost. `pauses` has seconds by generation.

    Each is a list of how many there were, their seconds together, and the longest. `lasted[g][n]` counts
    those of generation g that took less than 2**n nanoseconds, and not less than half of that.
    """

    LONG_NS = 5_000_000

    def __init__(self):
        self.pauses = [[0, 0.0, 0.0] for _ in range(3)]
        self.lasted = [[0] * 64 for _ in range(3)]
        self.began = 0
        self.running = self.last_long = None

    def place(self):
        """The file, line and function that triggered the collection that runs, or else the last long one.

        None if there was none. As with sites of tasks, code of asyncio and hoop does not count.
        """
        found = self.running or self.last_long
        if found is None:
            return None
        code, offset = found
        line: cython.int = hoop_code_line(ref(code), offset)
        return code.co_filename, line if line > 0 else code.co_firstlineno, code.co_qualname

    def __call__(self, phase, info):
        if phase == "start":
            self.began = hoop_now_ns()
            self.running = running_code()
            hoop_tell(cython.address(_collecting), hoop_thread_id())
            return
        hoop_tell(cython.address(_collecting), 0)
        took_ns: cython.longlong = hoop_now_ns() - self.began
        took = took_ns * 1e-9
        if took_ns >= self.LONG_NS:
            self.last_long = self.running
        self.running = None
        if self.began:
            generation = min(info["generation"], 2)
            pause = self.pauses[generation]
            self.lasted[generation][int(took_ns).bit_length()] += 1
            pause[0] += 1
            pause[1] += took
            pause[2] = max(pause[2], took)


FUTEX = (
    SYS_futex  # the number of the system call in which a thread waits for the GIL, or another lock
)


def call_name(number: cython.int):
    """Return the name of a system call that may block, or else its number as a text."""
    name = hoop_call_name(number)
    return str(number) if name is cython.NULL else name.decode("ascii")


def thread_cpu(tid: cython.int):
    """Return the seconds of processor time that a thread of this process has used; -1.0 if there is none."""
    ns: cython.longlong = hoop_thread_cpu(tid)
    return -1.0 if ns < 0 else ns * 1e-9
