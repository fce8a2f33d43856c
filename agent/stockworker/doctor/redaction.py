"""Removes secrets from what goes into a support archive. Pure.

A configuration keeps the values that are known not to be secret. Free text loses what looks like a secret. A log entry keeps
the fields of its event, without texts that a job can have put there.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from stockworker.config.document import ListNode, Node, ScalarNode, TableNode
from stockworker.config.key import keys
from stockworker.config.kinds import Each, Section
from stockworker.config.loading import ROOT_KEY
from stockworker.config.schema import Config
from stockworker.logs import metrics_events, web_events, worker_events  # noqa: F401 (they enter their events into the catalogue)
from stockworker.logs.events import EVENTS

REMOVED: Final = "(removed)"

_NAMES_OF_SECRETS: Final = (
    r"pass(?:word|wd|phrase)?|secret|token|credentials?|api[-_]?key|auth(?:orization)?|cookie|bearer"
)
_PEM: Final = re.compile(r"-----BEGIN ([^-]*)-----.*?(?:-----END \1-----|\Z)", re.DOTALL)
_USER: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s\"']*@", re.IGNORECASE)
_QUERY: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s\"'?#]*)[?#][^\s\"']*", re.IGNORECASE)
_ASSIGNED: Final = re.compile(
    rf"((?:{_NAMES_OF_SECRETS})[\w-]*[\"']?\s*[:=]\s*(?:(?:bearer|basic)\s+)?)(\"[^\"]*\"|'[^']*'|[^\s,;]+)",
    re.IGNORECASE,
)
_BEARER: Final = re.compile(r"\b(bearer|basic)\s+\S{8,}", re.IGNORECASE)
_HASH: Final = re.compile(r"\$\d+\$\S+")
_LONG: Final = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")
_HEXADECIMAL: Final = re.compile(r"[0-9a-fA-F]{24,}")


def scrubbed(text: str) -> str:
    """Text without what looks like a secret: keys, passwords, tokens, the user and the query of an address."""
    text = _PEM.sub(REMOVED, text)
    text = _USER.sub(rf"\1{REMOVED}@", text)
    text = _QUERY.sub(rf"\1?{REMOVED}", text)
    text = _ASSIGNED.sub(rf"\1{REMOVED}", text)
    text = _BEARER.sub(rf"\1 {REMOVED}", text)
    return _LONG.sub(_unless_readable, _HASH.sub(REMOVED, text))


def _unless_readable(found: re.Match[str]) -> str:
    """Remove a random text, and keep a path, a name or a number: those do not mix letters of both cases with digits."""
    text = found[0]
    mixed = any(map(str.isupper, text)) and any(map(str.islower, text)) and any(map(str.isdigit, text))
    return REMOVED if mixed or _HEXADECIMAL.search(text) else text


# --- configuration ----------------------------------------------------------------------------------------------------


def redacted_configuration(document: Node | None) -> str:
    """The YAML of a configuration file: with each value that is known not to be secret, and without comments."""
    root = document.entries.get(ROOT_KEY) if isinstance(document, TableNode) else None
    return "".join(f"{line}\n" for line in (f"{ROOT_KEY}:", *_table(root, Config, "  ")))


def _table(node: Node | None, section: type, indent: str) -> Iterator[str]:
    known = {name: (key.kind, each.repr) for name, key, each in keys(section)}
    for name, child in node.entries.items() if isinstance(node, TableNode) else ():
        kind, shown = known.get(name, (None, False))
        label = f"{indent}{scrubbed(name)}:"
        match kind:
            case Section(of=below):
                yield from (label, *_table(child, below, f"{indent}  "))
            case Each(of=below) if isinstance(child, TableNode):
                yield label
                for each, inner in child.entries.items():
                    yield from (f"{indent}  {scrubbed(each)}:", *_table(inner, below, f"{indent}    "))
            case _:
                yield f"{label} {_value(child) if shown and name != 'command' else REMOVED}"


def _value(node: Node) -> str:
    match node:
        case ScalarNode(text=text):
            return scrubbed(text)
        case ListNode(items=items):
            return f"[{', '.join(map(_value, items))}]"
        case TableNode():
            return REMOVED


# --- the systemd journal ----------------------------------------------------------------------------------------------

_TEXTS: Final = {"message", "reason", "problem", "error"}
"""Fields whose texts a handler or a payload can have put into an event."""

_CATALOGUE: Final = {event.name: event for event in EVENTS}
_OTHERS: Final = frozenset({"systemd", "mosquitto", "kernel"})
"""Programs whose lines have no data of jobs."""


def redacted_entry(entry: Mapping[str, Any]) -> str | None:
    """One line for an entry of the systemd journal (journalctl -o json); None for output that could be anything."""
    time = entry.get("__REALTIME_TIMESTAMP", "")
    event = _CATALOGUE.get(str(entry.get("STOCKWORKER_EVENT", "")))
    if event is not None:
        about_job = "STOCKWORKER_JOB_ID" in entry
        fields = {
            name.removeprefix("STOCKWORKER_").lower(): value
            for name, value in sorted(entry.items())
            if name.startswith("STOCKWORKER_") and isinstance(value, str)
        }
        removed = _TEXTS if about_job else {"message"}
        shown = [f"{name}={scrubbed(value)}" for name, value in fields.items() if name not in removed]
        return f"{time} {event.text} {' '.join(shown)}"
    program, message = entry.get("SYSLOG_IDENTIFIER"), entry.get("MESSAGE")
    return f"{time} {program}: {scrubbed(message)}" if program in _OTHERS and isinstance(message, str) else None
