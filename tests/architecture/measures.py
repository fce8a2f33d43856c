"""Sizes of source code: lines of code, comments, docstrings, functions. `python -m tests.architecture.measures agent` prints them.

A line of code has a token that is neither a comment nor part of a docstring, so blank lines do not count as code. A string that is a statement of its own is a docstring, also below an attribute.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LAYOUT: Final = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True, slots=True)
class Measures:
    """The sizes of one file or of many.

    Attributes:
        code: lines of code.
        comments: lines with a comment. The theory at the head of a hard module is a block of comments too.
        docstrings: all lines of docstrings, without blank ones.
        functions: the number of lines of each function, without its docstring.
    """

    code: int = 0
    comments: int = 0
    docstrings: int = 0
    functions: tuple[int, ...] = ()

    def __add__(self, other: "Measures") -> "Measures":
        return Measures(
            self.code + other.code,
            self.comments + other.comments,
            self.docstrings + other.docstrings,
            self.functions + other.functions,
        )

    @property
    def comment_share(self) -> float:
        """Lines of comments for each line of code."""
        return self.comments / self.code if self.code else 0.0

    def function_length(self, share: float) -> int:
        """The length that this share of the functions does not exceed."""
        return sorted(self.functions)[int(share * (len(self.functions) - 1))] if self.functions else 0


def measure(text: str) -> Measures:
    module = ast.parse(text)
    documented = {line for node in _docstrings(module) for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    code, comments = set(), set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in _LAYOUT:
            code |= set(range(token.start[0], token.end[0] + 1))
    lines = text.splitlines()
    docstrings = sum(bool(lines[number - 1].strip()) for number in documented)
    return Measures(
        len(code - documented),
        len(comments),
        docstrings,
        tuple(length for _name, length in functions(module)),
    )


def measure_files(paths: Iterable[Path]) -> Measures:
    return sum((measure(path.read_text(encoding="utf-8")) for path in paths), Measures())


def functions(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Every function with the number of its lines from the first statement on, its docstring left out."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _docstrings(module: ast.Module) -> Iterator[ast.Expr]:
    for node in ast.walk(module):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node


def _report(folder: Path) -> str:
    found = measure_files(sorted(folder.rglob("*.py")))
    return (
        f"{found.code} lines of code, {found.comments} of comments ({found.comment_share:.1%} of the code), "
        f"{found.docstrings} of docstrings; {len(found.functions)} functions, "
        f"p50 {found.function_length(0.5)} lines, p95 {found.function_length(0.95)}, longest {found.function_length(1)}"
    )


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(f"{argument}: {_report(Path(argument))}")  # noqa: T201 (a report)
