"""Puts virtual time and seeded randomness in place of CPython's own C functions, and hashes by number.

The C functions are changed inside of the objects that Python calls. So a module that said
`from time import time` long ago gets virtual time, too. Only the thread that runs the world does: for others
the real functions go on. All are put back when the world ends.

A set of objects is ordered by their hashes, which are addresses. While a world runs, tasks and futures get
hashes from the seed, in the order in which they are first hashed. So do coroutines, objects of Python
classes, and their methods. The function for that stays in the classes afterwards, so that an object never
changes its hash. Nobody knows which objects had been hashed before the first world. So their classes stay as
they are.
"""

from __future__ import annotations

import _asyncio
import asyncio
import datetime
import os
import threading
import time
import types
import weakref
import zlib
from collections.abc import Callable

import cython
from cython.cimports.hoop._c.python import (
    Py_REFCNT,
    PyObject_GC_IsFinalized,
    PyThread_get_thread_ident,
    Ref,
    ref,
)
from cython.cimports.hoop._c.swap import (
    METH_CLASS,
    METH_FASTCALL,
    METH_KEYWORDS,
    METH_NOARGS,
    METH_O,
    METH_VARARGS,
    hashfunc,
    hoop_fast_function,
    hoop_finalize_with,
    hoop_forget,
    hoop_function,
    hoop_hash_of,
    hoop_init_of,
    hoop_set_hash,
    hoop_set_init,
    hoop_set_method,
    hoop_swap_function,
    initproc,
)
from cython.cimports.hoop.scheduling import task as task_module
from cython.cimports.hoop.scheduling.attributes import Attributed
from cython.cimports.hoop.scheduling.future import Future
from cython.cimports.hoop.sim.driver import Choices, SimDriver

from hoop.observe.reading import serials
from hoop.scheduling.coroutine import NativeCoroutine
from hoop.scheduling.future import Future as FutureType
from hoop.scheduling.handle import Handle

EPOCH_NS = cython.declare(cython.longlong, 1_735_689_600_000_000_000)  # 2025 begins, in UTC
ORIGIN_NS = cython.declare(cython.longlong, 1_000_000_000_000)
NANOSECONDS = cython.declare(cython.double, 1e-9)
LONGEST_SLEEP = cython.declare(cython.double, 1e9)

_datetime = cython.declare(object, datetime.datetime)
_date = cython.declare(object, datetime.date)
_localtime = cython.declare(object, time.localtime)
_Thread = cython.declare(object, threading.Thread)
_KeyedRef = cython.declare(object, weakref.KeyedRef)
_BaseProtocol = cython.declare(object, asyncio.BaseProtocol)
sleeping = cython.declare(object, None)  # function in place of time.sleep(), or None
octets = cython.declare(Choices, None)  # the bytes of os.urandom()
hashes = cython.declare(Choices, None)  # for hashes of objects; None if these count up
hashed = cython.declare(cython.Py_ssize_t, 0)
hash_seed = cython.declare(cython.ulonglong, 0)
by_class = cython.declare(dict, {})  # the same for other classes: a stream of each, or a count


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def in_world() -> cython.bint:
    return ruling is not None and PyThread_get_thread_ident() == ruled


@cython.cfunc
@cython.exceptval(check=False)
def rule_in(ident: cython.ulong) -> cython.void:
    """Have another thread run the world."""
    global ruled
    ruled = ident


def is_inside() -> bool:
    """Return whether this thread runs a world."""
    return in_world()


# ---- time ------------------------------------------------------------------------------------------

_time = cython.declare(hoop_function, cython.NULL)
_time_ns = cython.declare(hoop_function, cython.NULL)
_monotonic = cython.declare(hoop_function, cython.NULL)
_monotonic_ns = cython.declare(hoop_function, cython.NULL)
_perf_counter = cython.declare(hoop_function, cython.NULL)
_perf_counter_ns = cython.declare(hoop_function, cython.NULL)
_sleep = cython.declare(hoop_function, cython.NULL)
_gmtime = cython.declare(hoop_function, cython.NULL)
_local = cython.declare(hoop_function, cython.NULL)
_ctime = cython.declare(hoop_function, cython.NULL)
_asctime = cython.declare(hoop_function, cython.NULL)
_strftime = cython.declare(hoop_function, cython.NULL)
_urandom = cython.declare(hoop_function, cython.NULL)
_utcnow = cython.declare(hoop_function, cython.NULL)
_today = cython.declare(hoop_function, cython.NULL)
_now = cython.declare(hoop_fast_function, cython.NULL)


@cython.cfunc
def virtual_time(module: Ref, unused: Ref) -> object:
    if not in_world():
        return _time(module, unused)
    return (EPOCH_NS + ruling.clock.ns) * NANOSECONDS


@cython.cfunc
def virtual_time_ns(module: Ref, unused: Ref) -> object:
    if not in_world():
        return _time_ns(module, unused)
    return EPOCH_NS + ruling.clock.ns


@cython.cfunc
def virtual_monotonic(module: Ref, unused: Ref) -> object:
    if not in_world():
        return _monotonic(module, unused)
    return ruling.seconds()


@cython.cfunc
def virtual_monotonic_ns(module: Ref, unused: Ref) -> object:
    if not in_world():
        return _monotonic_ns(module, unused)
    return ORIGIN_NS + ruling.clock.ns


@cython.cfunc
def virtual_perf_counter(module: Ref, unused: Ref) -> object:
    if not in_world():
        return _perf_counter(module, unused)
    return ruling.seconds()


@cython.cfunc
def virtual_perf_counter_ns(module: Ref, unused: Ref) -> object:
    if not in_world():
        return _perf_counter_ns(module, unused)
    return ORIGIN_NS + ruling.clock.ns


@cython.cfunc
def virtual_sleep(module: Ref, seconds: Ref) -> object:
    """Let time pass while no task runs, as a sleep that blocks the loop does."""
    if not in_world():
        return _sleep(module, seconds)
    given = cython.cast(object, seconds)
    length: cython.double
    try:
        length = given
    except TypeError:
        return _sleep(module, seconds)  # it has the right message
    if not 0 <= length <= LONGEST_SLEEP:
        return _sleep(module, seconds)
    if sleeping is not None:
        sleeping(length)
    else:
        ruling.pass_time(cython.cast(cython.longlong, length * 1e9))
    return None


def sleep_by(function: Callable[[float], object] | None) -> None:
    """Have time.sleep() in the world call a function with its seconds. None has it let time pass."""
    global sleeping
    sleeping = function


@cython.cfunc
def with_time(args: tuple) -> object:
    """The arguments of localtime() and its like, with virtual time in the place of a missing one."""
    if len(args) == 0 or (len(args) == 1 and args[0] is None):
        return ((EPOCH_NS + ruling.clock.ns) * NANOSECONDS,)
    return args


@cython.cfunc
def virtual_gmtime(module: Ref, args: Ref) -> object:
    if not in_world():
        return _gmtime(module, args)
    given = with_time(cython.cast(object, args))
    return _gmtime(module, ref(given))


@cython.cfunc
def virtual_localtime(module: Ref, args: Ref) -> object:
    if not in_world():
        return _local(module, args)
    given = with_time(cython.cast(object, args))
    return _local(module, ref(given))


@cython.cfunc
def virtual_ctime(module: Ref, args: Ref) -> object:
    if not in_world():
        return _ctime(module, args)
    given = with_time(cython.cast(object, args))
    return _ctime(module, ref(given))


@cython.cfunc
def virtual_asctime(module: Ref, args: Ref) -> object:
    if not in_world():
        return _asctime(module, args)
    given = cython.cast(object, args)
    if len(given) == 0:
        given = (_localtime(),)
    return _asctime(module, ref(given))


@cython.cfunc
def virtual_strftime(module: Ref, args: Ref) -> object:
    if not in_world():
        return _strftime(module, args)
    given = cython.cast(object, args)
    if len(given) == 1:
        given = (given[0], _localtime())
    return _strftime(module, ref(given))


@cython.cfunc
def at_virtual_time(cls, zone) -> object:
    at: cython.longlong = EPOCH_NS + ruling.clock.ns
    return cls.fromtimestamp(at // 1_000_000_000, zone).replace(
        microsecond=at % 1_000_000_000 // 1000
    )


@cython.cfunc
def virtual_now(cls: Ref, args: cython.pointer[Ref], n: cython.Py_ssize_t, names: Ref) -> object:
    real = _now(cls, args, n, names)  # it checks the arguments
    return at_virtual_time(cython.cast(object, cls), real.tzinfo) if in_world() else real


@cython.cfunc
def virtual_utcnow(cls: Ref, unused: Ref) -> object:
    real = _utcnow(cls, unused)  # it warns, where Python does
    if not in_world():
        return real
    return at_virtual_time(cython.cast(object, cls), datetime.UTC).replace(tzinfo=None)


@cython.cfunc
def virtual_today(cls: Ref, unused: Ref) -> object:
    if not in_world():
        return _today(cls, unused)
    kind = cython.cast(object, cls)
    if issubclass(kind, _datetime):
        return at_virtual_time(kind, None)
    return kind.fromtimestamp((EPOCH_NS + ruling.clock.ns) // 1_000_000_000)


@cython.cfunc
def seeded_urandom(module: Ref, size: Ref) -> object:
    if not in_world():
        return _urandom(module, size)
    given = cython.cast(object, size)
    length: cython.Py_ssize_t
    try:
        length = given
    except (TypeError, OverflowError):
        return _urandom(module, size)  # it has the right message
    return _urandom(module, size) if length < 0 else octets.octets(length)


@cython.final
@cython.cclass
class Swap:
    """A function of CPython's, and ours that takes its place while a world runs."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put_ours(self) -> cython.int:
        self.real[0] = cython.cast(
            hoop_function,
            hoop_swap_function(self.function, self.flags, cython.cast(cython.p_void, self.ours)),
        )
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put_back(self) -> cython.int:
        hoop_swap_function(self.function, self.flags, cython.cast(cython.p_void, self.real[0]))
        return 0


@cython.cfunc
def swap(
    function, flags: cython.int, ours: hoop_function, real: cython.pointer[hoop_function]
) -> Swap:
    """A swap of `function`, whose own code goes to `real`."""
    made: Swap = Swap.__new__(Swap)
    made.function = function
    made.flags = flags
    made.ours = ours
    made.real = real
    return made


@cython.cfunc
def all_swaps() -> list:
    plain: cython.int = METH_NOARGS
    of_class: cython.int = METH_NOARGS | METH_CLASS
    fast_of_class: cython.int = METH_FASTCALL | METH_KEYWORDS | METH_CLASS
    return [
        swap(time.time, plain, virtual_time, cython.address(_time)),
        swap(time.time_ns, plain, virtual_time_ns, cython.address(_time_ns)),
        swap(time.monotonic, plain, virtual_monotonic, cython.address(_monotonic)),
        swap(time.monotonic_ns, plain, virtual_monotonic_ns, cython.address(_monotonic_ns)),
        swap(time.perf_counter, plain, virtual_perf_counter, cython.address(_perf_counter)),
        swap(
            time.perf_counter_ns, plain, virtual_perf_counter_ns, cython.address(_perf_counter_ns)
        ),
        swap(time.sleep, METH_O, virtual_sleep, cython.address(_sleep)),
        swap(time.gmtime, METH_VARARGS, virtual_gmtime, cython.address(_gmtime)),
        swap(time.localtime, METH_VARARGS, virtual_localtime, cython.address(_local)),
        swap(time.ctime, METH_VARARGS, virtual_ctime, cython.address(_ctime)),
        swap(time.asctime, METH_VARARGS, virtual_asctime, cython.address(_asctime)),
        swap(time.strftime, METH_VARARGS, virtual_strftime, cython.address(_strftime)),
        swap(os.urandom, METH_O, seeded_urandom, cython.address(_urandom)),
        swap(_date.__dict__["today"], of_class, virtual_today, cython.address(_today)),
        swap(_datetime.__dict__["utcnow"], of_class, virtual_utcnow, cython.address(_utcnow)),
        swap(
            _datetime.__dict__["now"],
            fast_of_class,
            cython.cast(hoop_function, virtual_now),
            cython.cast(cython.pointer[hoop_function], cython.address(_now)),
        ),
    ]


_swapped = cython.declare(list, [])


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_back() -> cython.int:
    one: Swap
    while _swapped:
        one = _swapped.pop()
        one.put_back()
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def put_ours() -> cython.int:
    """Put all of ours in place, or none if one cannot be."""
    one: Swap
    try:
        for one in all_swaps():
            one.put_ours()
            _swapped.append(one)
    except BaseException:
        put_back()
        raise
    return 0


# ---- hashes ----------------------------------------------------------------------------------------

# Objects without a class of Python code's, which programs and asyncio keep in sets: as_completed() does.
_suspended = cython.declare(
    tuple, (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType, NativeCoroutine)
)
_Function = cython.declare(object, types.FunctionType)
_hash_method = cython.declare(hashfunc, cython.NULL)  # of bound methods

# By the address of an object: its hash, and a weak reference that takes the entry away. In place of the
# reference is None if the object's finalizer does that, and FINALIZED if that has been called.
FINALIZED = cython.declare(object, object())
numbered = cython.declare(dict, {})
_by_address = cython.declare(hashfunc, hoop_hash_of(object))
_by_number = cython.declare(hashfunc, cython.NULL)
# Flags of classes. Those that Python code makes are heap types.
HEAPTYPE = cython.declare(object, 1 << 9)
HAVE_GC = cython.declare(object, 1 << 14)
IMMUTABLETYPE = cython.declare(object, 1 << 8)
classes_hash = cython.declare(cython.bint, False)  # by number


class Plain:
    """A class that Python code makes."""


_plain = cython.declare(object, Plain)


def _forget(reference) -> None:
    """An object dies, or the collector has found a cycle with it, whose finalizers may still hash it."""
    address: cython.ulonglong = reference.key
    found = numbered.get(address)
    if found is None or found[1] is not reference:
        return
    o: Ref = cython.cast(Ref, address)
    if Py_REFCNT(o) == 0:
        del numbered[address]
    else:
        numbered[address] = (found[0], _KeyedRef(cython.cast(object, o), _forget, address))


@cython.cfunc
@cython.exceptval(check=False)
def forget_dead(o: Ref) -> cython.void:
    hoop_forget(numbered, o, FINALIZED)


@cython.cfunc
@cython.inline
@cython.exceptval(-1)
def is_of(mark, o: Ref) -> cython.bint:
    """Whether an entry is that of an object, and not that of a dead one at its address."""
    if mark is None:
        return True
    if mark is FINALIZED:
        return PyObject_GC_IsFinalized(o) != 0
    # Python clears a reference that was made while a finalizer ran, and does not call _forget() then.
    return mark() is cython.cast(object, o)


@cython.cfunc
@cython.exceptval(check=False)
def of_world(o: object) -> cython.bint:
    """Whether the world that runs decides an object's hash. A future has to be one of its own."""
    if not in_world():
        return False
    if isinstance(o, Future):
        loop = cython.cast(Future, o).loop
        if loop is None or type(loop.driver) is not SimDriver:
            return False
        return cython.cast(SimDriver, loop.driver).clock is ruling.clock  # also for a host's loop
    return True


@cython.cfunc
@cython.exceptval(-1, check=True)
def hash_by_number(o: Ref) -> cython.Py_ssize_t:
    address: cython.ulonglong = cython.cast(cython.ulonglong, o)
    hashed_one = cython.cast(object, o)
    found = numbered.get(address)
    if found is not None and is_of(found[1], o):
        return found[0]
    kind = type(hashed_one)
    if isinstance(hashed_one, type):
        return _by_address(o)  # it may be its own class
    if hoop_hash_of(kind) != _by_number:
        return _by_address(o)  # object.__hash__() was called, and this class has another way
    decided: cython.bint = of_world(hashed_one)
    if not decided and isinstance(hashed_one, Future):
        return _by_address(o)  # in each world
    try:
        mark = _KeyedRef(hashed_one, _forget, address)
    except TypeError:  # it has __slots__
        mark = FINALIZED if PyObject_GC_IsFinalized(o) else None
        if not hoop_finalize_with(kind, _plain, forget_dead):
            return _by_address(o)  # nobody could say when it dies
    number = next_number(kind) if decided else _by_address(o)
    numbered[address] = (number, mark)
    return number


@cython.cfunc
@cython.exceptval(-1, check=True)
def next_number(kind) -> cython.Py_ssize_t:
    """The hash for a new object of a class. Each class counts for itself, and futures do together.

    A library may make an object in the first run only, and keep it. That changes no hash of another class.
    """
    global hashed
    drawn: Choices = hashes
    if not issubclass(kind, Future):
        found = by_class.get(kind)
        if hashes is None:
            found = by_class[kind] = 1 if found is None else found + 1
            return found
        if found is None:
            name = f"{kind.__module__}.{kind.__qualname__}"
            found = by_class[kind] = Choices(hash_seed, zlib.crc32(name.encode()))
        drawn = found
    elif hashes is None:
        hashed += 1
        return hashed
    return cython.cast(cython.Py_ssize_t, drawn.draw() >> 2)


@cython.cfunc
@cython.exceptval(-1, check=True)
def hash_method(o: Ref) -> cython.Py_ssize_t:
    """The hash of a bound method: that of its object, if the world has given it one."""
    method = cython.cast(object, o)
    owner = method.__self__
    if hoop_hash_of(type(owner)) != _by_number:
        return _hash_method(o)
    number: cython.Py_ssize_t = hash_by_number(ref(owner))
    if number == _by_address(ref(owner)):
        return _hash_method(o)
    function = method.__func__
    if type(function) is _Function:
        number ^= zlib.crc32(function.__qualname__.encode())
    return -2 if number == -1 else number


@cython.cfunc
@cython.exceptval(-1, check=False)
def hash_class(cls) -> cython.int:
    """Have a class and its subclasses hash their objects by number, unless they have a way of their own."""
    if hoop_hash_of(cls) == _by_address:
        hoop_set_hash(cls, _by_number)
    for below in type.__subclasses__(cls):
        hash_class(below)
    return 0


@cython.cfunc
@cython.exceptval(-1)
def hash_unused_classes(above, used: set, seen: set) -> cython.int:
    """Have the Python classes below a class hash by number, unless objects of them may have been hashed."""
    changeable: cython.bint
    for cls in type.__subclasses__(above):
        if id(cls) in seen:
            continue
        seen.add(id(cls))
        # The collector does not know the objects of a class that has no fields.
        changeable = cls.__flags__ & (HEAPTYPE | IMMUTABLETYPE | HAVE_GC) == HEAPTYPE | HAVE_GC
        if changeable and id(cls) not in used and hoop_hash_of(cls) == _by_address:
            hoop_set_hash(cls, _by_number)
        hash_unused_classes(cls, used, seen)
    return 0


def hash_classes(all_objects: Callable[[], list[object]]) -> None:
    """Have classes hash by number: those of which no object is there yet, and those that are made later.

    Only the first call does something. One of typing's classes warns if it is compared, hence the addresses.
    """
    global classes_hash, _by_number, _hash_method
    if classes_hash:
        return
    _by_number = cython.cast(hashfunc, hash_by_number)
    used = {id(type(one)) for one in all_objects()}
    hash_unused_classes(object, used, {id(type)})
    # Servers keep sets of protocols, and of transports.
    for cls in (FutureType, _asyncio.Future, _BaseProtocol, Attributed, Handle, *_suspended):
        hash_class(cls)
    # Executors keep sets of threads. Those that are there may have been hashed, and keep their hashes.
    hash_class(_Thread)
    for one in all_objects():
        if isinstance(one, _Thread) or type(one) in _suspended:
            hash(one)
    _hash_method = hoop_hash_of(types.MethodType)
    hoop_set_hash(types.MethodType, cython.cast(hashfunc, hash_method))
    hoop_set_method(object.__hash__, cython.cast(cython.p_void, _by_number))
    classes_hash = True


# ---- names of tasks --------------------------------------------------------------------------------

_init_task = cython.declare(initproc, cython.NULL)  # of asyncio's own class


def next_task() -> int:
    """Count a task, for the name of one that has none."""
    task_module.tasks_made += 1
    return task_module.tasks_made


@cython.cfunc
@cython.exceptval(-1, check=False)
def init_task(o: Ref, args: Ref, keywords: Ref) -> cython.int:
    """Task.__init__() of asyncio's own class, which counts the tasks of the process."""
    if not in_world():
        return _init_task(o, args, keywords)
    named: dict = {} if keywords is cython.NULL else dict(cython.cast(object, keywords))
    if named.get("name") is None:
        named["name"] = f"Task-{next_task()}"
    if _init_task(o, args, ref(named)) < 0:
        return -1
    serials.of(cython.cast(object, o))  # reports have tasks in the order of these
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def name_tasks_of(cls) -> cython.int:
    """Have a class and its subclasses name their tasks, unless they have an `__init__` of their own."""
    if hoop_init_of(cls) == _init_task:
        hoop_set_init(cls, cython.cast(initproc, init_task))
    for below in type.__subclasses__(cls):
        name_tasks_of(below)
    return 0


@cython.cfunc
@cython.exceptval(-1)
def name_tasks() -> cython.int:
    """Have worlds name the tasks of asyncio's own class. Only the first call does something."""
    global _init_task
    if _init_task != cython.NULL:
        return 0
    _init_task = hoop_init_of(_asyncio.Task)
    method = _asyncio.Task.__init__
    name_tasks_of(_asyncio.Task)
    return hoop_set_method(method, cython.cast(cython.p_void, init_task))


# ---- the world -------------------------------------------------------------------------------------


def begin(driver: SimDriver, for_octets: Choices, for_hashes: Choices | None) -> None:
    """A world begins to run on this thread, with this driver. Without a stream for them, hashes count up."""
    global ruling, ruled, octets, hashes, hashed, hash_seed
    if ruling is not None:
        raise RuntimeError("another simulation runs in this process")
    hashed = 0
    octets = for_octets
    hashes = for_hashes
    if for_hashes is not None:
        hash_seed = for_hashes.state
    name_tasks()
    put_ours()
    ruled = PyThread_get_thread_ident()
    ruling = driver


def end() -> None:
    """The world has ended."""
    global ruling, ruled, octets, hashes
    ruling = octets = hashes = None
    ruled = 0
    by_class.clear()
    put_back()
