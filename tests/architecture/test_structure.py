"""The budgets and names that keep the code easy to take over."""

import ast
from pathlib import Path

import pytest

from tests.architecture.measures import functions, measure_files
from tests.architecture.source import ROOT, modules, parse

SOURCES = list(modules().values())
PYTHON = sorted(
    path for folder in ("agent", "tests", "bench", "demo", "packaging") for path in (ROOT / folder).rglob("*.py")
)
LONGEST_FILE = 600
LONGEST_FUNCTION = 60
MOST_FUNCTIONS = 0.95, 18
"""This share of the product's functions has at most this number of lines."""

LEAST_EXPLANATION = 0.05
"""Lines of comments for each line of code."""

VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "models", "types"}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_file_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_functions_are_short(path: Path) -> None:
    assert [found for found in functions(parse(path)) if found[1] > LONGEST_FUNCTION] == []


def test_most_functions_are_very_short() -> None:
    share, lines = MOST_FUNCTIONS
    assert measure_files(SOURCES).function_length(share) <= lines


def test_the_product_is_explained() -> None:
    """Reasons beside the code, and the theory at the head of the hard modules."""
    assert measure_files(SOURCES).comment_share >= LEAST_EXPLANATION


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_module_has_a_meaningful_name(path: Path) -> None:
    assert path.stem not in VAGUE_NAMES


@pytest.mark.parametrize("path", [path for path in SOURCES if path.read_text().strip()], ids=relative)
def test_a_module_states_its_purpose(path: Path) -> None:
    assert ast.get_docstring(parse(path))


def test_no_key_is_committed() -> None:
    suspects = [
        path
        for path in ROOT.rglob("*")
        if path.suffix in {".pem", ".key", ".crt"} and not any(part.startswith(".venv") for part in path.parts)
    ]
    assert suspects == []


def test_each_class_has_a_name_of_its_own() -> None:
    """Log events are left out: they are named after what happened, and modules write `logged.LinkUp`."""
    places: dict[str, list[str]] = {}
    for path in SOURCES:
        if relative(path) in {
            f"agent/stockworker/logs/{name}.py" for name in ("events", "metrics_events", "web_events", "worker_events")
        }:
            continue
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(relative(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
