"""The command: `python -m hoop program.py`, `hoop run -m module` and `hoop doctor`. Run it with --help.

A program that is run so is `__main__`, with its own `sys.argv` and `sys.path`, as if Python had been given
it. The one difference is that hoop.install() was called before.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import io
import linecache
import os
import pkgutil
import runpy
import sys
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import hoop

if TYPE_CHECKING:
    from hoop.drivers.choosing import DriverName

USAGE = """\
hoop [run] [options] PROGRAM [arguments]     run a Python file, a folder or a zip file on hoop
hoop [run] [options] -m MODULE [arguments]   run a module on hoop, such as `-m pytest`
hoop [run] [options] -c CODE [arguments]     run a piece of code on hoop
hoop doctor [--json]                         say what runs here and why: versions, kernel, driver, limits
hoop ps                                      list the processes that can be looked into (HOOP_OBSERVE=1)
hoop VIEW [PID] [--json]                     look into one of them: VIEW is overview, tasks, tree, stack,
                                             stalls, sites, connections, servers, locks, timers, pools,
                                             children, cycles or metrics
hoop top [PID]                               all that as a screen of the terminal; `hoop web` in the browser

`python -m hoop` does the same as `hoop`. A program is run as Python runs it, after hoop.install().
"""
LOOKS = {
    *("ps", "overview", "tasks", "tree", "stack", "stalls", "sites", "connections", "servers"),
    *("locks", "timers", "pools", "children", "cycles", "metrics", "top", "web"),
}
CHILDREN = os.path.join(os.path.dirname(__file__), "children")


def parser() -> argparse.ArgumentParser:
    """The options of `hoop run`. The program's own arguments are not for this parser."""
    made = argparse.ArgumentParser("hoop", usage=USAGE, add_help=False, allow_abbrev=False)
    made.add_argument("-h", "--help", action="help", help="show this text")
    made.add_argument("--version", action="version", version=f"hoop {hoop.__version__}")
    made.add_argument(
        "--driver", choices=("epoll", "uring"), help="as the environment variable HOOP_DRIVER"
    )
    made.add_argument(
        "--no-names",
        action="store_true",
        help="choose the loop only: asyncio.Queue stays asyncio's",
    )
    made.add_argument(
        "--children",
        action="store_true",
        help="also for the Python programs that the program starts, by PYTHONPATH and HOOP_INSTALL",
    )
    return made


def split(arguments: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Split into our options, the kind of program ("-m", "-c" or ""), and the program with its arguments."""
    rest = list(arguments)
    ours: list[str] = []
    while rest:
        first = rest[0]
        if first in ("-m", "-c"):
            return ours, first, rest[1:]
        if first == "--":
            return ours, "", rest[1:]
        if not first.startswith("-") or first == "-":
            return ours, "", rest
        ours.append(rest.pop(0))
        if first == "--driver" and rest:
            ours.append(rest.pop(0))
    return ours, "", []


def main(arguments: Sequence[str] | None = None) -> Any:
    """Do what the command line asks. Returns an exit status, unless a program's end is ours."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["doctor"]:
        from hoop import doctor

        return doctor.main(given[1:])
    if given and given[0] in LOOKS:
        from hoop.cli import commands

        return commands.main(given[0], given[1:])
    if given[:1] == ["run"]:
        given.pop(0)
    ours, kind, program = split(given)
    options = parser().parse_args(ours)
    if not program:
        parser().error("a program is missing")
    prepare(options.driver, names=not options.no_names, children=options.children)
    try:
        run(kind, program)
    except SystemExit:
        raise
    except BaseException:
        show_only_the_program()
        raise
    return None


def show_only_the_program() -> None:
    """Let the traceback that ends this process begin with the program's own frames, not with hoop's."""
    show = sys.excepthook

    def shorten(kind: type[BaseException], exc: BaseException, frames: Any) -> None:
        frame = frames
        while frame is not None:
            if frame.tb_frame.f_code.co_filename == main.__code__.co_filename:
                frames = frame.tb_next
            frame = frame.tb_next
        sys.last_traceback = exc.__traceback__ = frames
        show(kind, exc, frames)

    sys.excepthook = shorten


def prepare(driver: DriverName | None, *, names: bool, children: bool) -> None:
    """Install hoop in this process, and in its children if asked."""
    if driver is not None:
        os.environ["HOOP_DRIVER"] = driver
    if children:
        os.environ["HOOP_INSTALL"] = "1" if names else "loop"
        path = [CHILDREN, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, path)))
    hoop.install(names=names)


def run(kind: str, program: list[str]) -> None:
    """Run a program in this process, as its `__main__`."""
    sys.argv[:] = program
    main_module = types.ModuleType("__main__")
    main_module.__dict__["__builtins__"] = __builtins__
    if kind == "-m":
        sys.argv[0] = "-m"
        set_path(os.getcwd())
        sys.modules["__main__"] = main_module
        runpy._run_module_as_main(program[0])  # type: ignore[attr-defined]
    elif kind == "-c":
        sys.argv[0] = "-c"
        set_path("")
        code = compile(program[0], "<string>", "exec", dont_inherit=True)
        if sys.version_info >= (3, 14):  # whose tracebacks show the lines of such code
            register: Any = getattr(linecache, "_register_code", None)  # Python's own, and may go
            if register is not None:
                register(code, program[0], "<string>")
        execute(code, main_module)
    else:
        run_path(program[0], main_module)


def run_path(given: str, main_module: types.ModuleType) -> None:
    """Run a file of Python, compiled or not, or the __main__.py of a folder or of an archive."""
    path = os.path.join(os.getcwd(), given)
    if not os.path.exists(path):
        sys.exit(f"hoop: can't open file {path!r}: there is none")
    if pkgutil.get_importer(path) is not None:
        if sys.flags.safe_path:
            sys.path.insert(0, path)
        else:
            sys.path[0] = path
        sys.modules["__main__"] = main_module
        runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]
        return
    set_path(os.path.dirname(os.path.realpath(path)))
    if path.endswith(".pyc"):
        loader: Any = importlib.machinery.SourcelessFileLoader("__main__", path)
        code = loader.get_code("__main__")
    else:
        loader = importlib.machinery.SourceFileLoader("__main__", path)
        with io.open_code(path) as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
    main_module.__dict__.update(__file__=path, __cached__=None, __loader__=loader)
    execute(code, main_module)


def set_path(first: str) -> None:
    """Look for modules where Python would look for this program's, and not where it looked for hoop's."""
    if not sys.flags.safe_path:
        sys.path[0] = first


def execute(code: types.CodeType, module: types.ModuleType) -> None:
    """Run code as `__main__`, which it stays for whatever still runs when its last line has been reached."""
    sys.modules["__main__"] = module
    exec(code, module.__dict__)


if __name__ == "__main__":
    sys.exit(main())
