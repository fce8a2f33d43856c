"""The keyring: which public keys are trusted, and for what. A public file, the same on all machines, a line per key."""

#     submitter desk-1   ed25519:<base64> x25519:<base64> [types=a,b] [not-before=TIME] [not-after=TIME]
#     worker    edge-7-1 ed25519:<base64> [x25519:<base64>] [groups=a,b] [not-before=TIME] [not-after=TIME]
#     group     prices   x25519:<base64> types=a,b [not-before=TIME] [not-after=TIME]
#
# A rotation is two lines of one name with overlapping times. The file contains no secrets, but a user who can write it
# can add trusted keys. So only root, or the user of the program that reads it, may be able to (`trusted_files`).
#
# A line is valid between its times, and each use of a key asks for the right kind of validity:
#
# - seal to a group: with the newest valid key, see `Keyring.group_for`;
# - accept a signature: only of a key that is valid now, see `Keyring.trusted`;
# - open with a group's key: at any time, even after the line has expired, because old jobs must still run, see
#   `Keyring.group_lines`.

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from stockworker.adapters.files import PUBLIC, make_folder, replace_file
from stockworker.config.kinds import TIME, Wrong
from stockworker.errors import ConfigError, SealRefused, unread
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobType, check_id
from stockworker.sealing.envelope import GroupName, KeyId, Refusal
from stockworker.trusted_files import open_trusted

Name = TypeVar("Name", JobType, GroupName)

_KEY_BYTES: Final = 32
_LARGEST_FILE: Final = 16 * 1024 * 1024


class Holder(StrEnum):
    """The kind of a key's holder."""

    SUBMITTER = "submitter"
    WORKER = "worker"
    GROUP = "group"


_ABSENT: Final = "copy the keyring of the fleet there, or create it with 'stockworker keys generate'"

_KEYS: Final = {
    Holder.SUBMITTER: (frozenset({"ed25519", "x25519"}), frozenset({"types"})),
    Holder.WORKER: (frozenset({"ed25519"}), frozenset({"x25519", "groups"})),
    Holder.GROUP: (frozenset({"x25519", "types"}), frozenset[str]()),
}
"""Holder → the required and the optional fields of a line, without its times."""

_LISTS: Final = frozenset({"types", "groups"})
_TIMES: Final = frozenset({"not-before", "not-after"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One line.

    Attributes:
        holder, name: the holder of the keys.
        verifying: Ed25519 public key that verifies signatures of the holder; None for a group.
        sealing: X25519 public key that payloads or results are sealed to; None if the line has none.
        types: job types that the holder may submit or run; None means all.
        groups: groups whose jobs the worker may answer; None means all. Other holders have none.
        not_before: start of the validity, in seconds since the epoch; None means no start.
        not_after: end of the validity, in seconds since the epoch; None means no end.
    """

    holder: Holder
    name: str
    verifying: bytes | None
    sealing: bytes | None
    types: frozenset[JobType] | None
    not_before: float | None = None
    not_after: float | None = None
    groups: frozenset[GroupName] | None = None

    def is_valid(self, now: float) -> bool:
        """Whether the line is valid at a time."""
        return (self.not_before is None or now >= self.not_before) and (self.not_after is None or now <= self.not_after)

    def allows(self, job_type: str) -> bool:
        """Whether the line covers a job type."""
        return self.types is None or job_type in self.types

    def answers_for(self, group: str) -> bool:
        """Whether the line lets a worker answer jobs of a group."""
        return self.groups is None or group in self.groups

    @property
    def ids(self) -> Iterator[KeyId]:
        """The IDs of its keys."""
        return (key_id(key) for key in (self.verifying, self.sealing) if key is not None)


class Keyring:
    """All lines of a keyring, with indexes."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        self._groups = [entry for entry in self.entries if entry.holder is Holder.GROUP]
        self._named: dict[tuple[Holder, str], list[Entry]] = {}
        self._by_key: dict[tuple[Holder, str, KeyId], list[Entry]] = {}
        for entry in self.entries:
            self._named.setdefault((entry.holder, entry.name), []).append(entry)
            for key in entry.ids:
                self._by_key.setdefault((entry.holder, entry.name, key), []).append(entry)

    def named(self, holder: Holder, name: str) -> list[Entry]:
        """The lines of one holder, in file order."""
        return self._named.get((holder, name), [])

    def trusted(self, holder: Holder, name: str, key: KeyId, now: float) -> Entry:
        """The valid line of this holder with this key.

        Raises:
            SealRefused: no such line is valid now; the text has the reason.
        """
        entries = self._by_key.get((holder, name, key), [])
        for entry in entries:
            if entry.is_valid(now):
                return entry
        if entries:
            problem = f"its key {key} is not valid at this time"
        elif self.named(holder, name):
            problem = f"the key is not {key}"
        else:
            problem = "it is missing"
        raise SealRefused(Refusal.UNTRUSTED, f"{holder} {name} is not trusted: in the keyring, {problem}")

    def group_for(self, job_type: str, now: float) -> Entry | None:
        """The newest valid key of the group that runs a job type: the one with the latest start of its validity."""
        found = [entry for entry in self._groups if entry.allows(job_type) and entry.is_valid(now)]
        # Among equals the last line, because new lines are added at the end of the file.
        return max(reversed(found), key=lambda entry: entry.not_before or 0.0, default=None)

    def group_lines(self, group: str, key: KeyId) -> list[Entry]:
        """All lines of this group with this key, valid or not: expired keys must still open old jobs."""
        return self._by_key.get((Holder.GROUP, group, key), [])


def key_id(public: bytes) -> KeyId:
    """The ID of a raw public key: the first 16 hex digits of its SHA-256."""
    return KeyId(hashlib.sha256(public).hexdigest()[:16])


def load(path: Path) -> Keyring:
    """Read a keyring.

    Raises:
        ConfigError: the file is not readable, other users can write it, or it has invalid lines (all of them are listed).
    """
    return parse(read(path), str(path))


def read(path: Path) -> str:
    """Read the text of a keyring.

    Raises:
        ConfigError: the file is not readable or too large, or other users can write it.
    """
    try:
        with open_trusted(path) as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: can't read the keyring: {unread(error, _ABSENT)}") from error
    if len(content) > _LARGEST_FILE:
        raise ConfigError(
            f"{path}: is larger than {_LARGEST_FILE >> 20} MiB, so it is not a keyring; name another file"
        )
    return content.decode(errors="replace")


def parse(text: str, name: str) -> Keyring:
    """Parse the text of a keyring; `name` is the file name for errors.

    Raises:
        ConfigError: lines are invalid; all of them are listed.
    """
    entries: list[Entry] = []
    faults: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            entry = _read_line(line)
        except ValueError as error:
            faults.append(f"{name}:{number}: {error}")
        else:
            entries += [] if entry is None else [entry]
    if faults:
        raise ConfigError("\n".join(faults))
    return Keyring(entries)


def _read_line(line: str) -> Entry | None:
    words = line.partition("#")[0].split()
    return _read_entry(words) if words else None


def _read_entry(words: list[str]) -> Entry:
    kinds = ", ".join(Holder)
    if words[0] not in set(Holder):
        raise ValueError(f"a line must begin with one of {kinds}, not with {words[0][:40]!r}")
    holder = Holder(words[0])
    if len(words) == 1:
        raise ValueError(f"the name is missing; write '{holder} NAME KEYS'")
    name = check_id(words[1])
    fields = dict(_read_field(word) for word in words[2:])
    if len(fields) < len(words) - 2:
        raise ValueError("a field is given twice; a line has one key of each type")
    needed, allowed = _KEYS[holder]
    if missing := needed - fields.keys():
        raise ValueError(f"{', '.join(sorted(missing))} is missing; 'stockworker keys export' prints complete lines")
    if unknown := fields.keys() - needed - allowed - _TIMES:
        raise ValueError(f"a {holder} has no {', '.join(sorted(unknown))}; remove it")
    not_before, not_after = (_read_time(name, fields.get(name)) for name in ("not-before", "not-after"))
    if not_before is not None and not_after is not None and not_before >= not_after:
        raise ValueError("not-before must be earlier than not-after, or the line is never valid")
    return Entry(
        holder,
        name,
        _read_key("ed25519", fields.get("ed25519")),
        _read_key("x25519", fields.get("x25519")),
        _read_names(JobType, fields.get("types")),
        not_before,
        not_after,
        _read_names(GroupName, fields.get("groups")),
    )


def _read_field(word: str) -> tuple[str, str]:
    for mark in (":", "="):
        name, found, value = word.partition(mark)
        if found and name in ({"ed25519", "x25519"} if mark == ":" else _LISTS | _TIMES):
            return name, value
    raise ValueError(
        f"{word[:40]!r} is not one of ed25519:KEY, x25519:KEY, types=A,B, groups=A,B, not-before=TIME, not-after=TIME. "
        "Check that the line was not split"
    )


def _read_key(name: str, text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        key = b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES or not any(key):
        raise ValueError(f"{name}: not a key (32 bytes in base64); copy the line again")
    return key


def _read_names(kind: Callable[[str], Name], text: str | None) -> frozenset[Name] | None:
    return None if text is None else frozenset(kind(check_id(word)) for word in text.split(","))


def _read_time(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(TIME.parse(text))
    except Wrong as error:
        raise ValueError(f"{name} {error}") from None


def show(entry: Entry) -> str:
    """Format an entry as a line."""
    words = [str(entry.holder), entry.name]
    words += [
        f"{name}:{b64encode(key).decode()}"
        for name, key in (("ed25519", entry.verifying), ("x25519", entry.sealing))
        if key
    ]
    words += [
        f"{name}={','.join(sorted(names))}"
        for name, names in (("types", entry.types), ("groups", entry.groups))
        if names is not None
    ]
    words += [
        f"{name}={TIME.show(time)}"
        for name, time in (("not-before", entry.not_before), ("not-after", entry.not_after))
        if time is not None
    ]
    return " ".join(words)


def expire(text: str, holder: Holder, name: str, not_after: float) -> str:
    """Limit the validity of all lines of one holder to `not_after`, in the text of a valid keyring.

    A line that begins later than that becomes a comment.
    """
    lines = []
    for line in text.split("\n"):
        entry = _read_line(line)
        if entry is None or not _is_of(entry, holder, name) or not _outlasts(entry, not_after):
            lines.append(line)
        elif entry.not_before is not None and entry.not_before >= not_after:
            lines.append(f"# {line}")
        else:
            _, mark, comment = line.partition("#")
            lines.append(f"{show(replace(entry, not_after=not_after))}{' ' if mark else ''}{mark}{comment}")
    return "\n".join(lines)


def without(text: str, holder: Holder, name: str) -> str:
    """The text of a valid keyring without all lines of one holder."""
    return "\n".join(line for line in text.split("\n") if not _is_of(_read_line(line), holder, name))


def _is_of(entry: Entry | None, holder: Holder, name: str) -> bool:
    return entry is not None and (entry.holder, entry.name) == (holder, name)


def _outlasts(entry: Entry, time: float) -> bool:
    return entry.not_after is None or entry.not_after > time


def write(path: Path, text: str) -> None:
    """Replace a keyring atomically.

    Raises:
        ConfigError: the file is not writable.
    """
    try:
        make_folder(path.parent, 0o755)
        replace_file(path, text.encode(), PUBLIC)
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror}") from error
