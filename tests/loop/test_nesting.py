"""nest_asyncio and its kind: refused clearly, and what they did to asyncio's own loops harms no hoop loop."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
from unittest import mock

import pytest

import hoop

NESTERS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(name) is None, reason=f"{name} is not installed"
        ),
    )
    for name in ("nest_asyncio", "nest_asyncio2")
]

# All that both packages put into the class of a loop, and everything that they ask before.
PATCH = """
import asyncio

def patch_loop(loop):
    if hasattr(loop, "_nest_patched"):
        return
    if not isinstance(loop, asyncio.BaseEventLoop):
        raise ValueError(f"Can't patch loop of type {type(loop)}")

    def wrong(self, *args):
        raise AssertionError("somebody else's method was called")

    for name in ("run_forever", "run_until_complete", "_run_once", "_check_running"):
        setattr(type(loop), name, wrong)
    type(loop)._nest_patched = True
"""

# Everything that has to work on a hoop loop, whatever was done to asyncio before.
WORK = """
async def inner():
    await asyncio.sleep(0.001)
    return 7

async def main():
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        tasks = [group.create_task(inner()) for _ in range(5)]
    assert await asyncio.wait_for(inner(), 5) == 7
    assert await asyncio.to_thread(lambda: 8) == 8
    assert asyncio.current_task() is not None
    return [task.result() for task in tasks] + await asyncio.gather(inner(), inner())

def new_loop():
    return hoop.new_event_loop(driver)

with asyncio.Runner(loop_factory=new_loop) as runner:
    assert runner.run(main()) == [7] * 7
assert hoop.run(main(), loop_factory=new_loop) == [7] * 7
loop = new_loop()
loop.call_soon(loop.stop)
loop.run_forever()
loop.call_soon(print, "one turn")
loop._run_once()
assert loop.run_until_complete(main()) == [7] * 7
loop.close()
"""


@pytest.mark.parametrize("nester", NESTERS)
@pytest.mark.parametrize("running", [True, False])
def test_applied_to_a_hoop_loop_is_refused_and_changes_no_hoop_loop(
    driver, python, nester, running
):
    printed = python(
        f"""
import asyncio, hoop, {nester} as nester
driver = {driver!r}
loop = hoop.new_event_loop(driver)

async def apply():
    try:
        nester.apply()
    except ValueError as exc:
        print(exc)

def apply_to_it():
    try:
        nester.apply(loop)
    except ValueError as exc:
        print(exc)

if {running}:
    loop.run_until_complete(apply())
else:
    apply_to_it()
loop.close()
{WORK}
"""
    )
    refusal = "Can't patch loop of type <class 'hoop.EventLoop'>"
    assert printed.splitlines() == [refusal, "one turn"]


@pytest.mark.parametrize("nester", NESTERS)
@pytest.mark.parametrize("before", [True, False])
def test_applied_to_a_loop_of_asyncio_it_harms_no_hoop_loop(driver, python, nester, before):
    printed = python(
        f"""
if {not before}:
    import hoop
import asyncio, {nester} as nester
stock = asyncio.SelectorEventLoop()
nester.apply(stock)
stock.close()
import hoop
driver = {driver!r}
{WORK}
"""
    )
    assert printed == "one turn\n"


@pytest.mark.parametrize("base", ["SelectorEventLoop", "BaseEventLoop"])
def test_methods_put_into_the_classes_of_asyncio_reach_no_hoop_loop(driver, python, base):
    printed = python(
        f"""
import hoop
driver = {driver!r}
{PATCH}
class Stock(asyncio.{base}):
    pass
patch_loop(Stock())
for name in ("run_forever", "run_until_complete", "_run_once", "_check_running", "_nest_patched"):
    setattr(asyncio.{base}, name, getattr(Stock, name))
{WORK}
try:
    patch_loop(loop)
except ValueError as exc:
    print(exc)
""",
        "-Wignore::ResourceWarning",
    )
    refusal = "Can't patch loop of type <class 'hoop.EventLoop'>"
    assert printed.splitlines() == ["one turn", refusal]


def test_the_refusal_is_not_in_the_way_of_who_looks_at_a_loop(loop):
    assert dict(inspect.getmembers(loop))["_closed"] is False
    assert mock.create_autospec(loop).call_soon
    assert mock.Mock(spec=loop).is_running
    assert mock.Mock(spec=hoop.EventLoop).is_running


def test_running_it_within_a_running_loop_says_what_asyncio_says(loop, new_loop):
    async def main():
        with pytest.raises(RuntimeError, match=r"^This event loop is already running$"):
            loop.run_until_complete(asyncio.Future())
        with pytest.raises(
            RuntimeError, match=r"^Cannot run the event loop while another loop is running$"
        ):
            new_loop().run_until_complete(asyncio.Future())

    loop.run_until_complete(main())


def test_run_until_complete_of_what_does_not_complete(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match=r"^Event loop stopped before Future completed\.$"):
        loop.run_until_complete(future)
    assert future._callbacks is None
