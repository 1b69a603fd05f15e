"""Finds the compiled modules and reads their .pxd files: their cimports, and their declarations.

This is no parser of Cython: it knows the forms that the core uses, and raises SyntaxError for others.
`tools/check_core.py` and `tests/test_tidy.py` are built on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"


def compiled_modules() -> dict[str, Path]:
    """Return the .py file of each compiled module by its name; setup.py knows them by the .pxd, too."""
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts): path
        for path in sorted(SOURCE.rglob("*.py"))
        if path.with_suffix(".pxd").exists()
    }


@dataclass
class Function:
    """A C function or method."""

    name: str
    returns: str
    parameters: list[tuple[str, str]]  # (name, C type); optional ones end in "=*"
    inline: bool = False  # its body is in the .pxd


@dataclass
class Class:
    """An extension type, or a struct (then without methods)."""

    name: str
    base: str | None = None
    fields: dict[str, str] = field(default_factory=dict)  # name -> C type
    python_fields: set[str] = field(default_factory=set)  # those that Python can read
    methods: dict[str, Function] = field(default_factory=dict)


@dataclass
class Declarations:
    """The content of one .pxd."""

    cimports: dict[str, str] = field(default_factory=dict)  # name -> module it comes from
    constants: list[str] = field(default_factory=list)  # members of enums
    enums: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)  # ctypedef -> C type
    structs: dict[str, Class] = field(default_factory=dict)
    classes: dict[str, Class] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)


@dataclass
class Line:
    """A logical line, and the deeper indented lines below it."""

    text: str
    number: int
    children: list[Line] = field(default_factory=list)


_FUNCTION = re.compile(
    r'^(?P<inline>inline )?(?P<type>.*?)(?P<name>\w+)\s*(?:"[^"]*")?\((?P<parameters>.*)\)'
    r"\s*(?:noexcept|nogil|except[ ?*+-]*\w*|\s)*:?$"
)
_FUNCTION_POINTER = re.compile(r"^(?P<type>.*)\(\*(?P<name>\w+)\)\s*\(.*\)\s*(noexcept)?$")
_VARIABLE = re.compile(r'^(?P<stars>\**)(?P<name>\w+)(?P<array>\[\w*\])?\s*(?:"[^"]*")?$')


def read(path: Path) -> Declarations:
    """Return the declarations of a .pxd file."""
    declarations = Declarations()
    try:
        for line in _tree(path.read_text()):
            _top_level(line, declarations)
    except SyntaxError as exc:
        exc.filename = str(path)
        raise
    return declarations


def _logical_lines(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (line number, indentation, text) without comments, with parentheses closed."""
    pending = ""
    first = indent = 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"\s*#.*", "", raw)
        if not line.strip():
            continue
        if not pending:
            first, indent = number, len(line) - len(line.lstrip())
        pending = f"{pending} {line.strip()}".strip()
        if pending.count("(") == pending.count(")"):
            yield first, indent, pending
            pending = ""


def _tree(text: str) -> list[Line]:
    top: list[Line] = []
    open_blocks: list[tuple[int, list[Line]]] = [(-1, top)]
    for number, indent, content in _logical_lines(text):
        while indent <= open_blocks[-1][0]:
            open_blocks.pop()
        line = Line(content, number)
        open_blocks[-1][1].append(line)
        open_blocks.append((indent, line.children))
    return top


def _top_level(line: Line, into: Declarations) -> None:
    text = line.text
    if text.startswith("@"):
        return
    if match := re.match(r"from (\S+) cimport \(?(.*?)\)?$", text):
        for name in match[2].split(","):
            if name.strip():
                into.cimports[name.split()[-1]] = match[1]
    elif match := re.match(r"cimport (\S+)$", text):
        into.cimports[match[1]] = match[1]
    elif re.match(r"cdef extern from .*:$", text):
        for child in line.children:
            _declaration(child.text, child, into)
    elif text.startswith("ctypedef "):
        _declaration(text, line, into)
    elif text.startswith("cdef "):
        _declaration(text.removeprefix("cdef "), line, into)
    else:
        raise SyntaxError(f"line {line.number}: {text!r} is not understood")


def _declaration(text: str, line: Line, into: Declarations) -> None:
    text = text.removeprefix("ctypedef ")
    if match := re.match(r"enum\s*(\w*):\s*(.*)$", text):
        if match[1]:
            into.enums.append(match[1])
        members = [match[2], *(child.text for child in line.children)]
        into.constants += [re.split(r"[\s=,]", member)[0] for member in members if member]
    elif match := re.match(r"struct (\w+):$", text):
        struct = into.structs[match[1]] = Class(match[1])
        for child in line.children:
            if child.text != "pass":
                struct.fields.update(_variables(child.text, child.number))
    elif match := re.match(r"class (\w+)(?:\((\w+)\))?:$", text):
        into.classes[match[1]] = _class(match[1], match[2], line)
    elif match := _FUNCTION_POINTER.match(text):
        into.aliases[match["name"]] = "object"
    elif match := _FUNCTION.match(text):
        function = _function(match)
        into.functions[function.name] = function
    elif line.text.startswith("ctypedef "):
        into.aliases.update(_variables(text, line.number))
    else:
        into.variables.update(_variables(text, line.number))


def _class(name: str, base: str | None, line: Line) -> Class:
    found = Class(name, base)
    for child in line.children:
        text = re.sub(r"^cp?def ", "", child.text)
        if text.startswith("@"):
            continue
        if text == child.text:
            raise SyntaxError(f"line {child.number}: {text!r} is not understood")
        if match := _FUNCTION.match(text):
            function = _function(match)
            found.methods[function.name] = function
            continue
        visible = re.match(r"(readonly|public) ", text)
        names = _variables(text[visible.end() :] if visible else text, child.number)
        found.fields.update(names)
        if visible:
            found.python_fields.update(names)
    return found


def _function(match: re.Match[str]) -> Function:
    parameters = []
    for number, parameter in enumerate(_split(match["parameters"])):
        if parameter == "self":
            continue
        optional = "=*" if parameter.endswith("=*") else ""
        parameter = parameter.removesuffix("=*").strip()
        found = re.match(r"^(.*[\s*])(\w+)$", parameter)
        if found and found[1].strip() not in ("const", "unsigned", "long"):
            parameters.append((found[2] + optional, found[1].strip()))
        else:
            parameters.append((f"_{number}{optional}", parameter))
    return Function(match["name"], match["type"].strip(), parameters, bool(match["inline"]))


def _split(parameters: str) -> list[str]:
    return [parameter.strip() for parameter in parameters.split(",") if parameter.strip()]


def _variables(text: str, number: int) -> dict[str, str]:
    """Parse `int a, *b, c[N]`."""
    first, *rest = _split(text)
    match = re.match(r'^(.*?[\s*])(\w+(?:\[\w*\])?(?:\s*"[^"]*")?)$', first)
    if match is None:
        raise SyntaxError(f"line {number}: {text!r} is not understood")
    base = match[1].strip()
    found = {}
    for declarator in [match[2], *rest]:
        parts = _VARIABLE.match(declarator)
        if parts is None:
            raise SyntaxError(f"line {number}: {declarator!r} is not understood")
        pointer = " *" if parts["array"] else ""
        found[parts["name"]] = base + parts["stars"] + pointer
    return found
