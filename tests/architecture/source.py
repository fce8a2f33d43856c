"""The product's modules as the architecture tests see them, read with `ast`: independent of import-linter."""

import ast
import tomllib
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = "stockworker"
_PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())


@cache
def modules() -> dict[str, Path]:
    """All modules of the product, by their dotted names."""
    found = {}
    for path in sorted((ROOT / "agent" / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / "agent").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def pure_modules() -> set[str]:
    """The modules that the import contract of the core calls pure."""
    (contract,) = (found for found in _PROJECT["tool"]["importlinter"]["contracts"] if found["type"] == "pure")
    core = tuple(contract["core"])
    return {
        module
        for module in modules()
        if (module in core or module.startswith(tuple(f"{name}." for name in core)))
        and module not in contract["shells"]
    }


def tree(module: str) -> ast.Module:
    return parse(modules()[module])


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> set[str]:
    """The modules of the product that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # `from package import name` imports the module `package.name`, if there is one.
            found |= {
                full if (full := f"{node.module}.{name.name}") in modules() else node.module for name in node.names
            }
    return {module for module in found if module in modules()}


def layer(module: str) -> str:
    """The part of a dotted name below the package: the name of a package, or of a module beside them."""
    return module.removeprefix(PACKAGE).lstrip(".").partition(".")[0]
