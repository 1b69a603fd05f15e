"""Checks the types of the compiled core with mypy, which Cython does not do.

Cython looks up an unknown attribute of a C class at run time, and an argument of the wrong class raises a
TypeError there. mypy finds both beforehand, once it can see the declarations of the .pxd files. So this
script shows mypy each compiled `x.py` with the declarations of its `x.pxd` written into it. Fields go on
the line of the class's docstring, everything else after the last line. Errors keep their line numbers.

    python tools/check_core.py            everything mypy finds
    python tools/check_core.py --keep     and leave the text that mypy sees in build/check-core
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pxd

ROOT = Path(__file__).resolve().parent.parent
HEADERS = ROOT / "src" / "hoop" / "_c"
OUT = ROOT / "build" / "check-core"

C_TYPES = {
    "object": "Any",
    "list": "list[Any]",
    "dict": "dict[Any, Any]",
    "tuple": "tuple[Any, ...]",
    "set": "set[Any]",
    "type": "type[Any]",
    "bint": "bool",
    "flag": "bool",
    "double": "float",
    "float": "float",
    "void": "None",
}
C_INTEGER = re.compile(
    r"^(unsigned |signed |long |short )*(int|long|char|short|s?size_t|Py_ssize_t)$"
)

# Methods of `hoop.loop.EventLoop` that the core calls by name, none of them per event.
ADDED = {
    "LoopBase": (
        "_new_driver",
        "call_exception_handler",
        "call_later",
        "create_future",
        "slow_callback_duration",
        "time",
    ),
    "SocketLoop": ("_ensure_fd_no_transport",),
    "Runnable": ("_context", "_wakeup"),  # of a future's waiter, which is always a Task
}

# Errors to ignore. typeshed does not know asyncio's private names. And our classes pass for asyncio's by
# their `__class__`, which mypy cannot see.
EXPECTED = re.compile(
    r'(Module|"type\[Server\]") has no attribute "(_\w+|logger)"|'
    r'incompatible type .* expected "(_asyncio\.|AbstractEventLoop")'
)

MYPY = [
    "--no-error-summary",
    "--no-strict-optional",  # a C attribute of any class may be None
    "--check-untyped-defs",
    "--follow-imports=silent",
    "--no-warn-return-any",
    "--disable-error-code=override",
    "--disable-error-code=var-annotated",
    "--allow-untyped-defs",
    "--allow-incomplete-defs",
    "--allow-untyped-calls",
    "--allow-any-generics",
    "--no-warn-unused-ignores",
    "--config-file=",
    "--python-version=3.13",
]


def python_type(c_type: str) -> str:
    """The type that a type checker should take a C type for."""
    c_type = c_type.removeprefix("const ").strip()
    if c_type.endswith("*"):
        target = c_type[:-1].strip()
        # Cython reads p.x and p[0].x alike, which no type can say: only `Ref *` is checked.
        return f"_cython.pointer[{target}]" if target == "Ref" else "Any"
    if c_type in C_TYPES:
        return C_TYPES[c_type]
    return "int" if C_INTEGER.match(c_type) else c_type


def signature(function: pxd.Function, method: bool) -> str:
    parameters = ["self"] if method else []
    for name, c_type in function.parameters:
        default = " = ..." if name.endswith("=*") else ""
        parameters.append(f"{name.removesuffix('=*')}: {python_type(c_type)}{default}")
    returns = python_type(function.returns)
    return f"def {function.name}({', '.join(parameters)}) -> {returns}: ..."


def declared(declarations: pxd.Declarations, known: set[str]) -> list[str]:
    """Lines for everything in a .pxd but its classes, less the names that are known already."""
    lines = []
    for name, module in declarations.cimports.items():
        if name not in known:
            lines.append(f"from {where(module)} import {name}")
    for name in declarations.enums:
        lines.append(f"{name}: _TypeAlias = int")
    for name in declarations.constants:
        lines.append(f"{name}: int = 0")
    for name, c_type in declarations.aliases.items():
        if name == "Ref":
            lines.append("class Ref: ...")  # not Any: a Ref is no object until it is cast
        else:
            lines.append(f"{name}: _TypeAlias = {python_type(c_type)}")
    for name, c_type in declarations.variables.items():
        lines.append(f"{name}: {python_type(c_type)} = _cython.NULL")
    for name, struct in declarations.structs.items():
        lines.append(f"class {name}:")
        fields = [f"    {n}: {python_type(t)}" for n, t in struct.fields.items()]
        lines += fields or ["    pass"]
    for name, function in declarations.functions.items():
        if name not in known:
            lines.append(signature(function, method=False))
    return lines


def where(module: str) -> str:
    """The module in which a cimported name is to be found by mypy."""
    if module.startswith("hoop._c."):
        return "hoop_c_" + module.rpartition(".")[2]
    return module if module.startswith("hoop.") else f"cython.cimports.{module}"


def prelude() -> list[str]:
    return [
        "import cython as _cython",
        "from collections.abc import Callable as _Callable",
        "from typing import Any, TypeAlias as _TypeAlias",
    ]


def shown(path: Path) -> str:
    """The text of a module of the core as mypy is to see it."""
    declarations = pxd.read(path.with_suffix(".pxd"))
    text = path.read_text()
    text = re.sub(r"\bcython\.(cast|declare)\((\s*)object,", r"cython.\1(\2cython.anything,", text)
    tree = ast.parse(text)
    lines = text.splitlines()
    known = {
        alias.asname or alias.name for node in tree.body for alias in getattr(node, "names", ())
    }
    known |= {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}

    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in declarations.classes:
            docstring = node.body[0]
            assert ast.get_docstring(node) is not None, f"{path}: {node.name} has no docstring"
            row = docstring.lineno - 1
            fields = class_fields(declarations.classes[node.name], node)
            indent = lines[row][: docstring.col_offset]
            lines[row] = indent + fields + lines[row][docstring.col_offset :]

    for number, line in enumerate(lines):
        line = re.sub(r"^from cython\.cimports\.(hoop\.\S+)", lambda m: f"from {where(m[1])}", line)
        # A C array is a pointer, and pointers to structs are not checked.
        line = re.sub(r"^(\s+\w+): (\w+)\[[A-Z_]+\]$", r"\1: cython.pointer[\2]", line)
        line = re.sub(r"\bcython\.pointer\[(?!Ref\b)\w+\]", "cython.anything", line)
        line = re.sub(r"(: |-> )cython\.anything\b", r"\1Any", line)
        line = re.sub(r"^(\s+\w+: \w+)$", r"\1 = cython.NULL", line)  # a C local needs no value
        line = re.sub(r"^(\s+\w+: cython\.\w+)$", r"\1 = cython.NULL", line)
        line = re.sub(r"-> object:$", "-> Any:", line)
        line = re.sub(r"^    @property$", "    @property  # type: ignore[misc]", line)
        lines[number] = line
    return "\n".join([*lines, *prelude(), *declared(declarations, known)]) + "\n"


def class_fields(found: pxd.Class, node: ast.ClassDef) -> str:
    """A class's fields, and the methods that only the .pxd has, as statements on one line."""
    in_python = {
        child.name for child in node.body if isinstance(child, (ast.FunctionDef, ast.ClassDef))
    }
    statements = []
    for name, c_type in found.fields.items():
        if not name.startswith("__"):
            statements.append(f"{name}: {python_type(c_type)}")
    for name, method in found.methods.items():
        if name not in in_python and method.inline:
            parameters = ", ".join(python_type(t) for _, t in method.parameters)
            returns = python_type(method.returns)
            statements.append(f"{name}: _Callable[[{parameters}], {returns}]")
    statements += [f"{name}: Any" for name in ADDED.get(found.name, ())]
    return "".join(f"{statement}; " for statement in statements)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave what mypy was shown")
    arguments = parser.parse_args()

    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    for path in sorted(HEADERS.glob("*.pxd")):
        lines = prelude() + declared(pxd.read(path), set())
        (OUT / f"hoop_c_{path.stem}.pyi").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "mypy", *MYPY, f"--cache-dir={ROOT / '.mypy_cache' / 'core'}"]
    modules = pxd.compiled_modules()
    sources = list(modules.values())
    for name, path in modules.items():
        shadow = OUT / f"{name}.py"
        shadow.write_text(shown(path))
        command += ["--shadow-file", str(path.relative_to(ROOT)), str(shadow)]
    command += [str(path.relative_to(ROOT)) for path in sources]
    mypy_path = os.pathsep.join([str(ROOT / "typings"), str(ROOT / "src"), str(OUT)])
    environment = {**os.environ, "MYPYPATH": mypy_path}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if not arguments.keep:
        shutil.rmtree(OUT)
    if done.returncode > 1:
        print(done.stdout + done.stderr, file=sys.stderr)
        return done.returncode
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    errors = [line for line in errors if not EXPECTED.search(line)]
    print("\n".join([*errors, f"core: {len(errors)} errors in {len(sources)} modules"]))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
