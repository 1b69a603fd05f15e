"""A plugin of pytest that runs the tests of hoop's files in simulations, each with a disk of its own.

    HOOP_SIM_FILES=7 pytest -p files_in_world tests/files

The fixture `run` begins a world with the seed HOOP_SIM_FILES. Afterwards the files of the simulated disk are
put on the real one, where the test looks for them. A test is skipped if it needs more than is simulated.
"""

from __future__ import annotations

import asyncio
import os
import shutil

import pytest

import hoop.sim
from hoop.sim.storage.tree import File, Folder, Link

SEED = int(os.environ.get("HOOP_SIM_FILES", "0"))
# Tests about the real disk, its cache and its limits, and about pipes, which are not simulated.
REAL = (
    *(
        "cached",
        "fifo",
        "pipe",
        "terminal",
        "stdin",
        "turn",
        "audit",
        "position_that_no_file_can_have",
    ),
    *("past_the_cache", "test_calls_by_descriptor[", "standard"),
)


def put(node: object, path: bytes) -> None:
    """Put a node of a simulated disk in a place of the real one."""
    if isinstance(node, Folder):
        if not os.path.isdir(path):
            os.mkdir(path, node.mode)
        for name, child in node.names.items():
            put(child, os.path.join(path, name))
    elif isinstance(node, File) and node.below is not None:
        if node.below != path:
            shutil.copy2(node.below, path)
    elif isinstance(node, File):
        with open(path, "wb") as file:
            file.write(node.content())
        os.chmod(path, node.mode)
    elif isinstance(node, Link):
        if not os.path.islink(path):
            os.symlink(node.target, path)
    elif os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def run_in_world(folder: str):
    """The fixture `run`: a function that runs a coroutine in a world."""

    def run(coro, *, debug=None, limit=None):
        disk = hoop.sim.Disk(short_reads=0.1, short_writes=0.1)

        async def main():
            if debug is not None:
                asyncio.get_running_loop().set_debug(debug)
            return await coro

        try:
            return hoop.sim.run(main, seed=SEED, disk=disk)
        except hoop.sim.Unsimulated as exc:
            pytest.skip(str(exc))
        finally:
            place = disk.find(folder)
            if isinstance(place.node, Folder):
                put(place.node, os.fsencode(folder))

    return run


def pytest_collection_modifyitems(config, items):
    """Leave out what is about the real disk, and run the others once."""
    left = []
    for item in items:
        name = item.name
        about_real = "tiny_disk" in item.fixturenames or any(word in name for word in REAL)
        if "run" in item.fixturenames and "uring" not in name and not about_real:
            left.append(item)
    items[:] = left


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    """Put our `run` in the place of the fixture."""
    if fixturedef.argname != "run":
        return None
    made = run_in_world(str(request.getfixturevalue("tmp_path")))
    fixturedef.cached_result = (made, fixturedef.cache_key(request), None)
    return made
