"""The budgets and names that keep the code easy to take over."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "agent").rglob("*.py"))
PYTHON = sorted(
    path for folder in ("agent", "tests", "bench", "demo", "packaging") for path in (ROOT / folder).rglob("*.py")
)
LONGEST_FILE = 600
LONGEST_FUNCTION = 60
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "models", "types"}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Every function with the number of its lines, its docstring left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            yield node.name, lines


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_file_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_functions_are_short(path: Path) -> None:
    assert [found for found in functions(path) if found[1] > LONGEST_FUNCTION] == []


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_module_has_a_name_that_says_something(path: Path) -> None:
    assert path.stem not in VAGUE_NAMES


@pytest.mark.parametrize("path", [path for path in SOURCES if path.read_text().strip()], ids=relative)
def test_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_no_key_is_committed() -> None:
    suspects = [
        path
        for path in ROOT.rglob("*")
        if path.suffix in {".pem", ".key", ".crt"} and not any(part.startswith(".venv") for part in path.parts)
    ]
    assert suspects == []
