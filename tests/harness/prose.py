"""The prose of the repository: documents, comments, docstrings and the texts of the code, with the names of the code.

Two tests read it: one for style (``tests/architecture/test_style.py``), one for words (``test_glossary.py``).
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDERS: Final = (
    ".ci",
    "agent",
    "ansible",
    "bench",
    "demo",
    "docs",
    "etc",
    "packaging",
    "sample-data",
    "systemd",
    "tests",
)
"""The folders with files that people read; the files beside them are read as well."""
_NOT_WRITTEN_HERE: Final = {"LICENSE", "copyright", "copyright.Expat"}
"""Legal texts, quoted word for word."""
_NO_PROSE: Final = {".bin", ".json", ".lock", ".gz", ".pyc", ".png", ".override", ".in", ".svg"}
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclass(frozen=True, slots=True)
class Passage:
    """One paragraph, comment or string, without the signs that mark it as one."""

    line: int
    text: str

    def line_at(self, position: int) -> int:
        """The line in the file of a position in the text."""
        return self.line + self.text.count("\n", 0, position)


def files() -> list[Path]:
    """Every file with prose in it, relative to the root of the repository."""
    found = [path for path in ROOT.iterdir() if path.suffix in {".md", ".toml"} or path.name == "Makefile"]
    found += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    return sorted(
        path.relative_to(ROOT)
        for path in found
        if path.name not in _NOT_WRITTEN_HERE
        and path.suffix not in _NO_PROSE
        and not any(part.endswith((".egg-info", "__pycache__")) for part in path.parts)
    )


def passages(path: Path) -> list[Passage]:
    """The prose of a file (relative to the root), in order."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.suffix == ".py":
        return sorted([*_comments(text), *_strings(text)], key=lambda passage: passage.line)
    return list(_paragraphs(text))


def names(path: Path) -> Iterator[tuple[int, str]]:
    """The names that a Python file defines or uses, and its own, with their lines."""
    if path.suffix != ".py":
        return
    yield 0, path.stem
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case _:
                pass


def words(name: str) -> list[str]:
    """The words of a name in snake case or camel case, in lower case."""
    return [word.lower() for word in _WORD.findall(name)]


def _paragraphs(text: str) -> Iterator[Passage]:
    """Lines that belong together: up to an empty line, a row of a table, an item of a list, a comment that ends."""
    start, lines = 1, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        bare = re.sub(r"^\s*(?:#+ |[-*] |\d+\. |; |//)?", "", line).strip()
        begins = bare == "" or re.match(r"\s*(?:[-*|] ?|#{2,} |\d+\. |```)", line) is not None
        if begins and lines:
            yield Passage(start, "\n".join(lines))
            lines = []
        if not lines:
            start = number
        if bare:
            lines.append(bare)
    if lines:
        yield Passage(start, "\n".join(lines))


def _comments(text: str) -> Iterator[Passage]:
    """Comments; those on consecutive lines of their own are one."""
    block: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and (token.start[0] != block[-1].start[0] + 1 or token.start[1] != block[-1].start[1]):
            yield _comment(block)
            block = []
        block.append(token)
    if block:
        yield _comment(block)


def _comment(block: list[tokenize.TokenInfo]) -> Passage:
    return Passage(block[0].start[0], "\n".join(token.string.lstrip("#! ") for token in block))


def _strings(text: str) -> Iterator[Passage]:
    """Strings and docstrings that people read: those with a space in them. `…` is what an f-string puts in."""
    tree = ast.parse(text)
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            found = node.value
        else:
            continue
        if " " in found.strip():
            for paragraph in _paragraphs(found):
                yield Passage(node.lineno + paragraph.line - 1, paragraph.text)
