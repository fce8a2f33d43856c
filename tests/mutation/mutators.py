"""All mutants of a module: each has one change that a programmer could make by mistake. Pure.

A mutant replaces the text of one node, so that the rest of the file stays as it is. What cannot change a decision is left
out: annotations, texts, patterns of `match`, the call of a decorator, and assertions of the program (`raise AssertionError`).
"""

import ast
import copy
from dataclasses import dataclass
from typing import Final

_COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_TWINS: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}

Functions = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module.

    Attributes:
        name: the qualified name of the function that is changed, without those inside it; outside of functions that of the
            class, or an empty one.
        in_function: whether it is in a function.
        line: the first line of the change.
        text: that line, without the blanks around it.
        change: the old text and the new one, on one line.
        source: the whole changed module.
    """

    name: str
    in_function: bool
    line: int
    text: str
    change: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """All mutants of a module, in the order of its lines."""
    found = _Finder(source)
    found.visit(ast.parse(source))
    return sorted(found.mutants, key=lambda mutant: mutant.line)


class _Finder(ast.NodeVisitor):
    def __init__(self, source: str) -> None:
        self._lines = source.encode().splitlines(keepends=True)
        self._names: list[str] = []
        self._functions = 0
        self.mutants: list[Mutant] = []

    # --- where it is --------------------------------------------------------------------------------------------------

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._names.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self._names.pop()

    def visit_FunctionDef(self, node: Functions) -> None:
        inner = self._functions
        self._functions += 1
        if not inner:
            self._names.append(node.name)
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)
        for statement in node.body:
            self.visit(statement)
        if not inner:
            self._names.pop()
        self._functions = inner

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 (the names of NodeVisitor)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """A text; Python 3.11 does not know the places of what is inside it."""

    def visit_match_case(self, node: ast.match_case) -> None:
        if node.guard is not None:
            self._change(node.guard, _negated(node.guard))
            self.visit(node.guard)
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._remove_assignment(node, node.target)
            self.visit(node.value)

    # --- expressions --------------------------------------------------------------------------------------------------

    def visit_Compare(self, node: ast.Compare) -> None:
        for place, operator in enumerate(node.ops):
            for other in _COMPARISONS[type(operator)]:
                changed = copy.deepcopy(node)
                changed.ops[place] = other()
                self._change(node, changed)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._change(node, node.operand)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._change(node, ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))
        for place in range(len(node.values)):
            rest = node.values[:place] + node.values[place + 1 :]
            self._change(node, rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = _ARITHMETIC.get(type(node.op))
        if other is not None and (self._functions or not isinstance(node.op, ast.BitOr)):  # else a union of types
            self._change(node, ast.BinOp(node.left, other(), node.right))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._change(node, ast.Constant(not node.value))
        elif isinstance(node.value, int | float):
            self._change(node, ast.Constant(node.value + 1))

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._change(node.test, _negated(node.test))
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for condition in node.ifs:
            self._change(condition, _negated(condition))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in {"cast", "TypeVar", "field"}:
            return
        if isinstance(node.func, ast.Name) and (twin := _TWINS.get(node.func.id)) is not None:
            self._change(node, ast.Call(ast.Name(twin), node.args, node.keywords))
            self.generic_visit(node)
            return  # the order of its arguments makes no difference
        for place, keyword in enumerate(node.keywords):
            if keyword.arg != "strict":  # of `zip`: an assertion
                self._change(node, ast.Call(node.func, node.args, node.keywords[:place] + node.keywords[place + 1 :]))
        if len(node.args) > 1 and not isinstance(node.args[0], ast.Starred):
            first, second, *rest = node.args
            if ast.dump(first) != ast.dump(second):
                self._change(node, ast.Call(node.func, [second, first, *rest], node.keywords))
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        for place in range(len(node.keys)):
            keys, values = node.keys[:place] + node.keys[place + 1 :], node.values[:place] + node.values[place + 1 :]
            self._change(node, ast.Dict(keys, values))
        self.generic_visit(node)

    # --- statements ---------------------------------------------------------------------------------------------------

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._change(node.test, _negated(node.test))
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._change(node.test, _negated(node.test))
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call | ast.Await | ast.Yield | ast.YieldFrom):
            self._remove(node)
        if not isinstance(node.value, ast.Constant):  # else a docstring
            self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self._remove_assignment(node, node.targets[0])
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._remove(node)
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._remove(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        if not (isinstance(raised, ast.Name) and raised.id == "AssertionError"):
            self._remove(node)
            self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is None:
            self._remove(node)
        elif not (isinstance(node.value, ast.Constant) and (node.value.value is None or node.value.value is False)):
            self._change(node.value, ast.Constant(None))  # None is as good as False
        self.generic_visit(node)

    def visit_Break(self, node: ast.Break) -> None:
        self._change(node, ast.Continue())

    def visit_Continue(self, node: ast.Continue) -> None:
        self._change(node, ast.Break())

    def _remove_assignment(self, node: ast.Assign | ast.AnnAssign, target: ast.expr) -> None:
        if isinstance(target, ast.Attribute | ast.Subscript):  # without a name, every test fails
            self._remove(node)

    # --- results ------------------------------------------------------------------------------------------------------

    def _remove(self, node: ast.stmt) -> None:
        self._change(node, ast.Pass())

    def _change(self, node: ast.expr | ast.stmt, new: ast.expr | ast.stmt) -> None:
        text = ast.unparse(ast.fix_missing_locations(new))
        if isinstance(new, ast.expr) and not isinstance(new, ast.Constant | ast.Name | ast.Call):
            text = f"({text})"
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        before = b"".join(self._lines[:first]) + self._lines[first][: node.col_offset]
        after = self._lines[last][node.end_col_offset :] + b"".join(self._lines[last + 1 :])
        source = (before + text.encode() + after).decode()
        change = f"{ast.unparse(node)} -> {'nothing' if isinstance(new, ast.Pass) else ast.unparse(new)}"
        text = self._lines[first].decode().strip()
        self.mutants.append(
            Mutant(".".join(self._names), self._functions > 0, node.lineno, text, " ".join(change.split()), source)
        )


def _negated(condition: ast.expr) -> ast.expr:
    if isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not):
        return condition.operand
    return ast.UnaryOp(ast.Not(), condition)
