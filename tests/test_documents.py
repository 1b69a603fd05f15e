"""The documents: the programs in them run, and links between them lead somewhere."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shutil
import sys
from pathlib import Path

import pytest

import hoop.observe
import hoop.sim

ROOT = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(ROOT / "tools"))

import docs  # noqa: E402

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
BLOCKS = [block for path in DOCUMENTS for block in docs.blocks(path)]


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{b.path.name}-{b.line}" for b in BLOCKS])
def test_program_runs_and_prints_as_it_says(block):
    if "cert.pem" in block.code and shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    assert docs.fault_of(block) is None


def test_every_mark_belongs_to_a_block():
    marks = {path.name: path.read_text().count("<!-- run -->") for path in DOCUMENTS}
    assert marks == {path.name: len(docs.blocks(path)) for path in DOCUMENTS}
    assert BLOCKS


@pytest.mark.parametrize(
    ("code", "prints", "fault"),
    [
        ("print(1)", "1\n", None),
        ("print(1)", None, None),
        ("print(1)", "2\n", "printed"),
        ("1 / 0", None, "ended with status 1"),
        ("open('x', 'w')", None, "ended with status 0"),  # a warning at the end
    ],
)
def test_checker_finds_faults_of_a_block(code, prints, fault):
    found = docs.fault_of(docs.Block(Path("x.md"), 1, code, prints))
    assert found == fault if fault is None else found.startswith(fault)


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path):
    broken = []
    for _, link in docs.LINK.findall(path.read_text()):
        name, _, anchor = link.partition("#")
        if re.match(r"\w+:", link) or name in docs.GENERATED:
            continue
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_links_become_those_of_the_site():
    text = "[a](../ARCHITECTURE.md#the-rooms) [b](files.md) [c](docs/tls.md) [d](../setup.py) [e](https://x.y)"
    assert docs.relinked(text) == (
        "[a](architecture.md#the-rooms) [b](files.md) [c](tls.md) d [e](https://x.y)"
    )


def test_reference_lists_every_public_name():
    page = docs.reference((ROOT / "docs" / "reference.md").read_text())
    assert "::: hoop.sync.queues.Queue\n" in page
    assert "members: ['close'" not in page  # of asyncio's loop
    assert "- `hoop." not in page


def test_reference_describes_all_of_observe():
    """With the parameters that each function has, and with fields that each record has."""
    section = (ROOT / "docs" / "reference.md").read_text().partition("## hoop.observe\n")[2]
    section = section.partition("\n## ")[0]
    described = re.findall(r"^\| `(\w+)(\(.*?\))?` \| (.*?) \|", section, re.M)
    assert sorted(name for name, _, _ in described) == sorted(hoop.observe.__all__)
    for name, parameters, text in described:
        public = getattr(hoop.observe, name)
        if parameters:
            taken = inspect.signature(public).parameters.values()
            shown = [p.replace(annotation=inspect.Parameter.empty) for p in taken]
            assert parameters == str(inspect.Signature(shown)).replace("'", '"')
        else:
            fields = re.findall(r"`(\w+)`", text)
            assert fields
            assert set(fields) <= {field.name for field in dataclasses.fields(public)}


def test_rows_of_a_wide_table_become_sections():
    table = (
        "| of | x | y | z |\n| - | - | - | - |\n| a `b()` | 1 | 2 | |\n| a `b()` | - | 4 | 5 |\n"
    )
    narrow = "\n| a | b |\n| --- | --- |\n| c | d |\n"
    assert docs.as_sections(table + narrow) == (
        "#### A `b()` { #a-b }\n\n- **x:** 1\n- **y:** 2\n\n"
        "#### A `b()` { #a-b-again }\n\n- **x:** -\n- **y:** 4\n- **z:** 5\n\n" + narrow
    )


def test_every_row_of_the_differences_has_its_section():
    text = (ROOT / "docs" / "compatibility.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|") and line.count(" |") == 4]
    assert (
        docs.as_sections(text).count("\n#### ") == len(rows) - 2
    )  # the header, and the line below it


def test_broken_links_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(docs, "SITE", tmp_path)
    (tmp_path / "a.html").write_text(
        '<p id="p"><a href="b.html#q">1</a><a href="#p">2</a><a href="b.html#r">3</a><a href="c.html">4</a>'
    )
    (tmp_path / "b.html").write_text('<p id="q"><a href="https://elsewhere.example/">5</a>')
    assert list(docs.broken_links()) == [
        "a.html: no such anchor: b.html#r",
        "a.html: no such page: c.html",
    ]


def test_reference_describes_all_of_sim():
    section = (ROOT / "docs" / "reference.md").read_text().partition("## hoop.sim\n")[2]
    described = re.findall(r"^\| `(\w+)(\(.*?\))?` \|", section, re.M)
    assert sorted(name for name, _ in described) == sorted(hoop.sim.__all__)
    for name, parameters in described:
        if parameters:
            taken = inspect.signature(getattr(hoop.sim, name)).parameters.values()
            shown = [p.replace(annotation=inspect.Parameter.empty) for p in taken]
            assert parameters == str(inspect.Signature(shown)).replace("'", '"')
