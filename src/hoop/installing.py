"""The switch: install() makes hoop the event loop of a process that says `asyncio`, uninstall() undoes it."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import warnings
from asyncio import base_events
from typing import Any

from hoop import names as asyncio_names

logger = logging.getLogger("hoop")


class LoopSwitch:
    """The changes that install(loop=True) made, with the things that were there before."""

    def __init__(self) -> None:
        from hoop.loop import policy
        from hoop.loop.event_loop import EventLoop

        self._policies: Any = policy
        self._policy = policy.EventLoopPolicy()
        self._policy_before = policy.current()
        policy.put(self._policy)
        self._event_loop_before: Any = getattr(asyncio, "EventLoop", None)
        if sys.version_info >= (3, 13):  # there it is the name of the system's usual loop
            asyncio.EventLoop = EventLoop  # type: ignore[attr-defined]
        self._run_forever = base_events.BaseEventLoop.run_forever
        self._lazy_init: Any = asyncio.Runner._lazy_init  # type: ignore[attr-defined]
        told = Told()
        self._telling = _tell_of_another(self._run_forever, told)
        base_events.BaseEventLoop.run_forever = self._telling  # type: ignore[method-assign]
        self._telling_runner = _tell_of_a_runners(self._lazy_init, told)
        asyncio.Runner._lazy_init = self._telling_runner  # type: ignore[attr-defined]
        running = asyncio._get_running_loop()
        if running is not None and not isinstance(running, EventLoop):  # too late for this one
            told.once(running)

    def undo(self) -> None:
        """Put back what was there, except where your code has put something else meanwhile."""
        if self._policies.current() is self._policy:
            self._policies.put(self._policy_before)
        if self._event_loop_before is not None:
            asyncio.EventLoop = self._event_loop_before  # type: ignore[attr-defined]
        if base_events.BaseEventLoop.run_forever is self._telling:
            base_events.BaseEventLoop.run_forever = self._run_forever  # type: ignore[method-assign]
        if asyncio.Runner._lazy_init is self._telling_runner:  # type: ignore[attr-defined]
            asyncio.Runner._lazy_init = self._lazy_init  # type: ignore[attr-defined]


_switch: LoopSwitch | None = None


class Told:
    """Tells the log once that the program runs another loop."""

    def __init__(self) -> None:
        self._told = False

    def once(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._told:
            self._told = True
            cls = type(loop)
            logger.warning(
                "hoop is installed, but your program runs another loop: it has made a %s.%s itself. "
                "Give it hoop.EventLoop instead. `hoop doctor` has the line for your framework.",
                cls.__module__,
                cls.__qualname__,
            )


def _tell_of_another(run_forever: Any, told: Told) -> Any:
    """asyncio's run_forever(), which hoop's loop does not use. The first call says that a loop is another."""

    @functools.wraps(run_forever)
    def run_and_tell(self: asyncio.AbstractEventLoop) -> None:
        told.once(self)
        run_forever(self)

    return run_and_tell


def _tell_of_a_runners(lazy_init: Any, told: Told) -> Any:
    """asyncio.Runner._lazy_init(), which says that the loop is another. uvloop's is no BaseEventLoop.

    Not Runner.run(): that would add a frame to the traceback of every program.
    """
    from hoop.loop.event_loop import EventLoop

    @functools.wraps(lazy_init)
    def init_and_tell(self: Any) -> None:
        lazy_init(self)
        if not isinstance(self._loop, EventLoop):
            told.once(self._loop)

    return init_and_tell


def install(*, loop: bool = True, names: bool = True) -> None:
    """Let programs that say `asyncio` run on hoop, in the whole process. Call it before they start.

    With `loop`, asyncio.run(), asyncio.Runner, asyncio.new_event_loop() and the event loop policy make
    hoop's loop. If your program makes another loop nevertheless, asyncio's or uvloop's, a warning in the log
    `hoop` says so. So it does if another loop runs already.

    With `names`, `asyncio.Queue` is `hoop.Queue`, and so on with locks, streams, `sleep` and `create_task`.
    Objects made earlier stay as they are, and so does what `from asyncio import Queue` took before.

    A second call adds the parts that the first left out. If Linux is not the system, install() gives a
    RuntimeWarning and changes nothing.

        hoop.install()
        asyncio.run(main())  # on hoop; asyncio.Queue() in here makes a hoop.Queue
    """
    global _switch
    if sys.platform != "linux":
        warnings.warn(
            f"hoop's own event loop needs Linux; on {sys.platform} hoop.install() changes nothing",
            RuntimeWarning,
            stacklevel=2,
        )
        return
    if loop and _switch is None:
        _switch = LoopSwitch()
    if names:
        asyncio_names.replace()


def uninstall() -> None:
    """Undo install(): asyncio makes its own loops again, and has its own names.

    Loops that exist stay as they are. Does nothing if install() was not called.

        hoop.uninstall()
    """
    global _switch
    if _switch is not None:
        _switch.undo()
        _switch = None
    asyncio_names.restore()
