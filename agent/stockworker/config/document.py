"""Reads configuration files as trees in which each value has its file and line."""

# Reads a subset of YAML on purpose: one document, no aliases, no merge keys, no tags, limited size and depth. Such a
# file can't expand to a huge tree, and a person understands it the same way as the parser.

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Literal

import yaml

from stockworker.errors import ConfigError
from stockworker.protocol.frozen import dataclass
from stockworker.trusted_files import open_trusted

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 20
_TAG = "tag:yaml.org,2002:"
_PLAIN_TEXT = {f"{_TAG}str", f"{_TAG}timestamp", f"{_TAG}value"}


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Place:
    """The place of a value; lines count from 1, and 0 means the whole file."""

    file: Path
    line: int = 0

    def show(self) -> str:
        return f"{self.file}:{self.line}" if self.line else str(self.file)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One error or warning, with its remedy."""

    place: Place
    key: str
    text: str
    severity: Literal["error", "warning"] = "error"

    def show(self) -> str:
        """Format as `FILE:LINE: key.path: problem and remedy`."""
        warning = "warning: " if self.severity == "warning" else ""
        key = f"{self.key}: " if self.key else ""
        return f"{self.place.show()}: {warning}{key}{self.text}"


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A single value: its text as written, and its YAML type."""

    place: Place
    text: str
    tag: Literal["null", "bool", "int", "float", "str"]


@dataclass(frozen=True, slots=True)
class ListNode:
    """A list."""

    place: Place
    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class TableNode:
    """A mapping; the place of each value is the line of its key."""

    place: Place
    entries: Mapping[str, "Node"] = field(default_factory=dict)


Node = ScalarNode | ListNode | TableNode


class Unreadable(ConfigError):
    """A file is not readable, or is not valid YAML."""

    def __init__(self, place: Place, text: str) -> None:
        self.problem = Problem(place, "", text)
        super().__init__(self.problem.show())


def quoted(text: str) -> str:
    """Quote text for a message: one line, printable, not too long."""
    return ascii(text if len(text) <= 60 else f"{text[:57]}...")  # noqa: PLR2004 (what fits beside the rest on a line)


def read(file: Path, problems: list[Problem]) -> Node | None:
    """Read one file; None if it is empty.

    Problems that leave the rest of the file readable (a duplicate key) are appended to `problems`.

    Raises:
        Unreadable: the file can't be opened, or is not in the YAML subset described above.
    """
    text = _text(file)
    try:
        _refuse_growth(text, file)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise Unreadable(Place(file, line), f"is not valid YAML: {_reason(error, text)}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two: PyYAML on "\UFFFFFFFF"
        raise Unreadable(Place(file), f"is not valid YAML: {str(error).splitlines()[0]}") from None
    return None if node is None else _tree(node, Place(file, 1), problems)


def merge(base: Node | None, over: Node | None) -> Node | None:
    """Override `base` with `over`: tables are merged key by key, everything else is replaced."""
    if over is None or base is None:
        return base if over is None else over
    if not (isinstance(base, TableNode) and isinstance(over, TableNode)):
        return over
    entries = dict(base.entries)
    for key, node in over.entries.items():
        entries[key] = merge(entries.get(key), node) or node
    return TableNode(over.place, entries)


def find(root: Node | None, path: str) -> Node | None:
    """The node at a dotted path; None if it is missing or null."""
    for key in path.split("."):
        if not isinstance(root, TableNode):
            return None
        root = root.entries.get(key)
    return None if isinstance(root, ScalarNode) and root.tag == "null" else root


def _text(file: Path) -> str:
    try:
        with open_trusted(file) as stream:
            data = stream.read(MAX_BYTES + 1)
    except ConfigError as error:
        raise Unreadable(Place(file), str(error).removeprefix(f"{file}: ")) from None
    except FileNotFoundError:
        problem = "does not exist. Create it, or correct the path"
        if file.is_symlink():
            problem = f"is a link to {quoted(str(file.readlink()))}, which does not exist. Correct or remove the link"
        raise Unreadable(Place(file), problem) from None
    except PermissionError:
        raise Unreadable(
            Place(file),
            "can't be read: permission denied for this user. Run as another user, or change the file's mode",
        ) from None
    except OSError as error:
        raise Unreadable(Place(file), f"can't be read: {error.strerror}. Correct the path") from None
    if len(data) > MAX_BYTES:
        raise Unreadable(Place(file), "is larger than 1 MiB, too large for a configuration file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable(Place(file, line), "is not UTF-8; save the file in this encoding") from None


def _refuse_growth(text: str, file: Path) -> None:
    """Refuse YAML features that let a small file expand or recurse without limit, before building a tree."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        place = Place(file, event.start_mark.line + 1 if event.start_mark else 0)
        if isinstance(event, yaml.AliasEvent):
            raise Unreadable(place, "aliases (*name) are not supported; write the value itself")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise Unreadable(place, f"is nested deeper than {MAX_DEPTH} levels")


def _reason(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark
    lines = text.splitlines()
    if mark and mark.line < len(lines) and re.match(r" *\t", lines[mark.line]):
        return "the line is indented with a tab; YAML only allows spaces"
    return error.problem or error.context or "it can't be parsed"


def _tree(node: yaml.Node, place: Place, problems: list[Problem]) -> Node:
    if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
        return _table(node, place, problems)
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
        below = (Place(place.file, item.start_mark.line + 1) for item in node.value)
        return ListNode(place, tuple(_tree(item, at, problems) for item, at in zip(node.value, below, strict=True)))
    if isinstance(node, yaml.ScalarNode):
        if node.tag in _PLAIN_TEXT:
            return ScalarNode(place, node.value, "str")
        for tag in ("null", "bool", "int", "float"):
            if node.tag == _TAG + tag:
                return ScalarNode(place, node.value, tag)
    raise Unreadable(place, f"the tag {quoted(node.tag.replace(_TAG, '!!'))} is not supported; write a plain value")


def _table(node: yaml.MappingNode, place: Place, problems: list[Problem]) -> TableNode:
    entries: dict[str, Node] = {}
    for key, value in node.value:
        at = Place(place.file, key.start_mark.line + 1)
        if not isinstance(key, yaml.ScalarNode):
            raise Unreadable(at, "a key must be plain text")
        if key.tag == f"{_TAG}merge":
            raise Unreadable(at, "merge keys (<<) are not supported; write the keys themselves, or use a drop-in file")
        if key.value in entries:
            first = entries[key.value].place.line
            problems.append(Problem(at, key.value, f"is given twice, first on line {first}; remove one"))
        entries[key.value] = _tree(value, at, problems)
    return TableNode(place, entries)
