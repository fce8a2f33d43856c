"""Each decision module has a test file of its name, so that a reader knows where its rules are tested."""

import ast
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, layer, parse, pure_modules, tree

SUITES = ("tests/unit", "tests/property")


def decides(module: str) -> bool:
    """Whether a module has a function with a body: data and ports have nothing to test."""
    return any(isinstance(node, ast.FunctionDef) and not is_abstract(node) for node in ast.walk(tree(module)))


def is_abstract(function: ast.FunctionDef) -> bool:
    """Whether a function is only a docstring or `...`: a method of a port."""
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in function.body)


DECISION_MODULES = sorted(
    module
    for module in pure_modules()
    if layer(module) in {"protocol", "dispatcher", "worker", "shell"} and decides(module)
)


def has_a_test(file: Path) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in parse(file).body)


@pytest.mark.parametrize("module", DECISION_MODULES)
def test_a_decision_module_has_a_test_file_of_its_name(module: str) -> None:
    """`test_<module>.py` or, where several packages have such a module, `test_<package>_<module>.py`."""
    package, *names = module.split(".")[1:]
    stem = "_".join(names)
    files = [ROOT / suite / f"test_{name}.py" for suite in SUITES for name in (stem, f"{package}_{stem}")]
    assert any(file.exists() and has_a_test(file) for file in files), [str(file.relative_to(ROOT)) for file in files]
