"""Judges the results of a run: against the exceptions file, then against stock asyncio.

The outcomes a worker reports (passed, skipped, failed, hung, crashed) get three more here:

* ``excepted``: failed or hung, and the exceptions file says why that is all right
* ``stock``: did not pass, and does not pass on stock asyncio on this machine either
* ``surprise``: passed, although the exceptions file says that it cannot
"""

from __future__ import annotations

import dataclasses
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from supervisor import BAD, ModuleRun, Result

EXCEPTIONS = Path(__file__).resolve().parent / "exceptions.toml"
WRONG = (*BAD, "surprise")


@dataclasses.dataclass(frozen=True)
class Exceptions:
    """The excepted tests that concern the running Python, each with its reason."""

    reasons: dict[str, str]

    @classmethod
    def read(cls, path: Path = EXCEPTIONS, version: str | None = None) -> Exceptions:
        """Read the file; refuse a group without a reason and a test listed twice."""
        version = version or "{}.{}".format(*sys.version_info)
        reasons: dict[str, str] = {}
        for group in tomllib.loads(path.read_text()).get("group", []):
            unknown = group.keys() - {"reason", "tests", "python"}
            if unknown or not group.get("reason", "").strip():
                raise ValueError(f"{path.name}: every group needs a reason and tests: {group}")
            if version not in group.get("python", [version]):
                continue
            for test_id in group["tests"]:
                if test_id in reasons:
                    raise ValueError(f"{path.name}: {test_id} is listed twice")
                reasons[test_id] = " ".join(group["reason"].split())
        return cls(reasons)

    def apply(self, run: ModuleRun, complete: bool) -> None:
        """Judge a module's results; a ``complete`` run also shows which entries are stale."""
        for result in run.results:
            reason = self.reasons.get(result.id)
            if reason is None:
                continue
            if result.outcome in ("failed", "hung"):
                result.outcome = "excepted"
                result.detail = f"{reason}\n{result.detail}"
            elif result.outcome == "passed":
                result.outcome = "surprise"
                result.detail = f"passes, though excepted because: {reason}"
        if complete and run.plan:
            known = {*run.plan, *(result.id for result in run.results)}
            for test_id in self.reasons:
                if test_id.startswith(run.module + ".") and test_id not in known:
                    detail = "is excepted, but there is no such test on this Python"
                    run.results.append(Result(test_id, "surprise", detail))


def rerun_on_stock(run: ModuleRun) -> tuple[str, ...]:
    """The tests to repeat on stock asyncio: those that did not pass and have no excuse yet."""
    planned = set(run.plan)
    return tuple(r.id for r in run.results if r.outcome in BAD and r.id in planned)


def excuse(run: ModuleRun, on_stock: Iterable[Result]) -> None:
    """Mark the tests that do not pass on stock asyncio either."""
    stock = {result.id: result for result in on_stock if result.outcome in BAD}
    for result in run.results:
        if result.outcome in BAD and result.id in stock:
            result.detail += f"\non stock asyncio:\n{stock[result.id].detail}"
            result.outcome = "stock"
