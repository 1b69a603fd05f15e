"""Chains of many objects, each the only owner of the next, or each waiting for the next.

No call for one of them may happen inside the call for the one before. The C stack would end, and the process
by a segmentation fault. So each program runs in a process of its own.
"""

from __future__ import annotations

import pytest

FREED = """
import asyncio, hoop

async def main():
    loop = asyncio.get_running_loop()

    async def returned(value):
        return value

    def future(owned):
        made = loop.create_future()
        made.set_result(owned)
        return made

    def failed(owned):
        made = loop.create_future()
        made.set_exception(ValueError(owned))
        made.exception()
        return made

    def attribute(owned):
        made = loop.create_future()
        made.owned = owned
        return made

    def callback(owned):
        made = loop.create_future()
        if owned is not None:
            made.add_done_callback(owned.set_result)
        return made

    def handle(owned):
        return hoop.Handle(print, (owned,), loop)

    def queue(owned):
        made = hoop.Queue()
        made.put_nowait(owned)
        return made

    class Own(hoop.Future):
        pass

    def own(owned):
        made = Own(loop=loop)
        made.set_result(owned)
        return made

    made = None
    for i in range(300_000):
        if {kind} in ("task", "mixed") and i % {each} == 0:
            task = loop.create_task(returned(made))
            await task
            made = task
            del task
        else:
            made = ({functions})[i % len(({functions}))](made)
    del made
    print("freed")

hoop.run(main())
"""

KINDS = {
    "future": "future,",
    "failed": "failed,",
    "attribute": "attribute,",
    "callback": "callback,",
    "handle": "handle,",
    "queue": "queue,",
    "own": "own,",
    "task": "future,",
    "mixed": "future, queue, own, handle, attribute, failed",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_chain_is_freed(python, kind):
    each = {"task": 1, "mixed": 7}.get(kind, 1)
    code = FREED.replace("{kind}", repr(kind)).replace("{each}", str(each))
    assert python(code.replace("{functions}", KINDS[kind])) == "freed\n"


def test_each_of_a_long_chain_calls_its_finaliser_once(python):
    """Also those that the trashcan frees, and one that its finaliser keeps."""
    code = """
import hoop
calls, kept = [], []

class Own(hoop.Future):
    def __del__(self):
        calls.append(self.number)
        if self.number == 1001:
            kept.append(self)

loop = hoop.new_event_loop()
loop.set_exception_handler(lambda loop, context: calls.append(context["future"].number))
made = None
for i in range(20_000):
    made, owned = Own(loop=loop) if i % 2 else loop.create_future(), made
    made.number = i
    made.owned = owned
    if i % 2 == 0:
        made.set_exception(ValueError())
del made, owned
assert sorted(calls) == list(range(1001, 20_000)), len(calls)
assert [future.number for future in kept] == [1001]
kept.clear()
assert sorted(calls) == list(range(20_000)), len(calls)
loop.close()
print("freed")
"""
    assert python(code) == "freed\n"


CANCELLED = """
import asyncio, sys
from {module} import run

async def main():
    tasks = []

    async def follow(i):
        await tasks[i + 1 if i + 1 < {count} else {last}]

    for i in range({count}):
        tasks.append(asyncio.create_task(follow(i)))
        tasks[i]._log_destroy_pending = False
    if {last} == {count}:
        tasks.append(asyncio.get_running_loop().create_future())
    for _ in range(2):
        await asyncio.sleep(0)
    try:
        result = tasks[0].cancel()
    except RecursionError:
        result = "RecursionError"
    print(result, sum(task.done() for task in tasks))
    sys.stdout.flush()
    import os
    os._exit(0)

run(main())
"""


@pytest.mark.parametrize("count", [1, 2, 3, 100, 100_000])
@pytest.mark.parametrize("shape", ["chain", "circle"])
def test_cancel_of_tasks_that_wait_for_each_other(python, count, shape):
    """As on asyncio: a long chain, and a circle, end in a RecursionError."""
    code = CANCELLED.replace("{count}", str(count))
    code = code.replace("{last}", str(count) if shape == "chain" else "0")
    printed = [python(code.replace("{module}", module)) for module in ("asyncio", "hoop")]
    assert printed[0] == printed[1]
