"""Reads a mapping file or a preset: YAML, and each problem with its file, line, key and remedy."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from stockworker.config.document import (
    ListNode,
    Node,
    Place,
    Problem,
    ScalarNode,
    TableNode,
    find,
    merge,
    quoted,
    read,
)
from stockworker.errors import ConfigError
from stockworker.migration.decoding import DECODERS
from stockworker.migration.mapping import (
    DELETE,
    LOOKUPS,
    REQUIRED,
    STEP,
    Lookup,
    Range,
    SourceMapping,
    ValueMap,
    Values,
)
from stockworker.migration.source import Standing
from stockworker.protocol.suggestion import suggestion

ROOT_KEY: Final = "migration"
PRESETS: Final = Path(__file__).parent / "presets"
KINDS: Final = {"table": "tables", "key": "keys", "queue": "queues", "topic": "topics"}
"""The word for a container, and for several."""

_CONTAINERS: Final = (*KINDS, *KINDS.values())
_KEYS: Final = ("preset", *_CONTAINERS, *LOOKUPS, "standings", "exclude", "name", "settings")
_LOOKUP_KEYS: Final = ("field", "read", "map", "others", "default", "fixed", "zone")
_MOST_SETTING: Final = 1024


def preset_names() -> list[str]:
    """The names of all presets."""
    return sorted(file.stem for file in PRESETS.glob("*.yml"))


def read_mapping(file: Path | None, preset: str | None, container: str | None = None) -> SourceMapping:
    """Read a mapping.

    Args:
        file: a mapping file.
        preset: the preset that the file completes, or that is used alone. A file can name one itself.
        container: the table, key or queue to read in place of the mapping's.

    Raises:
        ConfigError: lists all problems, one per line.
    """
    problems: list[Problem] = []
    tree: Node | None = None
    if file is not None:
        tree = _root(file, problems)
        named = find(tree, "preset")
        if preset is None and isinstance(named, ScalarNode):
            preset = _known_preset(named.text, named.place)
    if preset is not None:
        tree = _over_preset(_root(PRESETS / f"{_known_preset(preset)}.yml", problems), tree)
    if not isinstance(tree, TableNode):
        place = Place(file) if tree is None and file else getattr(tree, "place", Place(Path("--mapping")))
        raise ConfigError(Problem(place, ROOT_KEY, "must be a section with keys").show())
    mapping = _MappingReader(problems).mapping(tree, container)
    if mapping is None:
        raise ConfigError("\n".join(problem.show() for problem in sorted(problems)))
    return mapping


def _over_preset(preset: Node | None, own: Node | None) -> Node | None:
    """The keys of a file over those of its preset. The file names its container with any word."""
    if isinstance(preset, TableNode) and isinstance(own, TableNode) and set(own.entries) & {*_CONTAINERS}:
        rest = {name: node for name, node in preset.entries.items() if name not in _CONTAINERS}
        preset = TableNode(preset.place, rest)
    return merge(preset, own)


def _known_preset(name: str, place: Place | None = None) -> str:
    known = preset_names()
    if name in known:
        return name
    text = f"{quoted(name)} is not a preset{suggestion(name, known)}; presets are {', '.join(known)}"
    raise ConfigError(f"--preset: {text}" if place is None else Problem(place, "preset", text).show())


def _root(file: Path, problems: list[Problem]) -> Node | None:
    document = read(file, problems)
    if not isinstance(document, TableNode) or ROOT_KEY not in document.entries:
        text = f"has no key '{ROOT_KEY}'; move all keys under it"
        raise ConfigError(Problem(document.place if document else Place(file), "", text).show())
    for name, node in document.entries.items():
        if name != ROOT_KEY:
            problems.append(Problem(node.place, name, f"is not read; only '{ROOT_KEY}' is. Remove it"))
    return document.entries[ROOT_KEY]


class _MappingReader:
    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems

    def mapping(self, root: TableNode, container: str | None) -> SourceMapping | None:
        """The mapping; None if there are problems."""
        self._refuse_unknown(root, _KEYS, "")
        kind, containers = self._containers(root, container)
        lookups = {each: self._lookup(root.entries[each], each) for each in LOOKUPS if find(root, each)}
        for each in REQUIRED:
            if each not in lookups:
                self._add(root, each, f"is missing; add it, such as '{each}: {each}' for a field of this name")
        standings, deletes = self._standings(root.entries.get("standings"))
        exclude = root.entries.get("exclude")
        excluded = {} if exclude is None else self._values(exclude, "exclude")
        settings = self._table(root.entries.get("settings"), "settings")
        named = root.entries.get("name")
        name = None if named is None else self._text(named, "name")
        texts = {key: self._text(each, f"settings.{key}") for key, each in settings.items()}
        if self._problems:
            return None
        return SourceMapping(
            kind=kind,
            containers=containers,
            standings=standings,
            exclude=excluded,
            deletes=deletes,
            name=name,
            settings=texts,
            **lookups,
        )

    def _containers(self, root: TableNode, given: str | None) -> tuple[str, tuple[str, ...]]:
        for one, several in KINDS.items():
            node = root.entries.get(several) or root.entries.get(one)
            if node is None:
                continue
            items = node.items if isinstance(node, ListNode) else (node,)
            return one, (given,) if given else tuple(self._text(item, one) for item in items)
        words = ", ".join(f"'{kind}'" for kind in KINDS)
        self._add(root, "", f"names nothing to read; add one of {words}, such as 'table: jobs'")
        return "", ()

    # --- values -------------------------------------------------------------------------------------------------------

    def _lookup(self, node: Node, name: str) -> Lookup:
        if isinstance(node, ScalarNode):
            return Lookup(field=self._text(node, name))
        entries = self._table(node, name)
        if not isinstance(node, TableNode):
            return Lookup(field=None)
        self._refuse_unknown(node, _LOOKUP_KEYS, name)
        texts = {
            key: self._text(entries[key], f"{name}.{key}") for key in ("field", "default", "fixed") if key in entries
        }
        if "field" not in texts and "fixed" not in texts:
            self._add(node, name, "has neither 'field' nor 'fixed'; add the name of a field, or a fixed value")
        return Lookup(
            field=None if "fixed" in texts else texts.get("field"),
            read=self._steps(entries.get("read"), f"{name}.read"),
            map=self._map(entries.get("map"), f"{name}.map"),
            keep_others=self._keeps_others(entries.get("others"), f"{name}.others"),
            default=texts.get("default"),
            fixed=texts.get("fixed"),
            zone_s=self._zone(entries.get("zone"), f"{name}.zone"),
        )

    def _steps(self, node: Node | None, key: str) -> tuple[str, ...]:
        if node is None:
            return ()
        steps = []
        for item in node.items if isinstance(node, ListNode) else (node,):
            step = self._text(item, key)
            if not step.startswith(STEP) and step not in DECODERS:
                known = ", ".join(DECODERS)
                text = f"{quoted(step)} is not a decoder{suggestion(step, DECODERS)}; write .NAME for a step into a value, or one of"
                self._add(item, key, f"{text} {known}")
            steps.append(step)
        return tuple(steps)

    def _map(self, node: Node | None, key: str) -> ValueMap | None:
        if node is None:
            return None
        exact: dict[str, str] = {}
        ranges: list[tuple[Range, str]] = []
        for old, new in self._table(node, key).items():
            text = self._text(new, f"{key}.{old}")
            limits = _range(old)
            if limits is None:
                exact[old] = text
            else:
                ranges.append((limits, text))
        return ValueMap(exact, tuple(ranges))

    def _keeps_others(self, node: Node | None, key: str) -> bool:
        if node is None:
            return False
        word = self._text(node, key)
        if word not in {"keep", "refuse"}:
            self._add(node, key, f"must be keep or refuse, not {quoted(word)}")
        return word == "keep"

    def _zone(self, node: Node | None, key: str) -> float:
        if node is None:
            return 0.0
        written = self._text(node, key)
        sign, digits = written[:1], written[1:].split(":")
        if sign not in {"+", "-"} or len(digits) != len(("hh", "mm")) or not all(map(str.isdecimal, digits)):
            self._add(node, key, f"must be an offset from UTC such as +02:00, not {quoted(written)}")
            return 0.0
        return math.copysign(int(digits[0]) * 3600 + int(digits[1]) * 60, -1 if sign == "-" else 1)

    # --- standings ----------------------------------------------------------------------------------------------------

    def _standings(self, node: Node | None) -> tuple[dict[Standing, Values], bool]:
        standings: dict[Standing, Values] = {}
        deletes = False
        for word, child in self._table(node, "standings").items():
            key = f"standings.{word}"
            if word not in tuple(Standing):
                self._add(child, key, f"is not a standing{suggestion(word, Standing)}; use {', '.join(Standing)}")
            elif word == Standing.MOVED and isinstance(child, ScalarNode) and child.text == DELETE:
                deletes = True
            else:
                standings[Standing(word)] = self._values(child, key)
        own = Standing.CLAIMED, Standing.MOVED, Standing.RETURNING
        for standing in own:
            several = [column for column, values in standings.get(standing, {}).items() if len(values) != 1]
            if several and isinstance(node, TableNode):
                self._add(node, f"standings.{standing}.{several[0]}", "must be one value: this command writes it")
        yours = [str(standings[each]) for each in standings if each in {*own, Standing.PENDING}]
        if len(set(yours)) != len(yours) and isinstance(node, TableNode):
            self._add(
                node, "standings", "two of pending, claimed, moved and returning have the same values; change one"
            )
        return standings, deletes

    def _values(self, node: Node, key: str) -> Values:
        return {
            column: tuple(
                self._nullable(item, f"{key}.{column}")
                for item in (child.items if isinstance(child, ListNode) else (child,))
            )
            for column, child in self._table(node, key).items()
        }

    # --- nodes --------------------------------------------------------------------------------------------------------

    def _nullable(self, node: Node, key: str) -> str | None:
        return None if isinstance(node, ScalarNode) and node.tag == "null" else self._text(node, key)

    def _text(self, node: Node, key: str) -> str:
        if not isinstance(node, ScalarNode) or node.tag == "null" or not node.text:
            self._add(node, key, "must be a single value")
            return ""
        if len(node.text) > _MOST_SETTING:
            self._add(node, key, f"is longer than {_MOST_SETTING} characters")
        return node.text

    def _table(self, node: Node | None, key: str) -> Mapping[str, Node]:
        if node is None:
            return {}
        if not isinstance(node, TableNode):
            self._add(node, key, "must be a section with keys")
            return {}
        return node.entries

    def _refuse_unknown(self, node: TableNode, known: tuple[str, ...], path: str) -> None:
        for name, child in node.entries.items():
            if name not in known:
                key = f"{path}.{name}" if path else name
                hint = suggestion(name, known) or f"; known keys are {', '.join(known)}"
                self._add(child, key, f"unknown key{hint}")

    def _add(self, node: Node, key: str, text: str) -> None:
        self._problems.append(Problem(node.place, key, text))


def _range(written: str) -> Range | None:
    """A range of numbers as a key of a map; None if it is another key."""
    least, dots, most = written.partition("..")
    if not dots or not (least or most):
        return None
    try:
        return Range(float(least) if least else None, float(most) if most else None)
    except ValueError:
        return None
