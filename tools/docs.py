"""Builds the site into build/site, checks its links, and runs the Python blocks of docs/ marked to be run.

`make docs` runs it. A block is run if the line before it is `<!-- run -->`. It runs as a program of its
own. If it names cert.pem, its folder has a certificate for localhost, and key.pem. Warnings are errors. If
a `text` block follows, the program has to print exactly that. `python tools/docs.py docs/tls.md` only runs
the blocks of this file.
"""

from __future__ import annotations

import ast
import asyncio
import html.parser
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import hoop

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = ROOT / "build" / "docs"  # what Zensical reads
SITE = ROOT / "build" / "site"  # what it writes, as zensical.toml says
# Documents outside docs/ that are pages of the site too.
ELSEWHERE = {
    "ARCHITECTURE.md": "architecture.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "RELEASING.md": "releasing.md",
    "SECURITY.md": "security-policy.md",
}
GENERATED = {"changelog.md", "examples.md"}  # pages of the site that are no files of docs/

BLOCK = re.compile(r"^<!-- run -->\n```python\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?", re.M | re.S)
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
SECONDS = 30


# ---- blocks ----------------------------------------------------------------------------------------


class Block(NamedTuple):
    """A program in a document, and what it has to print; None if that does not matter."""

    path: Path
    line: int
    code: str
    prints: str | None


def blocks(path: Path) -> list[Block]:
    """The blocks of a document that are to be run."""
    text = path.read_text()
    return [
        Block(path, text.count("\n", 0, found.start(1)) + 1, found[1], found[2])
        for found in BLOCK.finditer(text)
    ]


def make_certificate(folder: Path) -> None:
    """Write a self-signed cert.pem for localhost, and its key.pem, into the folder."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    out = ["-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command.split(), *names, *out], cwd=folder, check=True, capture_output=True)


def fault_of(block: Block) -> str | None:
    """Run a block. Returns what went wrong, or None."""
    with tempfile.TemporaryDirectory() as name:
        if "cert.pem" in block.code:
            make_certificate(Path(name))
        command = [sys.executable, "-W", "error", "-c", block.code]
        try:
            done = subprocess.run(
                command, cwd=name, capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return f"did not end within {SECONDS} seconds"
    if done.returncode or done.stderr:
        return f"ended with status {done.returncode}\n{done.stderr}"
    if block.prints is not None and done.stdout != block.prints:
        return f"printed\n{done.stdout}instead of\n{block.prints}"
    return None


# ---- pages -----------------------------------------------------------------------------------------


def changelog() -> str:
    """The changelog, with what is not released yet as towncrier would write it."""
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "next"]
    coming = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    mark = "<!-- releases -->\n"
    before, found, released = (ROOT / "CHANGELOG.md").read_text().partition(mark)
    if not found:
        raise SystemExit(f"CHANGELOG.md has no line {mark}")
    return f"{before}\n{coming}\n{released}"


def imported_from() -> dict[str, str]:
    """The module from which hoop/__init__.py takes each name, or the name of hoop itself."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse((ROOT / "src/hoop/__init__.py").read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hoop."):
            found.update((alias.asname or alias.name, str(node.module)) for alias in node.names)
    return found


def described(name: str, modules: dict[str, str]) -> str:
    """The part of the reference that describes a public name: mkdocstrings writes it from the sources.

    Attributes that only C sees are left out, and so are asyncio's.
    """
    module = modules.get(name)
    package = ROOT / "src" / str(module).replace(".", "/")
    if module and (package / "__init__.py").exists():  # the name is of a module inside
        [module] = {
            f"{module}.{path.stem}"
            for path in package.glob("*.py")
            if re.search(rf"^(class|def|async def) {name}\b", path.read_text(), re.M)
        }
    lines = [f"::: {module or 'hoop'}.{name}", "    options:", f"      heading: hoop.{name}"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # asyncio's, of policies
        public = getattr(hoop, name)
    if isinstance(public, type):
        is_loop = issubclass(public, asyncio.AbstractEventLoop)
        known = set(dir(asyncio.SelectorEventLoop)) if is_loop else set()
        lines.append(f"      members: {[m for m in own_members(public) if m not in known]}")
        known |= set(vars(public))
        for cls in public.__mro__[1:]:
            if cls.__module__.startswith("hoop.drivers"):
                continue  # only the core calls these
            path = f"{cls.__module__}.{cls.__name__}"
            if cls.__module__ == "hoop":  # it is public too
                path = f"{modules[cls.__name__]}.{cls.__name__}"
            for member in own_members(cls):
                if member not in known:
                    lines += ["", f"::: {path}.{member}", "    options:"]
                    lines += [f"      heading: {member}", "      heading_level: 4"]
            known |= set(vars(cls))
    return "\n".join([*lines, ""])


def own_members(cls: type) -> list[str]:
    """The public members that a class of ours defines and describes."""
    if cls.__module__.split(".")[0] != "hoop":
        return []
    return sorted(
        name for name, member in vars(cls).items() if not name.startswith("_") and member.__doc__
    )


def reference(text: str) -> str:
    """The page of the reference, with a description in place of each name in its lists."""
    modules = imported_from()
    listed = re.findall(r"^- `hoop\.(\w+)`$", text, re.M)
    missing = {
        name
        for name in hoop.__all__
        if str(getattr(getattr(hoop, name), "__module__", "")).split(".")[0] == "hoop"
    }.difference(listed)
    if missing:
        raise SystemExit(f"docs/reference.md does not have {sorted(missing)}")
    return re.sub(
        r"^- `hoop\.(\w+)`$",
        lambda found: "\n" + described(found[1], modules),
        text,
        flags=re.M,
    )


def examples() -> str:
    """A page with every example."""
    lines = [
        "# Examples\n",
        "Each of these programs is a file in the folder `examples/` of the repository. Tests run them all.\n",
    ]
    for path in sorted((ROOT / "examples").glob("*.py")):
        lines += [f"## {path.name}\n", f"```python\n{path.read_text()}```\n"]
    return "\n".join(lines)


def slug(text: str) -> str:
    """An anchor made of a text."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].rstrip("-")


def as_sections(text: str) -> str:
    """Make a heading with an anchor of each row of a table with four columns, and a list of its cells.

    GitHub shows such a table well. On the site it is wider than the page.
    """
    lines: list[str] = []
    header: list[str] = []
    anchors: set[str] = set()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|") or len(cells) != 4:
            header = []
            lines.append(line)
        elif not header:
            header = cells
        elif not set(line) <= set("| -"):
            anchor = slug(cells[0])
            while anchor in anchors:
                anchor += "-again"
            anchors.add(anchor)
            lines += [f"#### {cells[0][0].upper()}{cells[0][1:]} {{ #{anchor} }}", ""]
            lines += [f"- **{name}:** {cell}" for name, cell in zip(header[1:], cells[1:]) if cell]
            lines.append("")
    return "\n".join([*lines, ""])


def relinked(text: str) -> str:
    """Let links lead to pages of the site. A link to any other file of the repository becomes its text."""

    def follow(found: re.Match[str]) -> str:
        target, _, fragment = found[2].partition("#")
        name = target.removeprefix("../")
        if urlsplit(target).scheme or not target:
            return found[0]
        if name in ELSEWHERE:
            return f"[{found[1]}]({ELSEWHERE[name]}{'#' * bool(fragment)}{fragment})"
        if name.startswith("docs/"):
            return f"[{found[1]}]({name.removeprefix('docs/')}{'#' * bool(fragment)}{fragment})"
        is_page = target == name and ((DOCS / name).exists() or name in GENERATED)
        return found[0] if is_page else found[1]

    return LINK.sub(follow, text)


def write_pages() -> None:
    """Write what Zensical reads."""
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(DOCS, PAGES)
    for source, page in ELSEWHERE.items():
        (PAGES / page).write_text((ROOT / source).read_text())
    for path in PAGES.glob("*.md"):
        path.write_text(relinked(path.read_text().replace("<!-- run -->\n", "")))
    compatibility = PAGES / "compatibility.md"
    compatibility.write_text(as_sections(compatibility.read_text()))
    reference_page = PAGES / "reference.md"
    reference_page.write_text(reference(reference_page.read_text()))
    (PAGES / "changelog.md").write_text(relinked(changelog()))
    (PAGES / "examples.md").write_text(examples())


# ---- links -----------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """The anchors of a page, and where its links lead."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value and tag != "meta":
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.add(value)
            elif name == "srcset" and value:
                self.links.update(part.split()[0] for part in value.split(","))


def broken_links() -> Iterator[str]:
    """Yield each link within the site that leads nowhere."""
    pages = {path: Page(path) for path in SITE.rglob("*.html")}
    for path, page in sorted(pages.items()):
        if path.name == "404.html":
            continue  # its links begin at the root of a server
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                yield f"{path.name}: no such page: {link}"
                continue
            anchors = pages[target].anchors if target in pages else None
            if parts.fragment and anchors is not None and unquote(parts.fragment) not in anchors:
                yield f"{path.name}: no such anchor: {link}"


def main(names: list[str]) -> int:
    faults = []
    for path in map(Path, names) if names else sorted(DOCS.glob("*.md")):
        for block in blocks(path):
            if fault := fault_of(block):
                faults.append(f"{path.name}:{block.line}: the block {fault}")
    if not names:
        write_pages()
        zensical = Path(sys.executable).with_name("zensical")
        built = subprocess.run([zensical, "build", "--clean", "--strict"], cwd=ROOT, check=False)
        if built.returncode:
            faults.append("Zensical could not build the site")
        faults += broken_links()
    print("\n".join([*faults, f"{len(faults)} faults"]))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
