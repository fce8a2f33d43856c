"""The kinds of configuration values: how each one is written, read and shown."""

import math
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stockworker.config.document import ListNode, Node, ScalarNode, TableNode, quoted
from stockworker.protocol.fields import LATEST_TIME
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import ID_GRAMMAR, JOB_ID_GRAMMAR
from stockworker.protocol.suggestion import suggestion
from stockworker.protocol.wire import Duration, Identifier, Integer, Kind

Json = Any  # what json.loads returns: untyped by nature
Value = Any  # the kind of a key decides the type of its value

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_MEASURE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([A-Za-z]*)")
_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNITS_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_LEAST_MEMORY_BYTES = 1024**2
_SIZE_PATTERN = "^[0-9]+ ?[KMGTkmgt]?$"
_SCALAR = ["string", "number", "boolean"]
"""What YAML makes of text: `0123`, `yes` and `1.10` are a number, a boolean and a number."""

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = re.compile(rf"{_DATE}(T[0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}})?(Z|[+-][0-9]{{2}}:[0-9]{{2}})?)?")


class Wrong(Exception):
    """A value that its kind does not allow; the text has the reason and the allowed values.

    `node` and `below`: the value itself and its path, if it is inside of the one that was read.
    """

    def __init__(self, reason: str, node: Node | None = None, below: str = "") -> None:
        super().__init__(reason)
        self.node = node
        self.below = below


@dataclass(frozen=True, slots=True)
class ValueKind:
    """A kind of single values.

    Attributes:
        parse: text → value; raises `Wrong`.
        meaning: description of the allowed values.
        show: value → text, as written in a file.
        schema: the same in JSON Schema, for editors. It may allow more.
    """

    parse: Callable[[str], Value]
    meaning: str
    show: Callable[[Value], str] = str
    schema: Mapping[str, Json] = field(kw_only=True)

    def read(self, node: Node) -> Value:
        """Read the value of a node.

        Raises:
            Wrong: the node has another kind of value.
        """
        if not isinstance(node, ScalarNode):
            found = "list" if isinstance(node, ListNode) else "section"
            raise Wrong(f"must be a single value ({self.meaning}), not a {found}")
        return self.parse(node.text)


def text(most: int = 1024) -> ValueKind:
    """Text of up to `most` characters, as written: `0123`, `yes` and `1.10` need no quotes."""

    def parse(written: str) -> str:
        if not written:
            raise Wrong("is empty; set a value, or remove the key")
        if not written.isprintable():
            raise Wrong("contains a control character; remove it")
        if len(written) > most:
            raise Wrong(f"is longer than {most} characters")
        return written

    return ValueKind(parse, "text", schema={"type": _SCALAR})


def pattern(grammar: str, meaning: str, *, secret: bool = False) -> ValueKind:
    """Text that matches a pattern; messages do not contain a `secret` value."""
    compiled = re.compile(grammar)

    def parse(written: str) -> str:
        if not compiled.fullmatch(written):
            raise Wrong(f"must be {meaning}{'' if secret else f', not {quoted(written)}'}")
        return written

    return ValueKind(parse, meaning, schema={"type": _SCALAR, "pattern": f"^({grammar})$"})


def choice(*words: str, former: Mapping[str, str] | None = None) -> ValueKind:
    """One of a few words; `former` has messages for words that are no longer supported."""
    meaning = " or ".join(words)

    def parse(written: str) -> str:
        word = written.lower()
        if former and word in former:
            raise Wrong(former[word])
        if word not in words:
            raise Wrong(f"must be {meaning}, not {quoted(written)}{suggestion(word, words)}")
        return word

    return ValueKind(parse, meaning, schema={"enum": [*words]})


def integer(least: int, most: int) -> ValueKind:
    """A whole number within bounds."""
    meaning = f"a whole number, {least} to {most}"

    def parse(written: str) -> int:
        value = _decimal(written)
        if not least <= value <= most:
            raise Wrong(f"must be {meaning}, not {value}")
        return value

    bounds = {"minimum": least, "maximum": most}
    return ValueKind(parse, meaning, schema={"type": ["integer", "string"], "pattern": _INTEGER.pattern, **bounds})


def number(least: float, most: float) -> ValueKind:
    """A decimal number within bounds."""
    meaning = f"a number, {least:g} to {most:g}"

    def parse(written: str) -> float:
        with suppress(ValueError):
            if least <= (value := float(written)) <= most:
                return value
        raise Wrong(f"must be {meaning}, not {quoted(written)}")

    bounds = {"minimum": least, "maximum": most}
    return ValueKind(parse, meaning, "{:g}".format, schema={"type": ["number", "string"], **bounds})


def duration(least_s: float, most_s: float) -> ValueKind:
    """Seconds, or a number with a unit; the value is in seconds."""
    meaning = f"a duration, {_show_duration(least_s)} to {_show_duration(most_s)}"

    def parse(written: str) -> float:
        match = _MEASURE.fullmatch(written)
        if match is None or match[2] not in _UNITS_S:
            form = "a number of seconds, or a number with ms, s, m, h or d, such as 30s or 5m"
            raise Wrong(f"must be a duration ({form}), not {quoted(written)}")
        value = float(match[1]) * _UNITS_S[match[2]]
        if not least_s <= value <= most_s:
            raise Wrong(f"must be {meaning}, not {quoted(written)}")
        return value

    shape = {"type": ["number", "string"], "pattern": "^[0-9.]+ ?(ms|s|m|h|d)?$", "minimum": least_s, "maximum": most_s}
    return ValueKind(parse, meaning, _show_duration, schema=shape)


def written(kind: Kind) -> "ValueKind":
    """How people write a value of the wire, in the configuration and on the command line: within the same bounds."""
    match kind:
        case Integer(lowest=least, highest=most):
            return integer(least, most)
        case Duration(lowest=least, highest=most):
            return duration(least, most)
        case Identifier():
            return ID
        case _:
            raise TypeError(f"people can't write: {kind.notation}")


def _parse_host(written: str) -> str:
    if re.fullmatch(r"([^:]+|\[.*\]):[0-9]+", written):
        raise Wrong(f"must be the host alone, not {quoted(written)}; put the port into 'port'")
    host: str = _HOST.parse(written)
    return host


def _parse_bytes(written: str) -> int:
    match = _MEASURE.fullmatch(written)
    if match is None or not match[1].isdecimal() or match[2].upper() not in _UNITS_BYTES:
        form = "a number of bytes, or a whole number with K, M, G or T, such as 512M"
        raise Wrong(f"must be a size ({form}), not {quoted(written)}")
    return int(match[1]) * _UNITS_BYTES[match[2].upper()]


def _parse_size(written: str) -> int:
    value = _parse_bytes(written)
    if value < _LEAST_MEMORY_BYTES:
        raise Wrong(f"must be at least 1M, not {value} bytes")
    return value


def _parse_path(written: str) -> Path:
    if not (written.startswith("/") and written.isprintable()):
        raise Wrong(f"must be an absolute path (starting with /), not {quoted(written)}")
    return Path(written)


def _parse_secret_file(written: str) -> Path:
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if written.startswith("/"):
        file = _parse_path(written)
        copy = Path(credentials, file.name) if credentials else None
        # systemd does not start a unit with a missing credential, and its message does not name the file. So the units
        # of stockworker pass an empty credential instead; then the error comes from here, and names the file.
        return copy if copy is not None and copy.is_file() and copy.read_bytes().strip() else file
    if re.fullmatch(ID_GRAMMAR, written) is None:
        raise Wrong(f"must be an absolute path, or the name of a systemd credential, not {quoted(written)}")
    # systemd.exec(5), Credentials. Outside of the unit this path does not exist, and the error names it.
    return Path(credentials or "/run/credentials", written)


def _parse_time(written: str) -> float:
    """Seconds since the epoch. A date is its first moment, and a time without an offset is in UTC."""
    form = "a date or a time such as 2026-05-01 or 2026-05-01T09:30:00Z, from 1970 to 9999"
    value = -1.0
    if _TIME.fullmatch(written):
        with suppress(ValueError, OverflowError):  # no such day, or its offset leads out of all years
            parsed = datetime.fromisoformat(written)
            value = (parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)).timestamp()
    if not 0 <= value <= LATEST_TIME:
        raise Wrong(f"must be {form}, not {quoted(written)}")
    return value


def show_time(value: float) -> str:
    """Format seconds since the epoch as `TIME` reads them."""
    return f"{datetime.fromtimestamp(min(value, LATEST_TIME), UTC):%Y-%m-%dT%H:%M:%SZ}"


def _parse_boolean(written: str) -> bool:
    match written.lower():
        case "true" | "yes" | "on":
            return True
        case "false" | "no" | "off":
            return False
        case _:
            raise Wrong(f"must be true or false, not {quoted(written)}")


BOOLEAN = ValueKind(
    _parse_boolean,
    "true or false",
    lambda value: str(value).lower(),
    schema={"enum": [True, False, "yes", "no", "on", "off"]},
)
PATH = ValueKind(_parse_path, "an absolute path", schema={"type": "string", "pattern": "^/"})
SECRET_FILE = ValueKind(
    _parse_secret_file,
    "an absolute path, or the name of a systemd credential (LoadCredential=)",
    schema={"type": _SCALAR},
)
TIME = ValueKind(_parse_time, "a date or a time in UTC, such as 2026-05-01", show_time, schema={"type": "string"})
SIZE = ValueKind(
    _parse_size,
    "a size, 1M or more",
    schema={"type": ["integer", "string"], "pattern": _SIZE_PATTERN, "minimum": _LEAST_MEMORY_BYTES},
)


def size_up_to(most_kib: int) -> ValueKind:
    """A size from 0 to a number of KiB."""

    def parse(written: str) -> int:
        value = _parse_bytes(written)
        if value > most_kib * 1024:
            raise Wrong(f"must be at most {most_kib}K, not {value} bytes")
        return value

    return ValueKind(
        parse,
        f"a size, 0 to {most_kib}K",
        schema={"type": ["integer", "string"], "pattern": _SIZE_PATTERN, "minimum": 0, "maximum": most_kib * 1024},
    )


ID = pattern(ID_GRAMMAR, "an ID (1 to 64 of A-Z a-z 0-9 . _ -)")
JOB_ID = pattern(JOB_ID_GRAMMAR, "a job ID: ID, OWNER:ID or :ID (each part 1 to 64 of A-Z a-z 0-9 . _ -)")
ID_PATTERN = pattern(r"[A-Za-z0-9._*-]{1,64}", "an ID in which `*` is any text, such as edge-*")
_HOST = pattern(r"[A-Za-z0-9._:%-]{1,253}", "a host name or an IP address")
HOST = ValueKind(_parse_host, _HOST.meaning, schema=_HOST.schema)
# gmqtt counts the characters of a client ID, but MQTT counts its bytes.
CLIENT_ID_PREFIX = pattern(r"[ -~]{1,64}", "ASCII text of up to 64 characters")
FUNCTION = pattern(r"[A-Za-z_][A-Za-z0-9_.]{0,200}:[A-Za-z_][A-Za-z0-9_]{0,100}", "module:function")
LOCATION = pattern(
    r"(/|postgres(ql)?://)[^\x00-\x20\x7f]{1,1000}",
    "an absolute path, or a postgresql:// address",
    secret=True,  # the address may hold a password
)


@dataclass(frozen=True, slots=True)
class Section:
    """A nested section, described by a dataclass of `Key` fields; the content of `ignored` keys is not read."""

    of: type
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Each:
    """A section for each name; the user chooses the names. `shown` is what the reference has in place of a name."""

    name: ValueKind
    of: type
    shown: str = "<type>"


@dataclass(frozen=True, slots=True)
class ListOf:
    of: ValueKind
    example: str


@dataclass(frozen=True, slots=True)
class Free:
    """A section whose keys only the handler knows."""


AnyKind = ValueKind | Section | Each | ListOf | Free


def json_value(node: Node, path: str = "") -> Json:
    """Convert a node to JSON data.

    Raises:
        Wrong: a number is not finite, or not written in decimal; with its node and its path.
    """
    if isinstance(node, TableNode):
        return {name: json_value(child, f"{path}.{name}") for name, child in node.entries.items()}
    if isinstance(node, ListNode):
        return [json_value(item, path) for item in node.items]
    try:
        return _FROM_TAG[node.tag](node.text)
    except Wrong:
        # YAML 1.1 reads 12:30, 0123, 0x1F and 1_000 as numbers, which few people expect.
        text = f"must be a decimal number, not {quoted(node.text)}; quote it if it is text"
        raise Wrong(text, node, path) from None


def _decimal(written: str) -> int:
    # YAML 1.1 also has octal (010), hexadecimal and base 60 (1:30) numbers. In a configuration file they are mistakes.
    if not _INTEGER.fullmatch(written):
        raise Wrong(f"must be a whole number, not {quoted(written)}")
    return int(written)


def _finite(written: str) -> float:
    try:
        value = float(written)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Wrong("is not finite")
    return value


def _as_written(written: str) -> str:
    return written


def _nothing(_written: str) -> None:
    return None


_FROM_TAG: Mapping[str, Callable[[str], Json]] = {
    "null": _nothing,
    "bool": _parse_boolean,
    "int": _decimal,
    "float": _finite,
    "str": _as_written,
}


def _show_duration(value_s: float) -> str:
    """Format seconds in the largest unit that gives a whole number."""
    fitting = [(size, unit) for unit, size in _UNITS_S.items() if unit and value_s >= size and value_s % size == 0]
    size, unit = max(fitting, default=(1.0, ""))
    return f"{value_s / size:g}{unit}"


_OLD_BACKEND = (
    "{} is no longer supported. Set 'backend: mqtt' and 'mqtt: {{host: ...}}'. Waiting jobs stay in the old queue, so let "
    "the old workers empty it first. Old and new workers can run on the same machine"
)
OLD_BACKENDS = ("database", "redis", "rabbitmq")
BACKEND = choice("mqtt", former={name: _OLD_BACKEND.format(name) for name in OLD_BACKENDS})
