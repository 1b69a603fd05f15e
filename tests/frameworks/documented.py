"""The commands and files of docs/frameworks.md, so that the tests run what users read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).resolve().parents[2] / "docs" / "frameworks.md"


class Section(NamedTuple):
    """The commands and files that one section of the page tells its reader to write."""

    commands: list[str]
    files: dict[str, str]  # by the name in their first line
    json: list[str]


def read() -> dict[str, Section]:
    """Each section of the page, by its heading."""
    found = {}
    for part in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        section = Section([], {}, [])
        for kind, text in re.findall(r"^```(\w+)\n(.*?)^```$", part, re.MULTILINE | re.DOTALL):
            if kind == "sh":
                section.commands.extend(text.splitlines())
            elif kind == "json":
                section.json.append(text)
            elif named := re.match(r"# (\w+\.py)\n", text):
                section.files[named[1]] = text
        found[part.partition("\n")[0]] = section
    return found


SECTIONS = read()


def write(section: str, folder: Path) -> list[str]:
    """Write the files of a section into a folder, and return its commands."""
    for name, text in SECTIONS[section].files.items():
        (folder / name).write_text(text)
    return SECTIONS[section].commands
