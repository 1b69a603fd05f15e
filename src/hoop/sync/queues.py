"""Queues between tasks: first in first out, last in first out, or lowest item first.

They behave as asyncio.Queue and its subclasses do.

    Queue               (a Primitive, waiting.py)
      PriorityQueue
      LifoQueue

An object of exactly one of these classes puts and gets items without a method call. A subclass may have
replaced `_put` or `_get`, and so may an attribute on the object. Then hoop calls those methods by name, as
asyncio does.
"""

from __future__ import annotations

import asyncio
import collections
import heapq
import types

import cython
from cython.cimports.hoop.scheduling.coroutine import OVER, Method, NativeCoroutine, new_coroutine
from cython.cimports.hoop.sync.locks import Event
from cython.cimports.hoop.sync.waiting import (
    Primitive,
    append,
    finish_class,
    is_cancelled,
    leave,
    popleft,
    wait_in,
    wake,
)
from cython.cimports.libc.limits import LONG_MAX

QueueEmpty = cython.declare(object, asyncio.QueueEmpty)
QueueFull = cython.declare(object, asyncio.QueueFull)
deque = cython.declare(object, collections.deque)
_heappush = cython.declare(object, heapq.heappush)
_heappop = cython.declare(object, heapq.heappop)

if hasattr(asyncio, "QueueShutDown"):
    QueueShutDown = asyncio.QueueShutDown
else:

    class QueueShutDown(Exception):  # type: ignore[no-redef]
        """Raised by get() and put() once a queue is shut down. It is asyncio's own from Python 3.13 on.

        For example:

            try:
                item = await queue.get()
            except hoop.QueueShutDown:
                return
        """

        __module__ = "hoop"


@cython.trashcan(True)
@cython.cclass
class Queue(Primitive):
    """A queue of items between tasks, first in, first out. See asyncio.Queue.

    `maxsize` is the largest number of items: put() waits while the queue is full. A size of 0 or less means
    no limit. shutdown() exists on every Python, also where asyncio.Queue has none.

        queue = hoop.Queue(100)
        await queue.put("work")
        item = await queue.get()
        queue.task_done()
    """

    def _state_names(self):
        return (
            "_maxsize",
            "_queue",
            "_getters",
            "_putters",
            "_unfinished_tasks",
            "_is_shutdown",
            "_finished",
        )

    def __cinit__(self):
        if not self.is_ours:
            self.order = CUSTOM

    def __init__(self, maxsize=0):
        self.set_maxsize(maxsize)
        self._init(maxsize)

    # ---- for subclasses to replace ----

    def _init(self, maxsize):
        """Make `self._queue`. A subclass may replace this method."""
        self.hold(deque())

    def _put(self, item):
        """Put an item into `self._queue`. A subclass may replace this method."""
        self.items.append(item)

    def _get(self):
        """Take the next item out of `self._queue`. A subclass may replace this method."""
        return self.items.popleft()

    # ---- how it stands ----

    @property
    def maxsize(self):
        """The largest number of items; 0 means no limit."""
        return self.maxsize_

    def qsize(self):
        """Return the number of items in the queue."""
        return len(self.items)

    def empty(self):
        """Return True if the queue has no items."""
        return not len(self.items)

    def full(self):
        """Return True if the queue holds `maxsize` items."""
        if self.is_simple():
            return self.is_full()
        return self.maxsize_ > 0 and self.qsize() >= self.maxsize_

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def is_empty(self) -> cython.bint:
        if self.is_simple():
            return not len(self.items)
        return bool(self.empty())

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def is_full(self) -> cython.bint:
        if self.is_simple():
            return len(self.items) >= self.limit
        return bool(self.full())

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def hold(self, items) -> cython.int:
        self.items = items
        if type(items) is not (deque if self.order == FIFO else list):
            self.order = CUSTOM
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def set_maxsize(self, maxsize) -> cython.int:
        self.maxsize_ = maxsize
        if type(maxsize) is not int:
            self.order = CUSTOM  # math.inf, for example
        elif 0 < maxsize < LONG_MAX:
            self.limit = maxsize
        else:
            self.limit = LONG_MAX
        return 0

    # ---- in and out ----

    @cython.binding(True)
    def put(self, item):
        """Put an item into the queue; wait first while the queue is full.

        Raises QueueShutDown if the queue is or gets shut down.
        """
        return new_coroutine(PUT, self, item)

    @cython.binding(True)
    def get(self):
        """Take the next item out of the queue and return it; wait first while the queue is empty.

        Raises QueueShutDown if the queue is empty and shut down.
        """
        return new_coroutine(GET, self, None)

    def put_nowait(self, item):
        """Put an item into the queue without waiting.

        Raises asyncio.QueueFull if the queue is full, and QueueShutDown after shutdown().
        """
        if self.is_shutdown:
            raise QueueShutDown
        if self.is_full():
            raise QueueFull
        self.add(item)

    def get_nowait(self):
        """Take the next item out of the queue without waiting, and return it.

        Raises asyncio.QueueEmpty if the queue is empty, and QueueShutDown if it is empty and shut down.
        """
        if self.is_empty():
            raise QueueShutDown if self.is_shutdown else QueueEmpty
        return self.take()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def add(self, item) -> cython.int:
        if not self.is_simple():
            self._put(item)
        elif self.order == FIFO:
            append(self.items, item)
        elif self.order == LIFO:
            cython.cast(list, self.items).append(item)
        else:
            _heappush(self.items, item)
        self.unfinished += 1
        if self.finished is not None:
            self.finished.flag = False
        return wake_next(self.getters)

    @cython.cfunc
    def take(self) -> object:
        if not self.is_simple():
            item = self._get()
        elif self.order == FIFO:
            item = popleft(self.items)
        elif self.order == LIFO:
            item = cython.cast(list, self.items).pop()
        else:
            item = _heappop(self.items)
        wake_next(self.putters)
        return item

    # ---- the end ----

    def task_done(self):
        """Tell the queue that one item taken by get() has been processed: join() waits for that.

        Raises ValueError if every item was reported already.
        """
        if self.unfinished <= 0:
            raise ValueError("task_done() called too many times")
        self.count_done(1)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def count_done(self, n: cython.Py_ssize_t) -> cython.int:
        self.unfinished = max(self.unfinished - n, 0)
        if self.unfinished == 0 and self.finished is not None:
            self.finished.raise_flag()
        return 0

    @cython.binding(True)
    def join(self):
        """Wait until task_done() was called for every item that was put in.

        For example:

            await queue.join()  # all work is done
        """
        return new_coroutine(JOIN, self, None)

    def shutdown(self, immediate=False):
        """Close the queue: put() raises QueueShutDown, and get() does so once the queue is empty.

        With `immediate` the queue drops its items, and counts them as done for join().

            queue.shutdown()  # consumers get what is left, then QueueShutDown
        """
        self.is_shutdown = True
        if immediate:
            dropped: cython.Py_ssize_t = 0
            while not self.is_empty():
                self._get()
                dropped += 1
            self.count_done(dropped)
        for waiters in (self.getters, self.putters):  # each looks at the queue again
            while waiters:
                wake_next(waiters)

    # ---- what asyncio's has ----

    @classmethod
    def __class_getitem__(cls, item):
        return types.GenericAlias(cls, item)

    def __repr__(self):
        return f"<{type(self).__name__} at {id(self):#x} {self._format()}>"

    def __str__(self):
        return f"<{type(self).__name__} {self._format()}>"

    def _format(self):
        parts = [f"maxsize={self.maxsize_!r}"]
        if self.items:
            parts.append(f"_queue={list(self.items)!r}")
        if self.getters:
            parts.append(f"_getters[{len(self.getters)}]")
        if self.putters:
            parts.append(f"_putters[{len(self.putters)}]")
        if self.unfinished:
            parts.append(f"tasks={self.unfinished}")
        if self.is_shutdown:
            parts.append("shutdown")
        return " ".join(parts)

    def _wakeup_next(self, waiters):
        wake_next(waiters)

    @property
    def _queue(self):
        return self.items

    @_queue.setter
    def _queue(self, items):
        self.hold(items)

    @property
    def _maxsize(self):
        return self.maxsize_

    @_maxsize.setter
    def _maxsize(self, maxsize):
        self.set_maxsize(maxsize)

    @property
    def _getters(self):
        if self.getters is None:
            self.getters = deque()
        return self.getters

    @_getters.setter
    def _getters(self, getters):
        self.getters = getters

    @property
    def _putters(self):
        if self.putters is None:
            self.putters = deque()
        return self.putters

    @_putters.setter
    def _putters(self, putters):
        self.putters = putters

    @property
    def _unfinished_tasks(self):
        return self.unfinished

    @_unfinished_tasks.setter
    def _unfinished_tasks(self, n):
        self.unfinished = n

    @property
    def _finished(self):
        if self.finished is None:
            self.finished = Event()
            self.finished.flag = self.unfinished == 0
        return self.finished

    @_finished.setter
    def _finished(self, event):
        self.finished = event

    @property
    def _is_shutdown(self):
        return self.is_shutdown

    @_is_shutdown.setter
    def _is_shutdown(self, value: cython.bint):
        self.is_shutdown = value


@cython.cclass
class PriorityQueue(Queue):
    """A queue that gives the lowest item first. Items must be comparable. See asyncio.PriorityQueue.

    For example:

        queue = hoop.PriorityQueue()
        queue.put_nowait((2, "later"))
        queue.put_nowait((1, "sooner"))
        priority, name = await queue.get()  # 1, "sooner"
    """

    def __cinit__(self):
        if self.is_ours:
            self.order = LOWEST

    def _init(self, maxsize):
        self.hold([])

    def _put(self, item):
        _heappush(self.items, item)

    def _get(self):
        return _heappop(self.items)


@cython.cclass
class LifoQueue(Queue):
    """A queue that gives the newest item first: last in, first out. See asyncio.LifoQueue.

    For example:

        stack = hoop.LifoQueue()
        stack.put_nowait(1)
        stack.put_nowait(2)
        newest = await stack.get()  # 2
    """

    def __cinit__(self):
        if self.is_ours:
            self.order = LIFO

    def _init(self, maxsize):
        self.hold([])

    def _put(self, item):
        self.items.append(item)

    def _get(self):
        return self.items.pop()


@cython.final
@cython.cclass
class Get(Method):
    """queue.get()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        queue: Queue = cython.cast(Queue, c.owner)
        if queue.is_empty():
            if queue.is_shutdown:
                raise QueueShutDown
            if queue.getters is None:
                queue.getters = deque()
            return wait_in(c, queue.getters, queue.new_waiter())
        c.value = queue.take() if queue.is_simple() else queue.get_nowait()
        return OVER

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        return self.begin(c)  # another task may have taken the item meanwhile

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        queue: Queue = cython.cast(Queue, c.owner)
        give_up(queue.getters, c.future)
        # If this task was woken for an item, wake the next one for it.
        if not queue.is_empty() and not is_cancelled(c.future):
            wake_next(queue.getters)
        raise error


@cython.final
@cython.cclass
class Put(Method):
    """queue.put()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        queue: Queue = cython.cast(Queue, c.owner)
        if queue.is_full():
            if queue.is_shutdown:
                raise QueueShutDown
            if queue.putters is None:
                queue.putters = deque()
            return wait_in(c, queue.putters, queue.new_waiter())
        if queue.is_simple() and not queue.is_shutdown:
            queue.add(c.value)
            c.value = None
        else:
            c.value = queue.put_nowait(c.value)
        return OVER

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def woken(self, c: NativeCoroutine) -> cython.int:
        return self.begin(c)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def failed(self, c: NativeCoroutine, error) -> cython.int:
        queue: Queue = cython.cast(Queue, c.owner)
        give_up(queue.putters, c.future)
        if not queue.is_full() and not is_cancelled(c.future):
            wake_next(queue.putters)
        raise error


@cython.final
@cython.cclass
class Join(Method):
    """queue.join()."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def begin(self, c: NativeCoroutine) -> cython.int:
        queue: Queue = cython.cast(Queue, c.owner)
        if queue.unfinished <= 0:
            return OVER
        return c.delegate(queue._finished.wait())


@cython.cfunc
@cython.exceptval(-1, check=False)
def wake_next(waiters) -> cython.int:
    """Wake the first task that was neither woken nor cancelled, and drop those before it from the deque."""
    if waiters is not None:
        while len(waiters):
            if wake(popleft(waiters), None):
                break
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def give_up(waiters, future) -> cython.int:
    """End a wait. The task that woke this one has taken it out of the deque already."""
    future.cancel()
    try:
        leave(waiters, future)
    except ValueError:
        pass
    return 0


GET = cython.declare(Get, Get("get", Queue))
PUT = cython.declare(Put, Put("put", Queue))
JOIN = cython.declare(Join, Join("join", Queue))

finish_class(Queue, asyncio.Queue, ("put", "get", "join"))
finish_class(PriorityQueue, asyncio.PriorityQueue, ())
finish_class(LifoQueue, asyncio.LifoQueue, ())
