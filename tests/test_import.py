"""Importing hoop: alone, uncompiled, not on Linux, and its effect on asyncio. Each in a fresh process."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hoop

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(hoop.__file__).parent


def modules() -> list[str]:
    sources = sorted(path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    names = [".".join(("hoop", *path.parts)) for path in sources]
    return [name.removesuffix(".__init__") for name in names]


def python(
    program: str, *arguments: str, path: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter; with `path`, look for modules there first."""
    environment = {**os.environ, **variables}
    environment.pop("PYTHONPATH", None)
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )


# Imports each module in a copy of a process that has only what Python brings, and notes what it says.
ALONE = """
import os, sys
import asyncio, concurrent.futures, ctypes, dataclasses, datetime, json, logging, pickle, platform, random
import ssl, subprocess, sysconfig, tempfile, typing, unittest.mock, uuid
folder, *modules = sys.argv[1:]
for module in modules:
    pid = os.fork()
    if pid == 0:
        said = os.open(os.path.join(folder, module), os.O_CREAT | os.O_WRONLY)
        os.dup2(said, 2)
        __import__(module)
        sys.exit()
    _, status = os.waitpid(pid, 0)
    print(module, status, flush=True)
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """How the import of each module has ended: the status of its process, and the errors it wrote."""
    folder = tmp_path_factory.mktemp("alone")
    processors = os.cpu_count() or 1
    shares = [modules()[first::processors] for first in range(processors)]
    statuses = {}
    with ThreadPoolExecutor(processors) as threads:
        for done in threads.map(lambda share: python(ALONE, str(folder), *share), shares):
            assert (done.returncode, done.stderr) == (0, "")
            statuses.update(line.split() for line in done.stdout.splitlines())
    return {name: (status, (folder / name).read_text()) for name, status in statuses.items()}


@pytest.mark.parametrize("module", modules())
def test_module_can_be_imported_alone(alone, module):
    if module.startswith("hoop.demo."):
        pytest.importorskip("aiohttp")
    if module == "hoop.cli.top":
        pytest.importorskip("textual")
    assert alone[module] == ("0", "")


def test_import_changes_nothing_in_asyncio_but_the_set_of_tasks():
    done = python(
        """
import asyncio, importlib, pkgutil, sys, weakref
for found in pkgutil.iter_modules(asyncio.__path__):
    if "windows" not in found.name and found.name != "__main__":
        importlib.import_module(f"asyncio.{found.name}")
import _asyncio

def state():
    seen = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("asyncio", "_asyncio"):
            for key, value in vars(module).items():
                seen[name, key] = id(value)
                if isinstance(value, type):
                    for attribute, its in vars(value).items():
                        seen[name, key, attribute] = id(its)
                if isinstance(value, (dict, list, set)) and not key.startswith("__"):
                    seen[name, key, "content"] = repr(value)
    return seen

def classes():
    return {
        id(value): type(value)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in ("asyncio", "_asyncio")
        for value in vars(module).values()
    }

policy = asyncio.get_event_loop_policy() if sys.version_info < (3, 14) else None
before, classes_before = state(), classes()
import hoop
from hoop.loop import registry
after = state()
assert after == before, {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
tasks = registry._asyncio_task_set()
changed = {i: c for i, c in classes().items() if c is not classes_before.get(i)}
assert changed in ({}, {id(tasks): registry.TaskSet}), changed
assert type(tasks) is registry.TaskSet and isinstance(tasks, weakref.WeakSet)
if policy is not None:
    assert asyncio.get_event_loop_policy() is policy
    stock = asyncio.new_event_loop()
    assert not isinstance(stock, hoop.EventLoop)
    stock.close()
"""
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_that_does_not_simulate_imports_nothing_of_the_simulator():
    done = python(
        "import asyncio, sys, hoop; hoop.run(asyncio.sleep(0));"
        "print([name for name in sys.modules if name.startswith('hoop.sim')])"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_import_is_refused_where_the_gil_is_off():
    done = python("import sys; sys._is_gil_enabled = lambda: False; import hoop")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: hoop needs the GIL, and it is off in this Python.")
    assert "PYTHON_GIL=1" in last


def test_a_free_threaded_python_with_its_gil_on_can_import_hoop():
    done = python("import sys; sys._is_gil_enabled = lambda: True; import hoop")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def uncompiled(tmp_path):
    """A folder with hoop's Python sources and no extension."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "hoop", ignore=ignored)
    return tmp_path


@pytest.mark.parametrize("module", ["hoop", "hoop.loop", "hoop.scheduling.task", "hoop.loop.turn"])
def test_uncompiled_core_says_how_to_build_it(uncompiled, module):
    done = python(f"import {module}", path=uncompiled)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: hoop's core is not compiled for this Python.")
    assert "pip install ." in last
    assert "make build" in last


def test_off_linux_stock_asyncio_runs_it_with_one_warning(uncompiled):
    """Nothing compiled is reached: the copy has no extension."""
    done = python(
        """
import sys
sys.platform = "darwin"
import asyncio, warnings
import hoop

async def main():
    task = asyncio.create_task(asyncio.sleep(0, "slept"))
    assert type(asyncio.get_running_loop()) is hoop.EventLoop
    return await task, hoop.Task is asyncio.Task

with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    assert hoop.run(main()) == ("slept", True)
assert [w.category for w in seen] == [RuntimeWarning], seen
print(seen[0].message)
with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert hoop.run(main(), loop_factory=asyncio.SelectorEventLoop) == ("slept", True)
assert not any(name.startswith(("hoop.drivers", "hoop.loop")) for name in sys.modules)
missing = [name for name in hoop.__all__ if not hasattr(hoop, name)]
assert missing == [], missing
""",
        path=uncompiled,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "needs Linux" in done.stdout
    assert "darwin" in done.stdout
    assert "asyncio" in done.stdout


def test_a_public_name_says_hoop_as_its_place():
    """So that a pickle holds when a module moves."""
    for name in hoop.__all__:
        public = getattr(hoop, name)
        module = getattr(public, "__module__", "hoop")
        theirs = getattr(asyncio, name, None) is public
        assert theirs or module == "hoop" or module.startswith("asyncio."), name
        if isinstance(public, type):
            assert pickle.loads(pickle.dumps(public)) is public
    assert repr(hoop.Queue) == "<class 'hoop.Queue'>"
    assert pickle.dumps(hoop.Path("x")).count(b"hoop.") == 0


def test_a_public_class_keeps_its_name_until_the_process_ends():
    """The last finalisers run when hoop's modules are gone."""
    done = python(
        """
import codecs, os
import hoop

class Late:
    def __call__(self, name):
        return None
    def __del__(self, cls=hoop.Queue, write=os.write):
        write(1, cls.__name__.encode())

codecs.register(Late())
""",
        PYTHONMALLOC="debug",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Queue", "")


COMPILED = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.pxd")
    if path.with_suffix(".py").exists()
)


def test_a_compiled_module_looks_like_any_other():
    """They lie in one shared object, and Python must not notice."""
    (shared_object,) = {importlib.import_module(name).__file__ for name in COMPILED}
    for name in COMPILED:
        module = importlib.import_module(name)
        spec = importlib.util.find_spec(name)
        assert (module.__name__, module.__package__) == (name, name.rpartition(".")[0])
        assert (spec.name, spec.origin, spec.has_location) == (name, shared_object, True)
        assert module.__spec__.loader.get_filename(name) == shared_object
        assert not module.__spec__.loader.is_package(name)


def test_a_module_that_is_missing_is_missing():
    for name in ("hoop.nothing", "hoop.net.nothing"):
        assert importlib.util.find_spec(name) is None
        with pytest.raises(ModuleNotFoundError, match=name):
            importlib.import_module(name)
    with pytest.raises(ImportError):
        importlib.import_module("hoop._c.linux")  # a .pxd that declares C, and no module
