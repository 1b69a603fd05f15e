"""Style as a test: sizes, docstrings, pairs of files, and who may import whom."""

from __future__ import annotations

import ast
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
CORE = ROOT / "src" / "hoop" / "_core"
LINES_MAX = 800
TEXT = {".py", ".pyi", ".pxd", ".h", ".c", ".md", ".toml", ".html", ".txt", ".yml", ".cfg", ""}

sys.path.insert(0, str(ROOT / "tools"))

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


def core_modules() -> list[str]:
    return [path.stem for path in sorted(CORE.glob("*.py")) if path.name != "__init__.py"]


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


def test_build_requirements_are_said_twice_alike():
    """Building without isolation installs a group; pip with isolation reads [build-system]."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["dependency-groups"]["build"] == project["build-system"]["requires"]


def test_every_package_is_shipped():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    source = ROOT / "src"
    found = {
        ".".join(path.parent.relative_to(source).parts)
        for pattern in ("__init__.py", "__init__.pxd")
        for path in source.rglob(pattern)
    }
    assert set(project["tool"]["setuptools"]["packages"]) == found


# ---- the core: pairs of .py and .pxd -----------------------------------------------------------------


@pytest.mark.parametrize("module", core_modules())
def test_core_module_has_its_declarations_and_its_stub(module):
    assert (CORE / f"{module}.pxd").exists()
    assert (CORE / f"{module}.pyi").exists()


def test_declarations_belong_to_a_module():
    modules = {*core_modules(), "__init__"}
    assert {path.stem for path in CORE.glob("*.pxd")} <= modules
    assert {path.stem for path in CORE.glob("*.pyi")} <= modules


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


@pytest.mark.parametrize("module", core_modules())
def test_attributes_agree(module):
    """Of a field declared in both files Cython believes the .pxd, and says nothing."""
    declarations = pxd.read(CORE / f"{module}.pxd")
    differing = []
    for node in ast.parse((CORE / f"{module}.py").read_text()).body:
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


def core_imports() -> dict[str, set[str]]:
    """For each module of the core, the others it cimports or imports."""
    graph: dict[str, set[str]] = {}
    for module in core_modules():
        named = set(pxd.read(CORE / f"{module}.pxd").cimports.values())
        for node in ast.walk(ast.parse((CORE / f"{module}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                named.add(node.module.removeprefix("cython.cimports."))
            elif isinstance(node, ast.Import):
                named.update(alias.name for alias in node.names)
        ours = {name for name in named if name.split(".")[0] == "hoop"}
        outside = {name for name in ours if not name.startswith("hoop._core.")}
        assert outside == set(), f"{module} imports an outer layer: {outside}"
        graph[module] = {name.split(".")[2] for name in ours} - {"c", module}
    return graph


def test_the_core_has_no_import_cycle():
    try:
        order = list(graphlib.TopologicalSorter(core_imports()).static_order())
    except graphlib.CycleError as exc:
        pytest.fail(f"the core imports in a circle: {' -> '.join(reversed(exc.args[1]))}")
    assert set(order) == set(core_modules())


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    pending = [start]
    while pending:
        for name in graph[pending.pop()] - found:
            found.add(name)
            pending.append(name)
    return found


def test_nothing_in_the_core_names_a_kind_of_driver():
    """The loop is handed its driver. One driver may nest another in itself."""
    drivers = {
        module
        for module in core_modules()
        if any(c.base == "Driver" for c in pxd.read(CORE / f"{module}.pxd").classes.values())
    }
    assert "epoll" in drivers
    graph = core_imports()
    assert {module for module in graph if graph[module] & drivers} - drivers == set()


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("errors", "handle"),
        ("handle", "op"),
        ("timers", "op"),
        ("driver", "base"),
        ("base", "future"),
        ("future", "task"),
        ("task", "loop"),
        ("task", "stream"),
        ("receiver", "stream"),
        ("stream", "loop"),
        ("stream", "listener"),
        ("task", "listener"),
        ("coroutine", "listener"),
        ("stream", "tls_layer"),
        ("records", "stream"),
        ("buffer", "base"),
        ("call", "buffer"),
        ("stream", "file"),
        ("feeder", "stream"),
        ("reader", "stream"),
        ("tls_layer", "reader"),
        ("writer", "tls_layer"),
        ("readiness", "coroutine"),
        ("sockets", "loop"),
        ("loop", "running"),
        ("loop", "epoll"),
        ("loop", "listener"),
    ],
)
def test_inner_modules_know_nothing_of_outer_ones(module, never):
    assert never not in reachable(core_imports(), module)


INSIDE_OUT = ["_core", "loop", "observe", "streams", "files", "tls", "subprocess", "sync"]


def test_inner_packages_do_not_import_outer_ones():
    wrong = []
    for path in (ROOT / "src" / "hoop").rglob("*.py"):
        layer = path.relative_to(ROOT / "src" / "hoop").parts[0].removesuffix(".py")
        if layer not in INSIDE_OUT[:2]:
            continue
        allowed = {f"hoop.{name}" for name in INSIDE_OUT[: INSIDE_OUT.index(layer) + 1]}
        for node in ast.walk(ast.parse(path.read_text())):
            named = getattr(node, "module", None) if isinstance(node, ast.ImportFrom) else None
            names = [named] if named else []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                if name.split(".")[0] == "hoop" and ".".join(name.split(".")[:2]) not in allowed:
                    wrong.append(f"{name_of(path)} imports {name}")
    assert wrong == []


# ---- what users read -------------------------------------------------------------------------------


def test_public_names_exist_and_say_what_they_are():
    without = [name for name in hoop.__all__ if not inspect.getdoc(getattr(hoop, name))]
    assert without == []
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
