"""Runs in processes of their own: each begins with the same memory, and several can run at once."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

from hoop.sim.errors import SimError, Stuck
from hoop.sim.points import add_happened
from hoop.sim.running import Choice
from hoop.sim.search.outcome import Outcome, Subject
from hoop.sim.stuck import Watcher

_T = TypeVar("_T")


class Ended(NamedTuple):
    """The exception that has ended the work of a process."""

    error: BaseException


class Child:
    """A process that does some work, and sends the result, which pickle must know."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.has_ended = False
        read_end, write_end = os.pipe()
        self.pipe = open(read_end, "rb")  # noqa: SIM115, closed by result() or end()
        _flush()
        with warnings.catch_warnings():
            # Other threads may run, and Python warns of that. The child leaves alone all that is theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            self.pipe.close()
            _work(work, write_end)
        os.close(write_end)

    def result(self) -> Any:
        """Wait for the end, and return the result. Raises the exception that has ended the work.

        Raises SimError if the process ended without a result.
        """
        with self.pipe:
            sent = self.pipe.read()
        _, status = os.waitpid(self.pid, 0)
        self.has_ended = True
        if sent:
            result = pickle.loads(sent)
            if isinstance(result, Ended):
                raise result.error
            return result
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            raise Stuck("the process of a run was killed: its code did not come back to the loop")
        code = os.waitstatus_to_exitcode(status)
        raise SimError(f"the process of a run ended with code {code}, and sent no result")

    def end(self) -> None:
        """Kill the process if nobody has waited for its end."""
        if not self.has_ended:
            self.pipe.close()
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.has_ended = True


def _work(work: Callable[[], Any], write_end: int) -> NoReturn:
    """Do the work in the child. Nothing else of the program goes on in it."""
    code = 1
    try:
        try:
            sent = pickle.dumps(work())
        except BaseException as exc:  # the parent raises it
            sent = pickle.dumps(Ended(sendable(exc)))
        with open(write_end, "wb") as pipe:
            pipe.write(sent)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def _flush() -> None:
    """Write what print() has kept back, so that it comes once, from the process that printed it."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def sendable(error: BaseException) -> BaseException:
    """An exception that pickle knows, with its traceback as a note."""
    text = "".join(traceback.format_exception(error)).rstrip()
    copy: BaseException = SimError(f"{type(error).__qualname__}: {error}")
    try:
        loaded = pickle.loads(pickle.dumps(error))
    except Exception as exc:  # classes decide what they need
        copy.add_note(f"its class cannot be sent: {exc}")
    else:
        copy = loaded if isinstance(loaded, BaseException) else copy
    copy.add_note(f"in the process of its run:\n{text}")
    return copy


class IsolatedSubject(Subject):
    """A program that runs in a process of its own each time."""

    def once(
        self,
        seed: int,
        *,
        given: Sequence[Choice] | None = None,
        record: bool = False,
        explain: bool = False,
        trace: Any = None,
    ) -> Outcome:
        """Run a seed in another process. The exception is a copy."""

        def work() -> tuple[Outcome, dict[str, bool]]:
            self.happened.clear()
            with Watcher(self.settings.stuck, fatal=True) as self.watcher:
                outcome = Subject.once(
                    self, seed, given=given, record=record, explain=explain, trace=trace
                )
            if outcome.error is not None:
                outcome.error = sendable(outcome.error)
            if hasattr(trace, "flush"):
                trace.flush()
            return outcome, self.happened

        try:
            outcome, happened = Child(work).result()
        except SimError as exc:
            return Outcome(exc, f"{type(exc).__name__}: {exc}", (type(exc).__name__,))
        add_happened(self.happened, happened)
        return outcome  # type: ignore[no-any-return]


def in_parallel(subject: Subject, seeds: Sequence[int], workers: int) -> list[int]:
    """Run seeds in so many processes. Returns those that failed, in their order."""

    def share_of(first: int) -> tuple[list[int], dict[str, bool]]:
        subject.happened.clear()
        failed = []
        with Watcher(subject.settings.stuck, fatal=True) as subject.watcher:
            for seed in seeds[first::workers]:
                if subject.once(seed).error is not None:
                    failed.append(seed)
        return failed, subject.happened

    children = [Child(lambda first=first: share_of(first)) for first in range(workers)]  # type: ignore[misc]
    failed: set[int] = set()
    errors = []
    try:
        for child in children:
            try:
                found, happened = child.result()
            except SimError as exc:
                errors.append(exc)
                continue
            failed.update(found)
            add_happened(subject.happened, happened)
    finally:
        for child in children:
            child.end()
    if errors:
        raise errors[0]
    return [seed for seed in seeds if seed in failed]


__all__ = ["IsolatedSubject", "in_parallel"]
