"""Whose keys are trusted with what: one public file, the same on every machine, a line per key.

::

    submitter desk-1   ed25519:<base64> x25519:<base64> [types=a,b] [not-before=TIME] [not-after=TIME]
    worker    edge-7-1 ed25519:<base64> [x25519:<base64>] [not-before=TIME] [not-after=TIME]
    group     prices   x25519:<base64> types=a,b [not-before=TIME] [not-after=TIME]

Rotation is two lines of one name whose times overlap. Nothing here is secret, but whoever can write it decides who is
trusted: it belongs to root.
"""

import hashlib
import os
import stat
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from stockworker.adapters.files import PUBLIC, replace_file
from stockworker.errors import ConfigError, SealRefused
from stockworker.protocol.ids import JobType, check_id
from stockworker.sealing.envelope import KeyId, Refusal

_KEY_BYTES: Final = 32
_LARGEST_FILE: Final = 16 * 1024 * 1024


class Holder(StrEnum):
    """Whose key it is."""

    SUBMITTER = "submitter"
    WORKER = "worker"
    GROUP = "group"


_KEYS: Final = {
    Holder.SUBMITTER: (frozenset({"ed25519", "x25519"}), frozenset({"types"})),
    Holder.WORKER: (frozenset({"ed25519"}), frozenset({"x25519"})),
    Holder.GROUP: (frozenset({"x25519", "types"}), frozenset[str]()),
}
"""By holder: what a line must have, and what it may have besides its times."""

_TIMES: Final = frozenset({"not-before", "not-after"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One line.

    Attributes:
        holder, name: whose keys.
        verifying: Ed25519 public key that its signatures are checked with; None for a group.
        sealing: X25519 public key that is sealed to; None if the line has none.
        types: job types that it may submit, or is to run; None is any.
        not_before: from when on it counts, seconds since the epoch; None is always.
        not_after: until when, likewise.
    """

    holder: Holder
    name: str
    verifying: bytes | None
    sealing: bytes | None
    types: frozenset[JobType] | None
    not_before: float | None
    not_after: float | None

    def is_valid(self, now: float) -> bool:
        """Whether it counts at a time."""
        return (self.not_before is None or now >= self.not_before) and (self.not_after is None or now <= self.not_after)

    def allows(self, job_type: str) -> bool:
        """Whether it is good for a job type."""
        return self.types is None or job_type in self.types

    @property
    def ids(self) -> Iterator[KeyId]:
        """Of its keys."""
        return (key_id(key) for key in (self.verifying, self.sealing) if key is not None)


class Keyring:
    """All lines."""

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
        """The lines of one holder, in the order of the file."""
        return self._named.get((holder, name), [])

    def trusted(self, holder: Holder, name: str, key: KeyId, now: float) -> Entry:
        """The line that says now that a key is this holder's.

        Raises:
            SealRefused: there is none; the text says why.
        """
        entries = self._by_key.get((holder, name, key), [])
        for entry in entries:
            if entry.is_valid(now):
                return entry
        if entries:
            problem = f"its key {key} does not count at this time"
        elif self.named(holder, name):
            problem = f"its key is another than {key}"
        else:
            problem = "it is not listed"
        raise SealRefused(Refusal.UNTRUSTED, f"{holder} {name} is not trusted here: in the keyring, {problem}")

    def group_for(self, job_type: str, now: float) -> Entry | None:
        """The newest key of the group that runs a job type: of those that count now, the last to begin to do so."""
        found = [entry for entry in self._groups if entry.allows(job_type) and entry.is_valid(now)]
        # Among equals the last one: who adds a line to the end of the file means it to count.
        return max(reversed(found), key=lambda entry: entry.not_before or 0.0, default=None)

    def group_lines(self, group: str, key: KeyId) -> list[Entry]:
        """The lines that say that a key is this group's, whether they count now or not: old jobs are to be opened, too."""
        return self._by_key.get((Holder.GROUP, group, key), [])


def key_id(public: bytes) -> KeyId:
    """What a raw public key is called: the first 16 hex digits of its SHA-256."""
    return KeyId(hashlib.sha256(public).hexdigest()[:16])


def load(path: Path) -> Keyring:
    """Read a keyring.

    Raises:
        ConfigError: it can't be read, everybody could change it, or lines of it are wrong: all of them are listed.
    """
    return parse(read(path), str(path))


def read(path: Path) -> str:
    """The text of a keyring.

    Raises:
        ConfigError: it can't be read, or everybody could change it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_LARGEST_FILE)
    except OSError as error:
        raise ConfigError(f"{path}: can't read the keyring: {error.strerror}") from error
    if mode & stat.S_IWOTH:
        raise ConfigError(f"{path}: every user could add keys that are trusted: run 'chmod o-w {path}'")
    return content.decode(errors="replace")


def parse(text: str, name: str) -> Keyring:
    """Read the text of a keyring; `name` is the file's, for errors.

    Raises:
        ConfigError: lines of it are wrong: all of them are listed.
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
        raise ValueError(f"begins with {words[0][:40]!r}: a line begins with one of {kinds}")
    holder = Holder(words[0])
    if len(words) == 1:
        raise ValueError(f"has no name: write '{holder} NAME KEYS'")
    name = check_id(words[1])
    fields = dict(_read_field(word) for word in words[2:])
    if len(fields) < len(words) - 2:
        raise ValueError("says something twice: a line has one key of a kind")
    needed, allowed = _KEYS[holder]
    if missing := needed - fields.keys():
        raise ValueError(f"lacks {', '.join(sorted(missing))}: 'stockworker keys export' prints complete lines")
    if unknown := fields.keys() - needed - allowed - _TIMES:
        raise ValueError(f"a {holder} has no {', '.join(sorted(unknown))}: remove it")
    not_before, not_after = (_read_time(name, fields.get(name)) for name in ("not-before", "not-after"))
    if not_before is not None and not_after is not None and not_before >= not_after:
        raise ValueError("not-before is not earlier than not-after: it would never count")
    return Entry(
        holder,
        name,
        _read_key("ed25519", fields.get("ed25519")),
        _read_key("x25519", fields.get("x25519")),
        _read_types(fields.get("types")),
        not_before,
        not_after,
    )


def _read_field(word: str) -> tuple[str, str]:
    for mark in (":", "="):
        name, found, value = word.partition(mark)
        if found and name in ({"ed25519", "x25519"} if mark == ":" else {"types", *_TIMES}):
            return name, value
    raise ValueError(
        f"{word[:40]!r} is none of ed25519:KEY, x25519:KEY, types=A,B, not-before=TIME, not-after=TIME; "
        "is the line broken in two?"
    )


def _read_key(name: str, text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        key = b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES or not any(key):
        raise ValueError(f"{name}: is no key, which is 32 bytes in base64: copy the line anew")
    return key


def _read_types(text: str | None) -> frozenset[JobType] | None:
    return None if text is None else frozenset(JobType(check_id(word)) for word in text.split(","))


def _read_time(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name}: {text[:40]!r} is no time such as 2026-05-01 or 2026-05-01T09:30:00Z") from None
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()


def show(entry: Entry) -> str:
    """The line of an entry."""
    words = [str(entry.holder), entry.name]
    words += [
        f"{name}:{b64encode(key).decode()}"
        for name, key in (("ed25519", entry.verifying), ("x25519", entry.sealing))
        if key
    ]
    if entry.types is not None:
        words.append(f"types={','.join(sorted(entry.types))}")
    words += [
        f"{name}={datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%SZ}"
        for name, time in (("not-before", entry.not_before), ("not-after", entry.not_after))
        if time is not None
    ]
    return " ".join(words)


def end(text: str, holder: Holder, name: str, not_after: float) -> str:
    """The text of a valid keyring in which the lines of one holder count no longer than until `not_after`."""
    lines = []
    for line in text.split("\n"):
        entry = _read_line(line)
        if entry is None or (entry.holder, entry.name) != (holder, name) or not _outlasts(entry, not_after):
            lines.append(line)
        else:
            _, mark, comment = line.partition("#")
            lines.append(f"{show(replace(entry, not_after=not_after))}{' ' if mark else ''}{mark}{comment}")
    return "\n".join(lines)


def _outlasts(entry: Entry, time: float) -> bool:
    return entry.not_after is None or entry.not_after > time


def write(path: Path, text: str) -> None:
    """Put a keyring where `path` is; nobody ever reads half of one.

    Raises:
        ConfigError: it can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode(), PUBLIC)
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror}") from error
