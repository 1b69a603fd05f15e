"""Style as a test: sizes, docstrings, pairs of files, and who may import whom."""

from __future__ import annotations

import ast
import collections
import functools
import graphlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hoop

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "hoop"
LINES_MAX = 800
TEXT = {".py", ".pyi", ".pxd", ".h", ".c", ".md", ".toml", ".html", ".txt", ".yml", ".cfg", ""}

sys.path.insert(0, str(ROOT / "tools"))

import prose  # noqa: E402
import pxd  # noqa: E402


def our_files() -> list[Path]:
    """Every file of the repository, committed or about to be; of an unpacked archive, every text."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode == 0 and listed.stdout:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [
            p
            for folder in ("src", "tests", "tools", "typings")
            for p in ROOT.glob(f"{folder}/**/*")
        ]
    return [path for path in paths if path.is_file() and path.suffix in TEXT]


def python_files() -> list[Path]:
    return [path for path in our_files() if path.suffix == ".py"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
COMPILED = pxd.compiled_modules()


# ---- files -----------------------------------------------------------------------------------------


def test_no_file_is_longer_than_a_reader_can_hold():
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in our_files()}
    assert {name: n for name, n in lengths.items() if n > LINES_MAX} == {}


def test_every_module_says_what_it_is():
    without = [
        name_of(path)
        for path in python_files()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert without == []


def test_no_file_names_a_path_of_one_machine():
    local = re.compile("|".join(["/wor" + "k/", "/tmp" + "/v3", "/ho" + r"me/\w", "/roo" + "t/"]))
    found = [name_of(path) for path in our_files() if local.search(path.read_text())]
    assert found == []


def test_architecture_names_files_and_methods_that_exist():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert len(text.splitlines()) <= 110  # one page
    named = re.findall(r"`(\w+/[\w/]+\.(?:py|h|md))`", text)
    assert named
    assert [name for name in named if not any((at / name).exists() for at in (PACKAGE, ROOT))] == []
    steps = re.findall(r"^\| \d \| `([\w/]+\.py)` \| (.*) \|$", text, re.MULTILINE)
    assert len(steps) == 6  # of a byte in, and of a byte out
    for name, step in steps:
        defined = {
            f"{cls.name}.{method.name}"
            for cls in ast.walk(ast.parse((PACKAGE / name).read_text()))
            if isinstance(cls, ast.ClassDef)
            for method in cls.body
            if isinstance(method, ast.FunctionDef)
        }
        called = re.findall(r"`([A-Z]\w+\.\w+)`", step)
        assert called
        assert set(called) <= defined, name


def test_build_requirements_are_said_twice_alike():
    """Building without isolation installs a group; pip with isolation reads [build-system]."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["dependency-groups"]["build"] == project["build-system"]["requires"]
    extras = project["project"]["optional-dependencies"]
    assert project["dependency-groups"]["demo"] == extras["demo"]


def test_every_package_is_shipped():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    source = ROOT / "src"
    found = {
        ".".join(path.parent.relative_to(source).parts)
        for pattern in ("__init__.py", "__init__.pxd")
        for path in source.rglob(pattern)
    }
    assert set(project["tool"]["setuptools"]["packages"]) == found


# ---- compiled modules: pairs of .py and .pxd ---------------------------------------------------------


@pytest.mark.parametrize("module", COMPILED)
def test_compiled_module_has_its_stub(module):
    """mypy cannot read pure-mode Python, and stubtest reads the stub of every module."""
    assert COMPILED[module].with_suffix(".pyi").exists()


def test_declarations_belong_to_a_module():
    beside = {path.with_suffix("") for path in PACKAGE.rglob("*.py")}
    headers = {path.with_suffix("") for path in PACKAGE.glob("_c/*.h")}
    found = {path.with_suffix("") for kind in ("pxd", "pyi") for path in PACKAGE.rglob(f"*.{kind}")}
    assert {path for path in found - beside - headers if path.parent.name != "_c"} == set()


C_TYPES = {
    "uint": "unsigned int",
    "ulong": "unsigned long",
    "longlong": "long long",
    "ulonglong": "unsigned long long",
    "uchar": "unsigned char",
    "p_char": "char *",
    "p_void": "void *",
}


def c_type(annotation: str) -> str:
    """The C type that an annotation of pure mode means."""
    pointer = re.fullmatch(r"cython\.pointer\[(.*)\]", annotation)
    if pointer:
        return f"{c_type(pointer[1])} *"
    name = annotation.removesuffix(" | None").removeprefix("cython.")
    return C_TYPES.get(name, name)


@pytest.mark.parametrize("module", COMPILED)
def test_attributes_agree(module):
    """Of a field declared in both files Cython believes the .pxd, and says nothing."""
    declarations = pxd.read(COMPILED[module].with_suffix(".pxd"))
    differing = []
    for node in ast.parse(COMPILED[module].read_text()).body:
        declared = declarations.classes.get(getattr(node, "name", ""))
        if not isinstance(node, ast.ClassDef) or declared is None:
            continue
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                field = statement.target.id
                here = c_type(ast.unparse(statement.annotation))
                there = declared.fields.get(field)
                if here != there:
                    differing.append(f"{node.name}.{field}: {here} here, {there} in the .pxd")
    assert differing == []


# ---- who imports whom --------------------------------------------------------------------------------


# The rooms, innermost first. A module imports from its own room and from those before it.
ROOMS = [
    "_c",
    "insight",
    "drivers",
    "scheduling",
    "processes",
    "watching",
    "net",
    "pipes",
    "tls",
    "disk",
    "loop",
    "sync",
    "together",
    "streams",
    "files",
    "observe",
    "sim",
    "cli",
    "",  # hoop/__init__.py and the modules beside it
    "children",
    "demo",
]
MODULES_MAX = 12


@functools.cache
def imports() -> dict[str, set[str]]:
    """For each module of hoop, the others that it imports or cimports, also for type checkers only."""
    graph: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        named = set()
        if module in COMPILED:
            named.update(pxd.read(path.with_suffix(".pxd")).cimports.values())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                source = node.module.removeprefix("cython.cimports.")
                inside = {f"{source}.{alias.name}" for alias in node.names} & set(MODULES)
                named.update(inside or {source})
            elif isinstance(node, ast.Import):
                named.update(alias.name for alias in node.names)
        graph[module] = {name for name in named if name.split(".")[0] == "hoop"} - {module}
    return graph


def room_of(module: str) -> str:
    """The folder of a module below hoop; "" for those in no folder."""
    parts = module.split(".")
    folder = parts[1] if len(parts) > 1 else ""
    return folder if (PACKAGE / folder).is_dir() else ""


def test_every_folder_is_a_room():
    assert {room_of(module) for module in MODULES} | {"_c"} == set(ROOMS)


def test_rooms_import_inwards_only():
    wrong = [
        f"{module} imports {name}"
        for module, names in imports().items()
        for name in sorted(names)
        if ROOMS.index(room_of(name)) > ROOMS.index(room_of(module))
    ]
    assert wrong == []


def test_no_module_imports_in_a_circle():
    graph = {m: {n for n in names if n in MODULES} for m, names in imports().items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as exc:
        pytest.fail(f"a circle of imports: {' -> '.join(reversed(exc.args[1]))}")


def test_no_folder_is_crowded():
    counts = collections.Counter(
        path.parent for path in MODULES.values() if path.stem != "__init__"
    )
    assert {str(folder): n for folder, n in counts.items() if n > MODULES_MAX} == {}


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    pending = [start]
    while pending:
        for name in graph.get(pending.pop(), set()) - found:
            found.add(name)
            pending.append(name)
    return found


def test_only_choosing_names_a_kind_of_driver():
    """The loop is handed its driver."""
    classes = [
        (module, name, cls.base)
        for module, path in COMPILED.items()
        for name, cls in pxd.read(path.with_suffix(".pxd")).classes.items()
    ]
    drivers = {"Driver"}
    while found := {name for _, name, base in classes if base in drivers} - drivers:
        drivers |= found
    kinds = {module for module, name, _ in classes if name in drivers - {"Driver"}}
    assert {"hoop.drivers.epoll", "hoop.drivers.uring"} <= kinds
    users = {module for module, names in imports().items() if names & kinds}
    # One kind may nest another. The loop of a simulation has the driver that is made for it.
    assert {name for name in users - kinds if room_of(name) != "sim"} == {"hoop.drivers.choosing"}


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("drivers.errors", "scheduling.handle"),
        ("drivers.requests", "drivers.uring"),
        ("scheduling.handle", "drivers.op"),
        ("scheduling.timers", "drivers.op"),
        ("drivers.driver", "scheduling.base"),
        ("scheduling.base", "scheduling.future"),
        ("scheduling.future", "scheduling.task"),
        ("scheduling.task", "loop.turn"),
        ("scheduling.task", "net.stream"),
        ("net.receiver", "net.stream"),
        ("net.sender", "net.datagram"),
        ("net.stream", "loop.turn"),
        ("net.stream", "net.listener"),
        ("scheduling.task", "net.listener"),
        ("scheduling.coroutine", "net.listener"),
        ("net.stream", "tls.layer"),
        ("tls.records", "net.stream"),
        ("disk.buffer", "scheduling.base"),
        ("disk.window", "disk.buffer"),
        ("disk.call", "disk.buffer"),
        ("net.stream", "disk.source"),
        ("net.feeder", "net.stream"),
        ("streams.incoming", "streams.reading"),
        ("streams.reading", "streams.reader"),
        ("streams.reader", "net.stream"),
        ("tls.inbox", "tls.layer"),
        ("tls.layer", "streams.reader"),
        ("streams.writer", "tls.layer"),
        ("watching.readiness", "scheduling.coroutine"),
        ("watching.sockets", "loop.turn"),
        ("loop.calls", "loop.turn"),
        ("loop.turn", "loop.running"),
        ("loop.turn", "drivers.epoll"),
        ("loop.turn", "net.listener"),
    ],
)
def test_inner_modules_know_nothing_of_outer_ones(module, never):
    assert {f"hoop.{never}", f"hoop.{module}"} <= set(MODULES)
    assert f"hoop.{never}" not in reachable(imports(), f"hoop.{module}")


def test_nothing_is_imported_by_a_relative_name():
    """imports() would not see it."""
    relative = [
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def declarations(text: str) -> set[Path]:
    """The .pxd files from which names are imported."""
    names = re.findall(r"^from (?:cython\.cimports\.)?(hoop[\w.]*) c?import", text, re.MULTILINE)
    return {path for n in names if (path := SOURCE / f"{n.replace('.', '/')}.pxd").exists()}


def test_cython_sees_each_file_that_a_module_needs():
    """It does not follow `from cython.cimports.a import b` to a/b.pxd. A name has to come from a.b, too."""
    pattern = re.compile(r"^from cython\.cimports\.(hoop[\w.]*) import (\w+)", re.MULTILINE)
    for module, path in MODULES.items():
        text = path.read_text()
        files = [SOURCE / a.replace(".", "/") / f"{b}.pxd" for a, b in pattern.findall(text)]
        seen, todo = set(), declarations(text)
        while todo:
            seen |= (found := todo)
            todo = {name for file in found for name in declarations(file.read_text())} - seen
        assert [file for file in files if file.exists() and file not in seen] == [], module


def test_headers_know_nothing_of_modules():
    """The .pxd of a C header cimports from other headers only."""
    for path in PACKAGE.glob("_c/*.pxd"):
        ours = {name for name in pxd.read(path).cimports.values() if name.startswith("hoop.")}
        assert all(name.startswith("hoop._c") for name in ours), path.name


# ---- prose: one idea a sentence, and its actor named --------------------------------------------------


# Folders below src/hoop, and documents, in which sentences still wait to be made plain.
NOT_YET_PLAIN: set[str] = set()
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "docs"),
    *("RELEASING.md", "SECURITY.md", "CODE_OF_CONDUCT.md"),
    *("benchmarks", "examples", "tests", "tools"),
]
GENERATED = {
    "docs/benchmarks.md",
    "docs/benchmarks-3.13.md",
}  # lists of figures, written by benchmarks/


def prose_files(place: str) -> list[Path]:
    if place in DOCUMENTS:
        return [path for path in prose.files(ROOT / place) if name_of(path) not in GENERATED]
    below = [path for kind in prose.KINDS for path in (PACKAGE / place).glob(f"*{kind}")]
    return [path for path in below if path.is_file()]


@pytest.mark.parametrize("place", sorted({*ROOMS, *DOCUMENTS} - NOT_YET_PLAIN))
def test_sentences_are_plain(place):
    """By hand: `python tools/prose.py src/hoop/net README.md`."""
    assert prose_files(place)
    found = [
        f"{name_of(path)}:{line}: {fault}"
        for path in prose_files(place)
        for line, text in prose.texts(path)
        for fault in prose.faults(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Sends. What is left waits.", "begins with What"),
        ("- Whoever reads is woken.", "begins with Whoever"),
        ("word " * 26, "26 words"),
        ("The loop sleeps; the driver wakes it: soon.", "several colons or semicolons"),
    ],
)
def test_prose_finds_what_is_hard_to_read(text, fault):
    assert [found.startswith(fault) for found in prose.faults(text)] == [True]


def test_prose_lets_plain_words_through():
    plain = (
        "What is a turn? `code: with; signs` and (an: aside) count little.\n\n    What: is; code\n"
    )
    assert list(prose.faults(plain + "| What | a: table; |\n")) == []


# ---- what users read -------------------------------------------------------------------------------


def is_ours(public: object) -> bool:
    """Whether a public object is hoop's, and not one of asyncio's that hoop has too."""
    return getattr(public, "__module__", "") == "hoop"


def test_public_names_exist_and_say_what_they_are():
    ours = [*(name for name in hoop.__all__ if is_ours(getattr(hoop, name))), "Path", "open"]
    assert {"EventLoop", "Queue", "Runner", "install", "read_text"} <= set(ours)
    without = [name for name in ours if "\n    " not in (inspect.getdoc(getattr(hoop, name)) or "")]
    assert without == [], "a docstring with an example is missing"
    assert sorted(hoop.__all__) == hoop.__all__


def test_public_methods_say_what_they_are():
    without = []
    for name in hoop.__all__:
        public = getattr(hoop, name)
        for cls in public.__mro__ if isinstance(public, type) else ():
            if cls.__module__.split(".")[0] == "hoop":
                without += [
                    f"{cls.__qualname__}.{attribute}"
                    for attribute, value in vars(cls).items()
                    if not attribute.startswith("_")
                    and (callable(value) or isinstance(value, property))
                    and not getattr(value, "__doc__", None)
                ]
    assert without == []


def test_no_two_test_files_have_one_name():
    """pytest could not tell them apart: it imports each by its name alone."""
    names = [path.name for path in python_files() if path.name.startswith("test_")]
    assert {name for name in names if names.count(name) > 1} == set()
