"""The layers of ARCHITECTURE.md, compared with an import graph that is made from the source."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture.source import PACKAGE, ROOT, imports, layer, modules, pure_modules, tree

ABOVE_ALL = {"", "__main__"}
"""The package itself, which imports nothing, and what `python -m stockworker` starts."""

PERFORMS = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}
"""Built-in functions that perform I/O or load code, which need no import."""

GENERATES_CODE = {"stockworker.protocol.compiling": "exec"}
"""The one module that makes functions at run time, of declarations in this code: it may call this, at one place."""


def documented_layers() -> list[set[str]]:
    """The layers of ARCHITECTURE.md from top to bottom; packages of one layer do not import each other."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = page.partition("## The layers")[2]
    block = section.split("```")[1]
    rows = [re.split(r"\s{2,}", line)[0] for line in block.splitlines() if line[:1].strip()]
    return [set(re.split(r"\s*[│|]\s*", row)) for row in rows]


def test_every_package_has_a_documented_layer() -> None:
    documented: set[str] = set().union(*documented_layers())
    assert documented == {layer(module) for module in modules()} - ABOVE_ALL


def test_no_module_is_imported_by_a_layer_below_it() -> None:
    depth = {name: number for number, names in enumerate(documented_layers()) for name in names}
    upward = [
        f"{importer} imports {imported}"
        for importer, path in modules().items()
        if layer(importer) not in ABOVE_ALL
        for imported in imports(path)
        if layer(imported) not in {layer(importer), ""} and depth[layer(imported)] <= depth[layer(importer)]
    ]
    assert upward == []


def test_no_two_modules_import_each_other() -> None:
    """Neither directly nor through others, whether in one package or across."""
    graph = {module: imports(path) - {module} for module, path in modules().items()}
    while leaves := {module for module, imported in graph.items() if not imported & graph.keys()}:
        graph = {module: imported for module, imported in graph.items() if module not in leaves}
    assert graph == {}


def performed(module: str) -> Iterator[str]:
    generates = [GENERATES_CODE.get(module)]
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PERFORMS:
            if generates == [node.func.id]:
                generates.clear()
                continue
            yield f"{module}:{node.lineno} calls {node.func.id}"
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield f"{module}:{node.lineno} waits"


@pytest.mark.parametrize("module", sorted(pure_modules()))
def test_a_pure_module_neither_performs_nor_waits(module: str) -> None:
    assert list(performed(module)) == []


def test_the_pure_modules_are_most_of_the_core() -> None:
    """Guards the tests above: a contract that names no module would satisfy them all."""
    for package in ("protocol", "dispatcher", "worker"):
        core = {module for module in modules() if layer(module) == package} - {f"{PACKAGE}.{package}"}
        assert len(core & pure_modules()) > len(core) / 2
