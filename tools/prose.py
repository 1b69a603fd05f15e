"""Finds sentences that are hard to read in the documents, docstrings and comments of the project.

Run it on files and folders: `python tools/prose.py src/hoop/net README.md`. `tests/test_tidy.py` runs it too.
It holds three rules. No statement begins with Who, Whoever, What or Whatever. A sentence has at most
25 words, and at most one colon or semicolon. Code, tables and headings are no sentences.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Iterator
from pathlib import Path

WORDS_MAX = 25
KINDS = {".py", ".pyi", ".pxd", ".h", ".md"}

RIDDLE = re.compile(r"(Who|Whoever|What|Whatever)\b")
SKIPPED = re.compile(r"\s*(\||```|>>>|#)|    |\t")  # tables, code, headings
ITEM = re.compile(r"^\s*([-*] |\d\. )")
SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<=[.!?])[)*\"']*\s+")


def faults(text: str) -> Iterator[str]:
    """Yield each fault of a text, with the sentence in which it is."""
    for sentence in sentences(text):
        words = [word for word in sentence.split() if re.search(r"\w", word)]
        if RIDDLE.match(sentence) and not sentence.endswith("?"):
            yield f"begins with {words[0]}: {sentence}"
        if len(words) > WORDS_MAX:
            yield f"{len(words)} words: {sentence}"
        if len(re.findall(r"[:;](?=\s|$)", sentence)) > 1:
            yield f"several colons or semicolons: {sentence}"


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text; each list item and each paragraph begins a new one."""
    for paragraph in re.split(r"\n\s*\n", text):
        lines: list[str] = []
        for line in paragraph.splitlines():
            if SKIPPED.match(line) or ITEM.match(line):
                yield from split(" ".join(lines))
                lines = []
            if not SKIPPED.match(line):
                lines.append(ITEM.sub("", line).strip())
        yield from split(" ".join(lines))


def split(paragraph: str) -> Iterator[str]:
    """Yield the sentences of a paragraph, with a single word for each piece of code, and no parentheses."""
    paragraph = re.sub(r"``?[^`]*``?", "code", paragraph)
    paragraph = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", paragraph)  # links
    paragraph = paragraph.replace("()", "")
    paragraph = re.sub(r"\([^()]*\)", "", paragraph)
    yield from filter(None, (sentence.strip() for sentence in SENTENCE_END.split(paragraph)))


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each text of a file that people read, with the number of the line where it begins."""
    source = path.read_text()
    if path.suffix == ".md":
        yield 1, re.sub(r"```.*?```", "", source, flags=re.DOTALL)
    elif path.suffix == ".h":
        yield from c_comments(source)
    else:
        if path.suffix != ".pxd":  # they have no docstrings
            yield from docstrings(source)
        yield from comments(source)


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield node.body[0].lineno, docstring


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments. Lines that hold nothing else, and follow each other, are one comment."""
    lines = source.splitlines()
    block: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, text = token.start[0], token.string.removeprefix("#").removeprefix(" ")
        alone = lines[line - 1].lstrip().startswith("#")
        if block and not (alone and line == last + 1):
            yield last - len(block) + 1, "\n".join(block)
            block = []
        if alone:
            block.append(text)
            last = line
        else:
            yield line, text
    if block:
        yield last - len(block) + 1, "\n".join(block)


def c_comments(source: str) -> Iterator[tuple[int, str]]:
    for comment in re.finditer(r"/\*(.*?)\*/", source, re.DOTALL):
        text = re.sub(r"^ \* ?", "", comment[1], flags=re.MULTILINE)
        yield source.count("\n", 0, comment.start()) + 1, textwrap.dedent(text).strip()


def files(path: Path) -> list[Path]:
    """List the files to look at: that file, or all below that folder."""
    if path.is_file():
        return [path]
    return [found for found in sorted(path.rglob("*")) if found.suffix in KINDS]


def main() -> int:
    found = 0
    for path in (file for name in sys.argv[1:] for file in files(Path(name))):
        for line, text in texts(path):
            for fault in faults(text):
                found += 1
                print(f"{path}:{line}: {fault}")
    print(f"{found} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
