"""`python -m hoop program`, and `hoop doctor`: each in a process of its own."""

from __future__ import annotations

import json
import os
import py_compile
import signal
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from pathlib import Path

import pytest

import hoop
from hoop import doctor
from hoop.drivers import capabilities

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = str(Path(hoop.__file__).parent.parent)

FACTS = """
import asyncio, json, sys
KIND = str(type(asyncio.new_event_loop()))
print(json.dumps({
    "argv": sys.argv,
    "path": sys.path[0],
    "name": __name__,
    "file": globals().get("__file__"),
    "cached": globals().get("__cached__"),
    "package": globals().get("__package__"),
    "spec": getattr(globals().get("__spec__"), "name", None),
    "loader": type(globals().get("__loader__")).__name__ if "__file__" in globals() else None,
    "annotations": "annotations" in globals(),
    "main": sys.modules["__main__"].__dict__ is globals(),
    "builtins": __builtins__ is sys.modules["builtins"],
    "source": sys._getframe().f_code.co_filename,
}))
"""


def python(
    *arguments: object, cwd: Path, env: dict[str, str] | None = None, status: int = 0
) -> str:
    """The output of a new Python process with these arguments."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": SOURCE, **(env or {})},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + (done.stderr if status else "")


def facts(*arguments: object, cwd: Path) -> dict[str, object]:
    """Run the program of FACTS, and return its answer."""
    found: dict[str, object] = json.loads(python(*arguments, cwd=cwd))
    return found


@pytest.fixture
def folder(tmp_path):
    """A folder with the program of FACTS as a file, a module, a package, a folder and an archive."""
    (tmp_path / "below" / "package").mkdir(parents=True)
    (tmp_path / "facts.py").write_text(FACTS)
    (tmp_path / "below" / "facts.py").write_text(FACTS)
    (tmp_path / "below" / "__main__.py").write_text(FACTS)
    (tmp_path / "below" / "package" / "__init__.py").write_text("")
    (tmp_path / "below" / "package" / "__main__.py").write_text(FACTS)
    with zipfile.ZipFile(tmp_path / "archive.pyz", "w") as archive:
        archive.writestr("__main__.py", FACTS)
    return tmp_path


@pytest.mark.parametrize(
    "program",
    [
        ["facts.py"],
        ["facts.py", "one", "--two", "-m", "--driver", "three"],
        ["./below/facts.py", "x"],
        ["-m", "facts", "x", "-c"],
        ["-m", "below.package", "--help"],
        ["-c", FACTS, "x", "-m"],
    ],
)
def test_a_program_cannot_tell_it_from_python(folder, program):
    assert facts("-m", "hoop", *program, cwd=folder) == facts(*program, cwd=folder)


@pytest.mark.parametrize("program", ["below", "archive.pyz"])
def test_a_folder_or_an_archive_is_a_program(folder, program):
    found, expected = facts("-m", "hoop", program, "x", cwd=folder), facts(program, "x", cwd=folder)
    assert found == expected


def test_a_compiled_file_is_a_program(folder):
    compiled = py_compile.compile(str(folder / "facts.py"), cfile=str(folder / "facts.pyc"))
    found, expected = facts("-m", "hoop", compiled, cwd=folder), facts(compiled, cwd=folder)
    assert found == expected


FAILS = """
import atexit, sys
def fail(how):
    raise how("failed")
atexit.register(lambda: print("end", sys.last_traceback.tb_frame.f_code.co_name, file=sys.stderr))
"""
OWN_HOOK = """
def hook(kind, exc, frames):
    print(kind, exc, [exc.__traceback__.tb_lineno, frames.tb_lineno], file=sys.stderr)
sys.excepthook = hook
"""


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (FAILS + "try:\n    fail(KeyError)\nfinally:\n    fail(ValueError)", 1),
        (FAILS + OWN_HOOK + "fail(ValueError)", 1),
        (FAILS + "fail(KeyboardInterrupt)", -signal.SIGINT),
        ("def wrong(:", 1),
    ],
    ids=["fails twice", "its own hook", "interrupt", "no Python"],
)
def test_a_program_that_fails_shows_what_it_shows_on_python(tmp_path, code, status):
    (tmp_path / "failing.py").write_text(code)
    shown = python("-m", "hoop", "failing.py", cwd=tmp_path, status=status)
    assert shown == python("failing.py", cwd=tmp_path, status=status)


@pytest.mark.parametrize("program", [["-m", "failing"], ["-c", FAILS + "fail(ValueError)"]])
def test_a_module_that_fails_shows_what_it_shows_on_python(tmp_path, program):
    if program[0] == "-c" and sys.version_info[:2] == (3, 13):
        pytest.skip("Python 3.13 gives no other program a way to show the lines of -c")
    (tmp_path / "failing.py").write_text(FAILS + "fail(ValueError)")
    shown = python("-m", "hoop", *program, cwd=tmp_path, status=1)
    assert shown == python(*program, cwd=tmp_path, status=1)


def test_run_is_the_same_word(folder):
    assert facts("-m", "hoop", "run", "facts.py", "x", cwd=folder)["argv"] == ["facts.py", "x"]
    assert facts("-m", "hoop", "run", "--", "facts.py", cwd=folder)["argv"] == ["facts.py"]


def test_without_a_safe_path_no_place_is_replaced(folder):
    code = "import sys; print(sys.path)"
    paths = python("-P", "-m", "hoop", "-c", code, cwd=folder)
    assert paths == python("-P", "-c", code, cwd=folder)


KIND = "import asyncio; print(asyncio.run(asyncio.sleep(0, asyncio.Queue.__module__)), %s)"
LOOP = "asyncio.new_event_loop()"


def test_it_runs_on_hoop_with_the_driver_asked_for(driver, tmp_path):
    printed = python("-m", "hoop", "--driver", driver, "-c", KIND % LOOP, cwd=tmp_path)
    assert printed.startswith(f"hoop <hoop.EventLoop driver={driver} ")


def test_the_loop_alone(tmp_path):
    printed = python("-m", "hoop", "--no-names", "-c", KIND % LOOP, cwd=tmp_path)
    assert printed.startswith("asyncio.queues <hoop.EventLoop ")


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("raise SystemExit(3)", 3),
        ("raise SystemExit('why')", 1),
        ("1 / 0", 1),
        ("import os; os._exit(4)", 4),
        ("raise KeyboardInterrupt", -signal.SIGINT),
    ],
)
def test_it_ends_as_the_program_ends(tmp_path, end, status):
    (tmp_path / "ends.py").write_text(end)
    python("ends.py", cwd=tmp_path, status=status)
    python("-m", "hoop", "ends.py", cwd=tmp_path, status=status)


def test_the_program_stays_main_until_the_end(tmp_path):
    """For threads, handlers at exit and pickles, which run after its last line."""
    code = """
        import atexit, pickle, sys, threading

        class Thing: pass

        def late():
            assert pickle.loads(pickle.dumps(Thing)) is Thing
            print(sys.modules["__main__"].Thing is Thing)

        atexit.register(late)
        threading.Timer(0.01, late).start()
        """
    (tmp_path / "late.py").write_text(textwrap.dedent(code))
    assert python("-m", "hoop", "late.py", cwd=tmp_path) == "True\nTrue\n"


def test_its_processes_of_multiprocessing_find_its_functions(tmp_path):
    code = """
        import asyncio, multiprocessing

        def kind(_):
            return type(asyncio.new_event_loop()).__module__

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(kind, [1]))
        """
    (tmp_path / "pool.py").write_text(textwrap.dedent(code))
    assert "asyncio" in python("-W", "ignore", "-m", "hoop", "pool.py", cwd=tmp_path)
    assert "hoop" in python("-W", "ignore", "-m", "hoop", "--children", "pool.py", cwd=tmp_path)


# ---- children ---------------------------------------------------------------------------------------

CHILD = """
import subprocess, sys
child = "import asyncio, sys; print({})"
print(subprocess.run([sys.executable, *sys.argv[1:], "-c", child], capture_output=True, text=True))
"""


def child(tmp_path: Path, what: str, *options: str, env: dict[str, str] | None = None) -> str:
    """The output of a program's child under `hoop run` with these options."""
    code = CHILD.format(what)
    return python("-m", "hoop", *options, "-c", code, cwd=tmp_path, env=env)


def test_children_run_on_hoop_if_asked(tmp_path):
    assert "_UnixSelectorEventLoop" in child(tmp_path, "asyncio.new_event_loop()")
    assert "<hoop.EventLoop" in child(tmp_path, "asyncio.new_event_loop()", "--children")


def test_children_get_the_same_parts(tmp_path):
    names = "asyncio.Queue, asyncio.__spec__.loader"
    assert "hoop.Queue" in child(tmp_path, names, "--children")
    assert "asyncio.queues.Queue" in child(tmp_path, names, "--children", "--no-names")
    assert "SourceFileLoader" in child(tmp_path, names, "--children")


def test_a_child_without_asyncio_does_not_import_hoop(tmp_path):
    code = CHILD.replace("import asyncio, sys", "import sys").format("'hoop' in sys.modules")
    assert "False" in python("-m", "hoop", "--children", "-c", code, cwd=tmp_path)


def test_children_keep_their_own_sitecustomize(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.mine = __file__")
    path = os.pathsep.join([str(tmp_path), SOURCE])
    printed = child(
        tmp_path, "sys.mine, asyncio.new_event_loop()", "--children", env={"PYTHONPATH": path}
    )
    assert str(tmp_path / "sitecustomize.py") in printed
    assert "<hoop.EventLoop" in printed


def test_a_child_that_cannot_import_hoop_says_so_and_runs(tmp_path):
    code = CHILD.replace(
        "import asyncio, sys", "import sys; sys.modules['hoop'] = None; import asyncio"
    )
    printed = python(
        "-m", "hoop", "--children", "-c", code.format("asyncio.new_event_loop()"), cwd=tmp_path
    )
    assert "HOOP_INSTALL: hoop cannot be imported here" in printed
    assert "_UnixSelectorEventLoop" in printed


# ---- the command line -------------------------------------------------------------------------------


def test_no_program():
    printed = python("-m", "hoop", cwd=ROOT, status=2)
    assert "a program is missing" in printed
    assert "hoop doctor" in printed


def test_a_program_that_is_not_there(tmp_path):
    printed = python("-m", "hoop", "nowhere.py", cwd=tmp_path, status=1)
    assert "can't open file" in printed
    assert "nowhere.py" in printed


def test_a_module_that_is_not_there(tmp_path):
    assert "No module named nowhere" in python(
        "-m", "hoop", "-m", "nowhere", cwd=tmp_path, status=1
    )


def test_an_option_that_is_not_there(tmp_path):
    assert "unrecognized arguments: --fast" in python(
        "-m", "hoop", "--fast", "x.py", cwd=tmp_path, status=2
    )


def test_help_and_version():
    assert "--children" in python("-m", "hoop", "--help", cwd=ROOT)
    assert python("-m", "hoop", "--version", cwd=ROOT) == f"hoop {hoop.__version__}\n"


def test_the_command_is_installed_under_the_name_hoop():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"hoop": "hoop.__main__:main"}


# ---- doctor -----------------------------------------------------------------------------------------


def test_doctor_says_what_runs(driver):
    report = json.loads(
        python("-m", "hoop", "doctor", "--json", cwd=ROOT, env={"HOOP_DRIVER": driver})
    )
    assert report["hoop"] == hoop.__version__
    assert report["driver"]["name"] == report["driver"]["asked for"] == driver
    assert report["environment"]["HOOP_DRIVER"] == driver
    assert set(report["limits"]) == {"nofile", "memlock"}
    if driver == "uring":
        assert report["driver"]["io_uring"] == capabilities.list_capabilities()
    else:
        assert "HOOP_DRIVER" in report["driver"]["reason"]


def test_doctor_prints_the_same_as_text():
    printed = python("-m", "hoop", "doctor", cwd=ROOT, env={"HOOP_DRIVER": "epoll"})
    for text in (hoop.__version__, sys.executable, os.uname().release, "HOOP_DRIVER=epoll"):
        assert text in printed


@pytest.mark.parametrize(
    ("how", "reason", "advice"),
    [("EPERM", "Operation not permitted", "seccomp"), ("ENOSYS", "not implemented", "no io_uring")],
)
def test_doctor_says_why_it_is_not_io_uring(how, reason, advice):
    command = [sys.executable, "-m", "hoop", "doctor", "--json"]
    report = json.loads(
        python("tests/refused.py", how, *command, cwd=ROOT, env={"HOOP_DRIVER": ""})
    )
    assert report["driver"]["name"] == "epoll"
    assert reason in report["driver"]["reason"]
    if report["io_uring_disabled"] in (None, "0"):
        assert advice in report["driver"]["advice"]
    assert report["seccomp"] == "a filter"


@pytest.mark.parametrize(
    ("disabled", "reason", "advice"),
    [
        ("1", "Operation not permitted", "members of a group"),
        ("2", "Operation not permitted", "nobody"),
        ("0", "Cannot allocate memory", "ulimit -l"),
        ("0", "the kernel is too old (features 0x1)", "newer kernel"),
        ("0", "a multishot POLL_ADD does not go on", "only the kernel's answer"),
    ],
)
def test_doctor_explains_each_refusal(tmp_path, monkeypatch, disabled, reason, advice):
    (tmp_path / "disabled").write_text(disabled + "\n")
    monkeypatch.setattr(capabilities, "SYSCTL", str(tmp_path / "disabled"))
    assert advice in doctor.explain_refusal(reason)


def test_doctor_says_that_a_setting_is_wrong():
    printed = python("-m", "hoop", "doctor", cwd=ROOT, env={"HOOP_DRIVER": "foo"}, status=1)
    assert "must be 'epoll' or 'uring', not 'foo'" in printed


def test_doctor_has_the_lines_of_the_documentation():
    text = (ROOT / "docs" / "frameworks.md").read_text()
    assert [line for line in doctor.FRAMEWORKS.values() if line not in text] == []


def test_doctor_finds_frameworks(monkeypatch):
    monkeypatch.setattr(doctor, "OTHERS", {})
    monkeypatch.setattr(doctor, "FRAMEWORKS", {"pytest": "a line", "not-there-at-all": "another"})
    assert doctor.look_at_frameworks() == [
        {"name": "pytest", "version": pytest.__version__, "use": "a line"}
    ]
