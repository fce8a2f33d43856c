"""``stockworker keys``: the keys that seal and sign payloads and results."""

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stockworker.adapters import clock
from stockworker.config import Encryption, load
from stockworker.errors import ConfigError
from stockworker.protocol.body import present
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobType
from stockworker.sealing import keyring
from stockworker.sealing.envelope import GroupName
from stockworker.sealing.keyring import Entry, Holder, Keyring
from stockworker.terminal.arguments import from_now, identifier
from stockworker.terminal.config_option import add_config
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import note, print_json, print_line, print_lines
from stockworker.terminal.tables import short_duration, table, terminal_width

if TYPE_CHECKING:
    from stockworker.sealing.keys import KeyFile, OpeningKey, SigningKey

KEYS_FOLDER: Final = Path("/etc/stockworker/keys")
HEADER: Final = ("HOLDER", "NAME", "SIGNING", "SEALING", "STATE", "UNTIL", "PRIVATE", "AGE", "TYPES", "GROUPS")


def generate(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker keys generate``."""
    parser.description = (
        "Create private keys for a submitter, a worker or a group of workers in a new file. Add the public keys to the "
        "keyring, and print the new keyring line. The option --types names the job types that a group runs or a submitter "
        "may submit. The option --groups names the groups whose jobs a worker may answer."
    )
    _add_holder(parser)
    parser.add_argument(
        "--types",
        type=_types,
        metavar="TYPE[,TYPE]...",
        help="job types that the group runs or the submitter may submit",
    )
    _add_groups(parser, "groups whose jobs the worker may answer (default: all)")
    add_config(parser)
    parser.set_defaults(run=_generate)


def rotate(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker keys rotate``."""
    parser.description = (
        "Create new private keys beside the existing ones in a file, and add them to the keyring. The new keys become "
        "valid after --starts-in, so that both files can be copied to all machines before. The old keys stay valid for "
        "--overlap after that. Old private keys are never removed: they still open what was sealed to them."
    )
    _add_holder(parser)
    parser.add_argument(
        "--starts-in",
        type=from_now,
        default=3600.0,
        metavar="DURATION",
        help="delay until the new keys become valid (default: 1h)",
    )
    parser.add_argument(
        "--overlap",
        type=from_now,
        default=14 * 86400.0,
        metavar="DURATION",
        help="how long the old keys stay valid beside the new ones; must be longer than jobs and results wait "
        "(default: 14d)",
    )
    add_config(parser)
    parser.set_defaults(run=_rotate)


def remove(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker keys remove``."""
    parser.description = (
        "Remove all lines of a submitter, a worker or a group from the keyring, and print them. Nothing of that party is "
        "accepted any longer, where the new keyring is. Private keys stay where they are. A removed worker still has the "
        "private keys of its groups, so rotate these as well."
    )
    _add_party(parser)
    _add_keyring(parser)
    add_config(parser)
    parser.set_defaults(run=_remove)


def list_keys(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker keys list``."""
    parser.description = (
        "List all keys of the keyring with their state: active, not yet valid or expired. Also show which private keys "
        "are in the files that the configuration names."
    )
    _add_keyring(parser)
    parser.add_argument(
        "--file", type=Path, action="append", metavar="FILE", help="additional file of private keys; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    add_config(parser)
    parser.set_defaults(run=_list)


def export(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker keys export``."""
    parser.description = "Print the keyring lines of a private key file, newest first. They contain only public keys."
    _add_holder(parser)
    parser.add_argument("--types", type=_types, metavar="TYPE[,TYPE]...", help="default: as in the keyring")
    _add_groups(parser, "default: as in the keyring")
    add_config(parser)
    parser.set_defaults(run=_export)


def _add_holder(parser: argparse.ArgumentParser) -> None:
    _add_party(parser)
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help=f"file of private keys (default: {KEYS_FOLDER}/HOLDER-NAME.pem)"
    )
    _add_keyring(parser)


def _add_party(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("holder", choices=tuple(map(str, Holder)), metavar="HOLDER", help="submitter, worker or group")
    parser.add_argument(
        "name", type=identifier, metavar="NAME", help="name of the submitter (client.id), worker (worker.id) or group"
    )


def _add_keyring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keyring", type=Path, metavar="FILE", help="default: encryption.keyring of the configuration")


def _add_groups(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("--groups", type=_groups, metavar="GROUP[,GROUP]...", help=meaning)


def _groups(written: str) -> frozenset[GroupName]:
    return frozenset(GroupName(identifier(word)) for word in written.split(","))


def _types(written: str) -> frozenset[JobType]:
    return frozenset(JobType(identifier(word)) for word in written.split(","))


# --- runs -------------------------------------------------------------------------------------------------------------


def _generate(arguments: argparse.Namespace) -> int:
    from stockworker.sealing.keys import create  # noqa: PLC0415 (slow, and `keys list --help` does not need it)

    holder, name = Holder(arguments.holder), arguments.name
    if (holder is Holder.GROUP) and arguments.types is None:
        raise UsageError("a group requires --types TYPE[,TYPE]...: the job types that its workers run")
    if (holder is Holder.WORKER) and arguments.types is not None:
        raise UsageError("--types is not allowed for a worker; its groups define its job types")
    _check_groups(arguments)
    ring = _keyring_file(arguments)
    text = keyring.read(ring) if ring.exists() else ""
    if keyring.parse(text, str(ring)).named(holder, name):
        raise UsageError(
            f"{ring} already has {holder} {name}; use 'stockworker keys rotate {holder} {name}'. "
            "If its private keys are lost, remove its lines from the keyring first"
        )
    file = _file(arguments)
    made = create(file, clock.utc_now(), identity=holder is not Holder.GROUP)
    entry = replace(_entries(holder, name, made, arguments.types)[0], groups=arguments.groups)
    keyring.write(ring, f"{_with_newline(text)}{keyring.show(entry)}\n")
    print_line(keyring.show(entry))
    note(f"private keys are in {file}; the line was added to {ring}. Copy the keyring to all machines")
    return Exit.OK


def _rotate(arguments: argparse.Namespace) -> int:
    from stockworker.sealing.keys import add_generation  # noqa: PLC0415 (as above)

    holder, name = Holder(arguments.holder), arguments.name
    ring, file = _keyring_file(arguments), _file(arguments)
    text = keyring.read(ring)
    known = keyring.parse(text, str(ring)).named(holder, name)
    if not known:
        raise UsageError(f"{ring} has no {holder} {name}; add the output of 'stockworker keys export {holder} {name}'")
    made = add_generation(file, clock.utc_now())
    begins = float(int(clock.wall() + arguments.starts_in))
    newest = _entries(holder, name, made, known[-1].types)[0]
    entry = replace(newest, groups=known[-1].groups, not_before=begins)
    text = keyring.expire(text, holder, name, begins + arguments.overlap)
    keyring.write(ring, f"{_with_newline(text)}{keyring.show(entry)}\n")
    print_line(keyring.show(entry))
    note(
        f"copy {file} to all machines that have it, and reload the workers. Then copy {ring} to all machines, and reload again"
    )
    return Exit.OK


def _remove(arguments: argparse.Namespace) -> int:
    holder, name = Holder(arguments.holder), arguments.name
    ring = _keyring_file(arguments)
    text = keyring.read(ring)
    parsed = keyring.parse(text, str(ring))
    removed = parsed.named(holder, name)
    if not removed:
        raise UsageError(f"{ring} has no {holder} {name}; 'stockworker keys list' shows its lines")
    keyring.write(ring, keyring.without(text, holder, name))
    print_lines(map(keyring.show, removed))
    note(f"copy {ring} to all machines, and reload the workers")
    groups = sorted({entry.name for entry in parsed.entries if entry.holder is Holder.GROUP})
    if holder is Holder.WORKER and groups:
        note(f"{name} may have private keys of groups. Rotate these: stockworker keys rotate group {groups[0]}")
    return Exit.OK


def _export(arguments: argparse.Namespace) -> int:
    from stockworker.sealing.keys import load as load_keys  # noqa: PLC0415 (as above)

    holder, name = Holder(arguments.holder), arguments.name
    types, groups = arguments.types, arguments.groups
    _check_groups(arguments)
    ring = _keyring_file(arguments)
    if (types is None or groups is None) and ring.exists():
        known = keyring.load(ring).named(holder, name)
        if known:
            types, groups = types or known[-1].types, groups or known[-1].groups
    if holder is Holder.GROUP and types is None:
        raise UsageError(f"{ring} has no job types for group {name}; name them with --types")
    for entry in _entries(holder, name, load_keys(_file(arguments)), types):
        print_line(keyring.show(replace(entry, groups=groups)))
    return Exit.OK


def _check_groups(arguments: argparse.Namespace) -> None:
    if arguments.groups is not None and arguments.holder != Holder.WORKER:
        raise UsageError(f"--groups is only allowed for a worker, not for a {arguments.holder}")


def _entries(holder: Holder, name: str, file: "KeyFile", types: frozenset[JobType] | None) -> list[Entry]:
    """The keyring lines of a file, one per generation, newest first."""
    if holder is Holder.GROUP:
        return [Entry(holder, name, None, key.public, types) for key in file.opening]
    if not file.signing:
        raise ConfigError(f"{file.path}: contains no Ed25519 key, so it is the file of a group, not of a {holder}")
    pairs = zip(file.signing, file.opening, strict=False)
    return [Entry(holder, name, signing.public, opening.public, types) for signing, opening in pairs]


def _list(arguments: argparse.Namespace) -> int:
    found = list(rows(keyring.load(_keyring_file(arguments)), _private_files(arguments), clock.wall()))
    if arguments.json:
        for row in found:
            print_json(present(row.fields()))
        return Exit.OK
    print_lines(table(HEADER, [row.cells() for row in found], terminal_width()))
    return Exit.OK


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the keyring with its private keys on this machine, or private keys that the keyring does not list."""

    entry: Entry | None
    state: str
    signing: str | None
    sealing: str | None
    file: Path | None
    created: datetime | None
    now: float

    def fields(self) -> dict[str, Any]:
        entry = self.entry
        return {
            "holder": None if entry is None else entry.holder,
            "name": None if entry is None else entry.name,
            "signing": self.signing,
            "sealing": self.sealing,
            "state": self.state,
            "private": None if self.file is None else str(self.file),
            "types": None if entry is None or entry.types is None else sorted(entry.types),
            "groups": None if entry is None or entry.groups is None else sorted(entry.groups),
            "created": None if self.created is None else self.created.timestamp(),
            "not_before": None if entry is None else entry.not_before,
            "not_after": None if entry is None else entry.not_after,
        }

    def cells(self) -> tuple[object, ...]:
        fields = self.fields()
        until = fields["not_after"]
        return (
            fields["holder"],
            fields["name"],
            self.signing,
            self.sealing,
            self.state,
            None if until is None else f"{datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%MZ}",
            None if self.file is None else self.file.name,
            None if self.created is None else short_duration(self.now - self.created.timestamp()),
            ",".join(fields["types"] or ()),
            ",".join(fields["groups"] or ()),
        )


def rows(ring: Keyring, files: Iterable["KeyFile"], now: float) -> Iterator[_Row]:
    """The lines of a keyring, and then the private keys in `files` that it does not list."""
    here: dict[str, tuple[Path, SigningKey | OpeningKey]] = {}
    for holding in files:
        here |= {signing.id: (holding.path, signing) for signing in holding.signing}
        here |= {opening.id: (holding.path, opening) for opening in holding.opening}
    listed: set[str] = set()
    for entry in ring.entries:
        signs, seals = (None if key is None else keyring.key_id(key) for key in (entry.verifying, entry.sealing))
        listed.update(entry.ids)
        file, key = next((here[each] for each in entry.ids if each in here), (None, None))
        yield _Row(entry, _state(entry, now), signs, seals, file, None if key is None else key.created, now)
    for each, (path, unlisted) in here.items():
        if each not in listed:
            signing_id, sealing_id = (each, None) if hasattr(unlisted.private, "sign") else (None, each)
            yield _Row(None, "not in the keyring", signing_id, sealing_id, path, unlisted.created, now)


def _state(entry: Entry, now: float) -> str:
    if entry.is_valid(now):
        return "active"
    return "not yet valid" if entry.not_before is not None and now < entry.not_before else "expired"


# --- files ------------------------------------------------------------------------------------------------------------


def _file(arguments: argparse.Namespace) -> Path:
    return arguments.file or KEYS_FOLDER / f"{arguments.holder}-{arguments.name}.pem"


def _keyring_file(arguments: argparse.Namespace) -> Path:
    if arguments.keyring is not None:
        return Path(arguments.keyring)
    return (load(arguments.config).encryption or Encryption()).keyring


def _private_files(arguments: argparse.Namespace) -> list["KeyFile"]:
    from stockworker.sealing.keys import load as load_keys  # noqa: PLC0415 (as above)

    encryption = load(arguments.config).encryption or Encryption()
    configured = [encryption.key] if encryption.key is not None else []
    return [load_keys(file) for file in (*configured, *encryption.group_keys, *(arguments.file or ()))]


def _with_newline(text: str) -> str:
    """Text that ends with a newline, unless it is empty."""
    return text if not text or text.endswith("\n") else f"{text}\n"
