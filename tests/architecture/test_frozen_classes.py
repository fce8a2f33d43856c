"""Frozen classes with slots come from `stockworker.protocol.frozen`: those of the library cost each start four times as much."""

import ast

import pytest

from tests.architecture.source import layer, modules, tree

BELOW = {"logs", "errors", "trusted_files"}
"""Layers that can't import `protocol`."""


def is_plainly_frozen(decorator: ast.expr) -> bool:
    """Whether it is ``dataclass(frozen=True, slots=True)``, with nothing else that only the library has."""
    if not isinstance(decorator, ast.Call):
        return False
    options = {each.arg: ast.unparse(each.value) for each in decorator.keywords}
    options.pop("kw_only", None)
    return ast.unparse(decorator.func).endswith("dataclass") and options == {"frozen": "True", "slots": "True"}


def library_names(module: str) -> set[str]:
    """What a module calls the decorator of the library."""
    froms = [each for each in ast.walk(tree(module)) if isinstance(each, ast.ImportFrom)]
    names = {alias.asname or alias.name for each in froms if each.module == "dataclasses" for alias in each.names}
    return (names & {"dataclass"}) | {"dataclasses.dataclass"}


@pytest.mark.parametrize("module", sorted(each for each in modules() if layer(each) not in BELOW))
def test_frozen_classes_are_cheap_to_declare(module: str) -> None:
    classes = [each for each in ast.walk(tree(module)) if isinstance(each, ast.ClassDef)]
    calls = [call for each in classes for call in each.decorator_list if is_plainly_frozen(call)]
    costly = [f"line {call.lineno}" for call in calls if ast.unparse(call).partition("(")[0] in library_names(module)]
    assert costly == []
