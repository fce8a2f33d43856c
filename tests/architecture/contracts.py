"""An import contract for import-linter: every module of the core is pure, unless the contract names it as a shell.

Its `forbidden` contract needs a list of pure modules, so a new module is unprotected until an author adds it. This one
needs a list of shells, and of the modules that pure modules may import. So a new module is pure until an author lists it as
a shell, in a line that a reviewer sees. It checks direct imports only: a pure module imports only pure modules and those in
`may_import`.
"""

from collections.abc import Iterable
from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output
from importlinter.application.contract_utils import AlertLevel, remove_ignored_imports_and_report
from importlinter.domain.imports import ImportExpression, Module


class PureContract(Contract):
    """The pure modules of the core import only each other and modules that compute.

    Options of a contract:
        core: modules that are pure, and packages with all their modules.
        shells: the modules of these packages that are not pure; each one must exist.
        may_import: modules outside the core that compute: they reach no clock, no randomness and no I/O.
        ignore_imports: single imports that are harmless; each one must exist.
    """

    type_name = "pure"

    core = fields.SetField(subfield=fields.ModuleField())
    shells = fields.SetField(subfield=fields.ModuleField())
    may_import = fields.SetField(subfield=fields.StringField())
    ignore_imports = fields.SetField(subfield=fields.ImportExpressionField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002, FBT001 (import-linter's signature)
        expressions = cast("list[ImportExpression] | None", self.ignore_imports)
        removal = remove_ignored_imports_and_report(graph, expressions, AlertLevel.ERROR)
        pure = self.pure_modules(graph)
        allowed = pure | cast("set[str]", self.may_import)
        impure = {
            (importer, imported): _lines(graph, importer, imported)
            for importer in pure
            for imported in graph.find_modules_directly_imported_by(importer) - allowed
        }
        return ContractCheck(
            kept=not impure,
            metadata={"impure": impure},
            warnings=list(removal.warnings),
            ignored_import_count=removal.ignored_import_count,
        )

    def render_broken_contract(self, check: ContractCheck) -> None:
        impure: dict[tuple[str, str], list[int]] = check.metadata["impure"]
        for (importer, imported), lines in sorted(impure.items()):
            output.print_error(f"{importer} (line {', '.join(map(str, lines))}) imports {imported}", bold=False)
        output.new_line()
        output.print_error(
            "Pass in what is read from outside, or move the import to a shell. Only a module that performs I/O is a shell.",
            bold=False,
        )

    def pure_modules(self, graph: ImportGraph) -> set[str]:
        """All modules of the core, except the shells.

        Raises:
            ValueError: a module that the contract names does not exist, or a shell is not in the core.
        """
        core = _names(cast("Iterable[Module]", self.core))
        shells = _names(cast("Iterable[Module]", self.shells))
        modules = core.union(*(graph.find_descendants(name) for name in core & graph.modules))
        if missing := (core - graph.modules) | (shells - modules):
            raise ValueError(f"the contract {self.name!r} names what is not in the core: {', '.join(sorted(missing))}")
        return modules - shells


def _names(modules: Iterable[Module]) -> set[str]:
    return {module.name for module in modules}


def _lines(graph: ImportGraph, importer: str, imported: str) -> list[int]:
    return [details["line_number"] for details in graph.get_import_details(importer=importer, imported=imported)]
