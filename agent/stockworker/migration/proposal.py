"""Proposes a mapping for what `--inspect` finds: by the names of fields and by their values. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from stockworker.migration.decoding import DECODERS, Refused, decode
from stockworker.migration.mapping import SourceMapping
from stockworker.migration.source import Container, Found, Raw, Record, Standing
from stockworker.protocol.fields import FieldError, parse_json
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.json_text import json_text

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("id", "job_id", "uuid", "jobid", "message_id", "claim_id"),
    "type": ("type", "job_type", "task", "name", "queue", "handler", "class", "command", "action", "kind"),
    "payload": ("payload", "data", "body", "args", "arguments", "params", "parameters", "message", "content", "entry"),
    "priority": ("priority", "prio"),
    "attempts": ("attempts", "attempt", "tries", "retries", "retry_count"),
    "max_attempts": ("max_attempts", "max_tries", "max_retries"),
    "scheduled": ("scheduled_at", "available_at", "run_at", "run_after", "not_before", "delay_until", "scheduled"),
    "expires": ("expires_at", "expire_at", "expires"),
}
"""The usual names of a field, the best ones first."""

_STATUS: Final = ("status", "state", "job_status")
_WORDS: Final[Mapping[Standing, tuple[str, ...]]] = {
    Standing.PENDING: ("pending", "queued", "waiting", "new", "ready", "open", "created", "scheduled", "delayed"),
    Standing.RUNNING: ("running", "processing", "reserved", "started", "active", "in_progress", "working"),
    Standing.DONE: (
        "done",
        "completed",
        "complete",
        "finished",
        "success",
        "succeeded",
        "failed",
        "error",
        "cancelled",
        "canceled",
        "expired",
    ),
}
_PRIORITIES: Final = '{high: high, normal: normal, low: low, "7..": high, "4..6": normal, "..3": low}'
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*").fullmatch
_RESERVED: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


@dataclass(frozen=True, slots=True)
class MappingProposal:
    """A proposed mapping.

    Attributes:
        container: what it reads.
        text: the mapping file.
        notes: what a person should check.
    """

    container: Container
    text: str
    notes: tuple[str, ...]


def propose(containers: Sequence[Container], presets: Mapping[str, SourceMapping]) -> list[MappingProposal]:
    """Propose a mapping for each container that looks like a queue, the most likely one first."""
    ranked = sorted(containers, key=lambda each: (-_likeness(each), -each.size, each.name))
    made = ((each, _proposed(each, presets)) for each in ranked)
    return [
        replace(proposal, notes=(*proposal.notes, *filter(None, (each.note,))))
        for each, proposal in made
        if proposal is not None
    ]


def _proposed(container: Container, presets: Mapping[str, SourceMapping]) -> MappingProposal | None:
    preset = next((name for name, mapping in presets.items() if _fits(mapping, container)), None)
    if preset is not None:
        lines = ["migration:", f"  preset: {preset}", f"  {container.kind}: {_yaml(container.name)}"]
        return MappingProposal(container, _joined(lines), (f"it has the layout of the preset {preset}",))
    fields = tuple(dict.fromkeys(field for record in container.samples for field in record))
    named = {name: found for name, words in _NAMES.items() if (found := _like(words, fields)) is not None}
    if "payload" not in named or ("id" not in named and container.kind == "table"):
        return None
    status = _like(_STATUS, fields) if container.kind == "table" else None
    notes = [] if status or container.kind != "table" else [_NO_STATUS]
    lines = ["migration:", f"  {container.kind}: {_yaml(container.name)}"]
    lines += [f"  {name}: {value}" for name, value in _values(container, named)]
    if "type" not in named:
        notes.append("no field has the type of a job: each job gets the type that 'type' has as 'fixed'")
    if status is not None:
        lines += _standings(status, container.samples)
    return MappingProposal(container, _joined(lines), tuple(notes))


_NO_STATUS: Final = (
    "no column has a status: add the values of a pending row and of a claimed one under 'standings', so that no old worker "
    "takes a claimed row"
)


def _fits(mapping: SourceMapping, container: Container) -> bool:
    """Whether a preset reads a container: it has all its fields, and at least one of its samples becomes a job."""
    if mapping.kind != container.kind or not container.samples:
        return False
    columns = {*mapping.columns, *(column for each in mapping.standings.values() for column in each)}
    if not all(columns <= record.keys() for record in container.samples):
        return False
    if all(value is None for record in container.samples for value in record.values()):
        return True
    decoded = [decode(Found(0, record), mapping, "", 0.0) for record in container.samples]
    return any(not isinstance(each, Refused) for each in decoded)


def _values(container: Container, named: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """The lines of a mapping for the values of a job."""
    samples = container.samples
    yield "id", _yaml(named.get("id", "claim_id"))
    yield "type", _type(named.get("type"), samples)
    payload = named["payload"]
    steps = "" if _is_json(record.get(payload) for record in samples) else "text"
    yield "payload", f"{{field: {_yaml(payload)}, read: [{steps}]}}" if steps else _yaml(payload)
    if "priority" in named:
        yield "priority", f"{{field: {_yaml(named['priority'])}, map: {_PRIORITIES}, default: normal}}"
    for name in ("attempts", "max_attempts", "scheduled", "expires"):
        if name in named:
            yield name, _yaml(named[name])
    if "attempts" in named and "max_attempts" not in named:
        yield "max_attempts", '{fixed: "3"}'


def _type(field: str | None, samples: Sequence[Record]) -> str:
    if field is None:
        return "{fixed: old_job}"
    values = [record.get(field) for record in samples]
    if any(isinstance(value, str) and re.search(r"[\\/:]", value) for value in values):
        return f"{{field: {_yaml(field)}, read: [class_name]}}"
    return _yaml(field)


def _standings(status: str, samples: Sequence[Record]) -> list[str]:
    """Which words of a status column mean what. Words that samples have and no list has are left to the user."""
    seen = {str(record.get(status)).lower() for record in samples}
    lines = ["  standings:"]
    for standing, words in _WORDS.items():
        used = [word for word in words if word in seen] or list(words[:2])
        lines.append(f"    {standing}: {{{_yaml(status)}: [{', '.join(map(_yaml, used))}]}}")
    for standing, word in (
        (Standing.CLAIMED, "migrating"),
        (Standing.MOVED, "migrated"),
        (Standing.RETURNING, "returning"),
    ):
        lines.append(f"    {standing}: {{{_yaml(status)}: {word}}}")
    return lines


def _is_json(values: Iterable[Raw]) -> bool:
    """Whether at least one value is JSON, or no value is known."""
    known = [value for value in values if value is not None]
    return not known or any(map(_parses, known))


def _parses(value: Raw) -> bool:
    if isinstance(value, dict | list):
        return True
    try:
        text = DECODERS["text"](value)
        parse_json(text)
    except (FieldError, ValueError):
        return False
    return True


def _like(words: Sequence[str], fields: Sequence[str]) -> str | None:
    """The field whose name is the best one of these words."""
    by_word = {field.lower(): field for field in reversed(fields)}
    return next((by_word[word] for word in words if word in by_word), None)


def _likeness(container: Container) -> int:
    fields = [field.lower() for record in container.samples[:1] for field in record]
    named = sum(1 for words in _NAMES.values() if any(word in fields for word in words))
    return named + 2 * any(word in fields for word in _STATUS) + ("job" in container.name or "queue" in container.name)


def _yaml(text: str) -> str:
    """A text as YAML."""
    return text if _PLAIN(text) and text.lower() not in _RESERVED else json_text(text)


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
