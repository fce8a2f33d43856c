"""SECURITY.md promises nothing without a test, and every test that it names exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
ATTACKERS = (
    "the network",
    "one submitter",
    "one worker",
    "a handler",
    "the dispatcher",
    "the broker",
    "a user of one machine",
    "the server of the packages",
)


def rows() -> dict[str, list[list[str]]]:
    """The rows of each attacker's table, cell by cell."""
    tables: dict[str, list[list[str]]] = {}
    for section in SECURITY.split("\n### ")[1:]:
        title, _, text = section.partition("\n")
        lines = [line for line in text.splitlines() if line.startswith("| ")]
        tables[title] = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]
    return tables


def test_every_attacker_has_a_table() -> None:
    assert {title: bool(lines) for title, lines in rows().items()} == {
        f"If it is {attacker}": True for attacker in ATTACKERS
    }


def test_every_row_names_a_test() -> None:
    for lines in rows().values():
        for line in lines:
            assert NAMED.search(line[-1]), line


def test_every_named_test_exists() -> None:
    named = NAMED.findall(SECURITY)
    missing = []
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8")) if (ROOT / file).exists() else ast.Module([], [])
        if test not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
            missing.append(f"{file}::{test}")
    assert named
    assert missing == []
