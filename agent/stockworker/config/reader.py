"""Reads a tree into a `Config`, and collects all problems."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Final, TypeGuard

from stockworker.config.document import ListNode, Node, Place, Problem, ScalarNode, TableNode, quoted
from stockworker.config.key import keys
from stockworker.config.kinds import AnyKind, Each, Free, ListOf, Section, Value, ValueKind, Wrong, json_value
from stockworker.config.schema import Config
from stockworker.protocol.suggestion import suggestion

EMPTY: Final = "is empty: the lines below it are missing or comments. Set its keys, or remove this line, too"
"""A section without a value may be a mistake, and without it the program may protect less (`tls`, `encryption`)."""


def read_config(root: TableNode, problems: list[Problem]) -> Config:
    """Read the whole tree. If an error was added to `problems`, the result is not usable."""
    config = _Reader(problems).section(Section(Config), root, "")
    assert isinstance(config, Config)  # noqa: S101 (for the type checker)
    return config


_MOST_HINTS: Final = 5
"""Unknown keys for which a known one is suggested: comparing names takes long, and a file may have any number of them."""


class _Reader:
    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self._hints = 0

    def section(self, kind: Section, node: Node, path: str) -> Value:
        entries = _entries(node)
        self._refuse_unknown(kind, entries, path)
        values = {}
        for name, key, field in keys(kind.of):
            child = entries.get(name)
            if child is None or (is_null(child) and (child.text or isinstance(key.kind, ValueKind | ListOf))):
                continue
            try:
                values[field.name] = self._value(key.kind, child, _join(path, name))
            except Wrong as wrong:
                place = (wrong.node or child).place
                self._add(place, f"{_join(path, name)}{wrong.below}", str(wrong))
                if field.default is field.default_factory is dataclasses.MISSING:
                    values[field.name] = None  # only a placeholder: after an error, the result is not used
        return kind.of(**values)

    def _value(self, kind: AnyKind, node: Node, path: str) -> Value:
        match kind:
            case Section():
                return self.section(kind, node, path)
            case Each():
                return self._each(kind, node, path)
            case ListOf():
                return self._list(kind, node)
            case Free():
                _entries(node)
                return json_value(node)
            case ValueKind():
                return kind.read(node)

    def _each(self, kind: Each, node: Node, path: str) -> dict[str, Value]:
        values = {}
        for name, child in _entries(node).items():
            below = _join(path, _shown(name))
            try:
                kind.name.parse(name)
                values[name] = (
                    kind.of() if is_null(child) and child.text else self.section(Section(kind.of), child, below)
                )
            except Wrong as wrong:
                self._add(child.place, below, str(wrong))
        return values

    def _list(self, kind: ListOf, node: Node) -> tuple[str, ...]:
        if not isinstance(node, ListNode):
            raise Wrong(f"must be a list, such as {kind.example}")
        return tuple(kind.of.read(item) for item in node.items)

    def _refuse_unknown(self, kind: Section, entries: Mapping[str, Node], path: str) -> None:
        known = tuple(name for name, _, _ in keys(kind.of))
        for name, node in entries.items():
            if name not in known and name not in kind.ignored:
                self._add(node.place, _join(path, _shown(name)), f"unknown key{self._hint(name, known)}")

    def _hint(self, name: str, known: tuple[str, ...]) -> str:
        self._hints += 1
        if self._hints > _MOST_HINTS:
            return ""
        return suggestion(name, known) or _elsewhere(name)

    def _add(self, place: Place, key: str, text: str) -> None:
        self.problems.append(Problem(place, key, text))


def key_paths(section: type = Config, prefix: str = "") -> Iterator[str]:
    """The dotted paths of all keys, including sections."""
    for name, key, _ in keys(section):
        path = _join(prefix, name)
        yield path
        if isinstance(key.kind, Section):
            yield from key_paths(key.kind.of, path)


def _entries(node: Node) -> Mapping[str, Node]:
    if is_null(node):
        raise Wrong(EMPTY)
    if not isinstance(node, TableNode):
        raise Wrong(f"must be a section with keys, not a {'list' if isinstance(node, ListNode) else 'single value'}")
    return node.entries


def _elsewhere(name: str) -> str:
    """A hint for a key in the wrong section."""
    homes = [path for path in key_paths() if path.endswith(f".{name}")]
    return f"; did you mean {homes[0]!r}?" if len(homes) == 1 else ""


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(name: str) -> str:
    """A key as written, safe to print."""
    return name if name.isascii() and name.isprintable() and len(name) <= 60 else quoted(name)  # noqa: PLR2004 (as in quoted)


def is_null(node: Node) -> TypeGuard[ScalarNode]:
    """Whether a key has no value: its text is empty, or `null`, which a user writes on purpose."""
    return isinstance(node, ScalarNode) and node.tag == "null"
