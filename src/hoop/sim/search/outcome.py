"""One run of an exploration, and how it has ended."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from hoop.sim.driver import Script
from hoop.sim.graph import without_addresses
from hoop.sim.running import Choice, Main, simulate
from hoop.sim.settings import Settings
from hoop.sim.stuck import Watcher

__tracebackhide__ = True  # pytest leaves the frames of this module out


@dataclasses.dataclass
class Outcome:
    """How a run has ended, and what it chose and ran, as far as somebody asked."""

    error: BaseException | None = None
    end: str = "passed"
    kind: tuple[str, ...] = ()  # the classes of the errors; empty if it passed
    trace: list[str] = dataclasses.field(default_factory=list)
    log: list[Choice] = dataclasses.field(default_factory=list)
    said: dict[int, tuple[int, str]] = dataclasses.field(default_factory=dict)
    parameters: dict[str, str] = dataclasses.field(default_factory=dict)
    injected: dict[str, int] = dataclasses.field(default_factory=dict)
    lines: int = 0  # of the trace, when the main task ended


def kinds_of(error: BaseException) -> tuple[str, ...]:
    """The names of an exception's class, or of the classes in a group, sorted."""
    if isinstance(error, BaseExceptionGroup):
        inner = {name for one in error.exceptions for name in kinds_of(one)}
        return tuple(sorted(inner))
    return (f"{type(error).__module__}.{type(error).__qualname__}",)


def end_of(error: BaseException) -> str:
    """An exception in words, without addresses."""
    return without_addresses(f"{type(error).__name__}: {error}")


def is_failure(error: BaseException) -> bool:
    """Whether an exception says that a seed has failed, so that others run all the same.

    All others end everything, such as KeyboardInterrupt, and pytest's for a test that is skipped.
    """
    if isinstance(error, Exception | asyncio.CancelledError | BaseExceptionGroup):
        return True
    pytest: Any = sys.modules.get("pytest")
    return (
        pytest is not None
        and isinstance(error, pytest.fail.Exception)
        and not isinstance(error, pytest.xfail.Exception)
        and not _comes_from_alarm(error)
    )


def _comes_from_alarm(error: BaseException) -> bool:
    """Whether the handler of SIGALRM raised it, as pytest-timeout does at the end of a test's time."""
    code = getattr(signal.getsignal(signal.SIGALRM), "__code__", None)
    return any(frame.f_code is code for frame, _ in traceback.walk_tb(error.__traceback__))


def _say_nothing(loop: Any, context: dict[str, Any]) -> None:
    """An exception handler that does not log what has been logged before."""


class Subject:
    """A program with its settings, to be run again and again."""

    def __init__(self, main: Main[Any], settings: Settings) -> None:
        self.main = main
        self.settings = settings
        self.happened: dict[str, bool] = {}
        self.watcher = Watcher(settings.stuck)
        self.told = False  # whether the first run has ended
        self.quiet = False  # whether the loop's exception handler says nothing
        self.forget: Callable[[], object] | None = None  # drops what runs have written so far

    def once(
        self,
        seed: int,
        *,
        given: Sequence[Choice] | None = None,
        record: bool = False,
        explain: bool = False,
        trace: Any = None,
    ) -> Outcome:
        """Run a seed, or with the choices that are given. Returns how it ended."""
        if self.forget is not None:
            self.forget()
        outcome = Outcome(trace=trace if isinstance(trace, list) else [])
        script = Script(seed, given, record, explain)

        def begin(loop: Any) -> None:
            outcome.parameters, outcome.injected = loop.parameters, loop.injected
            if self.quiet:
                loop.set_exception_handler(_say_nothing)

        def end(loop: Any, error: BaseException | None) -> None:
            outcome.lines = len(outcome.trace)
            # The exceptions of tasks that are cancelled are news in the first run only.
            if error is not None or self.told:
                loop.set_exception_handler(_say_nothing)
            self.told = True

        try:
            simulate(
                self.main,
                self.settings.of_seed(seed).with_copy_of_disk(),
                script,
                watcher=self.watcher,
                trace=trace,
                happened=self.happened,
                begin=begin,
                end=end,
            )
        except BaseException as exc:
            if not is_failure(exc):
                exc.add_note(f"sim: seed {seed} ended so")
                raise
            outcome.error = exc
            outcome.end = end_of(exc)
            outcome.kind = kinds_of(exc)
        finally:
            gc.collect(1)
        outcome.log = script.log or []
        outcome.said = script.said or {}
        return outcome
