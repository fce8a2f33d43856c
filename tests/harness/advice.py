"""The advice in the product's texts: commands to run and settings to change. Each has a test that follows it."""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

PRODUCT: Final = Path(__file__).resolve().parents[2] / "agent" / "stockworker"
TESTS: Final = Path(__file__).resolve().parents[1]

_ADVICE: Final = re.compile(
    r"stockworker [a-z]|\bch(mod|own) |\bsystemctl [a-z]|\bmkdir |\b[Uu]se --|\bwith --|\badd --|\b[Ss]et ([a-z_]+\.|'|either|a value|its|the ID)"
    r"|\bwrite the |\bmove it away"
)
_NO_ADVICE: Final = frozenset(
    # Calls whose texts describe options, commands and keys: references, not remedies.
    {"add_argument", "Command", "Wire", "_key", "_described", "_event", "AnyKind", "add_parser", "add_config"}
)
_REFERENCES: Final = frozenset(
    {"broker/acl.py", "broker/configuration.py", "cli/commands.py", "sealing/envelope.py", "terminal/exits.py"}
)
"""Modules whose texts are generated files, tables of commands, and labels in ciphertexts."""

T = TypeVar("T")


def follows(*_texts: str) -> Callable[[T], T]:
    """Mark a test that sees a problem, follows the advice in its text, and sees the problem gone.

    Args:
        _texts: the advice as the source has it, with `…` for the parts that vary.
    """
    return lambda test: test


@cache
def given() -> frozenset[str]:
    """Each advice of the product, with `…` for the parts that vary."""
    return frozenset(
        text
        for file in sorted(PRODUCT.rglob("*.py"))
        if str(file.relative_to(PRODUCT)) not in _REFERENCES
        for text in _texts(ast.parse(file.read_text(encoding="utf-8")))
        if _ADVICE.search(text)
    )


@cache
def followed() -> frozenset[str]:
    """The texts of all `follows` in the tests."""
    return frozenset(
        argument.value
        for file in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "follows"
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    )


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in _NO_ADVICE:
            return
    if isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Attribute) and target.attr == "description" for target in node.targets
    ):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from _texts(part.value)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from _texts(child)
