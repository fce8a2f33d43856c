"""Makes jobs of records, or explains why it can't. Pure."""

# The ID of a job is derived from the identity of the source and the ID of the record: `migrated-17-3f…`. So a record that is
# submitted again, after a crash, is the same job, and the dispatcher answers "duplicate". The digest also contains the
# identity of the source, so that record 17 of two databases are two jobs. A record that was returned to its source and is
# moved again gets another ID, because the dispatcher still knows its cancelled job: `life` counts that.

import base64
import binascii
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from stockworker.migration.mapping import STEP, Lookup, SourceMapping
from stockworker.migration.moments import unix_time
from stockworker.migration.serialized import UnsafeData, celery_message, rq_job
from stockworker.migration.source import Found, Record, SourceToken
from stockworker.protocol.body import MAX_CONTENT, content_size, fits
from stockworker.protocol.fields import FieldError, parse_json
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import MATCHES_ID, JobId, JobType
from stockworker.protocol.job import LONGEST_TIMEOUT_S, PRIORITY_BY_LABEL, Priority
from stockworker.protocol.json_text import json_text
from stockworker.protocol.messages import Submission

_DIGEST: Final = 24
_READABLE: Final = re.compile(r"[A-Za-z0-9._-]{1,26}").fullmatch
_MOST_ATTEMPTS: Final = 1000
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9._-]+")


class Unmapped(Exception):
    """A value that the mapping can't make a part of a job of. The text has the reason."""


@dataclass(frozen=True, slots=True)
class MigratedJob:
    """A record that is a job.

    Attributes:
        token: of the record.
        record_id: the ID of the record, as text.
        submission: the job in its first life.
    """

    token: SourceToken
    record_id: str
    submission: Submission


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that can't become a job, and stays in its source."""

    token: SourceToken
    record_id: str | None
    reason: str


def job_id(identity: str, record_id: str, life: int = 0) -> JobId:
    """The ID of the job of a record; see the head of this module."""
    digest = hashlib.sha256(f"{identity}\n{record_id}".encode(errors="surrogatepass")).hexdigest()[:_DIGEST]
    readable = f"{record_id}-" if _READABLE(record_id) else ""
    again = f"-{life}" if life else ""
    return JobId(f"migrated-{readable}{digest}{again}")


def decode(found: Found, mapping: SourceMapping, identity: str, now: float) -> MigratedJob | Refused:
    """Make a job of a record.

    Args:
        found: the record.
        mapping: the meaning of its fields.
        identity: of the source.
        now: seconds since the epoch; a job that was scheduled before may run immediately.
    """
    record_id = None
    try:
        record_id = record_id_of(found.record, mapping)
        return MigratedJob(found.token, record_id, _submission(found.record, mapping, job_id(identity, record_id), now))
    except Unmapped as error:
        return Refused(found.token, record_id, str(error))


def record_id_of(record: Record, mapping: SourceMapping) -> str:
    """The ID of a record, as text.

    Raises:
        Unmapped: it has none.
    """
    value = look_up(mapping.id, record, "id")
    if value is None or value == "":
        raise Unmapped("id: is missing")
    return _text(value, "id")


def _submission(record: Record, mapping: SourceMapping, own_id: JobId, now: float) -> Submission:
    not_before = _time(mapping.scheduled, record, "scheduled")
    expires_at = _time(mapping.expires, record, "expires")
    if expires_at is not None and expires_at <= max(now, not_before or 0.0):
        raise Unmapped("expires: is in the past, or before the scheduled time; the job would never run")
    return Submission(
        job_id=own_id,
        type=_type(mapping.type, record),
        priority=_priority(mapping.priority, record),
        payload=_payload(mapping.payload, record),
        max_attempts=_attempts_left(mapping, record),
        not_before=not_before if not_before is not None and not_before > now else None,
        expires_at=expires_at,
        timeout_s=_timeout(mapping.timeout, record),
    )


# --- one value --------------------------------------------------------------------------------------------------------


def look_up(lookup: Lookup, record: Record, name: str) -> Any:
    """The value that a mapping names; None if it is missing.

    Raises:
        Unmapped: a decoder or the value map refuses it.
    """
    if lookup.fixed is not None:
        return lookup.fixed
    value = record.get(lookup.field or "")
    for step in lookup.read:
        if value is not None:
            value = _inside(value, step[1:]) if step.startswith(STEP) else _decoded(step, value, name)
    if value is None:
        return lookup.default
    if lookup.map is not None:
        found = lookup.map.find(_text(value, name))
        if found is not None:
            return found
        if lookup.default is not None:
            return lookup.default
        if not lookup.keep_others:
            raise Unmapped(f"{name}: {str(value)[:60]!r} is not in the map of the mapping")
    return value


def _inside(value: Any, key: str) -> Any:
    """The value of a key, or of an index; None if it is missing."""
    if isinstance(value, Mapping):
        return value.get(key)
    if isinstance(value, list | tuple) and key.isdecimal() and int(key) < len(value):
        return value[int(key)]
    return None


def _decoded(decoder: str, value: Any, name: str) -> Any:
    try:
        return DECODERS[decoder](value)
    except UnsafeData as error:
        raise Unmapped(f"{name}: {error}") from None
    except UnicodeDecodeError as error:
        raise Unmapped(f"{name}: is not UTF-8 at byte {error.start}") from None
    except (FieldError, binascii.Error, ValueError) as error:
        raise Unmapped(f"{name}: {error}") from None


def _text(value: Any, name: str) -> str:
    """A value as text."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise Unmapped(f"{name}: is not UTF-8 at byte {error.start}") from None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unmapped(f"{name}: is neither a text nor a number")
    try:
        return str(value)
    except ValueError:  # of Python, for a number of thousands of digits
        raise Unmapped(f"{name}: is a number with too many digits") from None


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise ValueError("is not a text")  # noqa: TRY004 (the errors of decoders are of one kind)
    return value


def _as_json(value: Any) -> Any:
    """JSON text; a source may have parsed it already."""
    return value if isinstance(value, dict | list) else parse_json(_as_text(value))


def _as_base64(value: Any) -> bytes:
    return base64.b64decode(_as_text(value), validate=True)


def _as_class_name(value: Any) -> str:
    r"""The last part of the name of a class or function: `App\Jobs\SendMail` → `SendMail`."""
    return re.split(r"[\\/:]+", _as_text(value).strip("\\"))[-1]


DECODERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "json": _as_json,
    "text": _as_text,
    "base64": _as_base64,
    "class_name": _as_class_name,
    "celery": celery_message,
    "rq": rq_job,
}
"""What a mapping can name in `read`."""


# --- the parts of a job -----------------------------------------------------------------------------------------------


def _type(lookup: Lookup, record: Record) -> JobType:
    value = look_up(lookup, record, "type")
    if value is None:
        raise Unmapped("type: is missing")
    text = _text(value, "type")
    if MATCHES_ID(text) is None:
        plain = _NOT_PLAIN.sub("_", text)[:64]
        raise Unmapped(f"type: {text[:60]!r} is not a valid job type; add it to the map of 'type', such as {plain!r}")
    return JobType(text)


def _priority(lookup: Lookup | None, record: Record) -> Priority:
    value = None if lookup is None else look_up(lookup, record, "priority")
    if value is None:
        return Priority.NORMAL
    label = _text(value, "priority").lower()
    if label not in PRIORITY_BY_LABEL:
        known = ", ".join(PRIORITY_BY_LABEL)
        raise Unmapped(f"priority: {label[:40]!r} is not one of {known}; add it to the map of 'priority'")
    return PRIORITY_BY_LABEL[label]


def _payload(lookup: Lookup, record: Record) -> str:
    value = look_up(lookup, record, "payload")
    try:
        text = json_text(value) if lookup.read or value is None else _json_as_written(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise Unmapped(f"payload: {error}; add text to its 'read'") from None
    try:
        text.encode()  # `fits` does not encode a short one
        small = fits(text)
    except UnicodeEncodeError:
        raise Unmapped("payload: holds half of a surrogate pair, which UTF-8 can't carry") from None
    if not small:
        size = content_size(text)
        raise Unmapped(
            f"payload: is {size} bytes long, and at most {MAX_CONTENT} are possible; put the data where workers can fetch it"
        )
    return text


def _json_as_written(value: Any) -> str:
    """JSON text that stays as it is, once it is known to be valid."""
    if isinstance(value, dict | list):
        return json_text(value)
    try:
        text = _text(value, "payload")
        parse_json(text)
    except FieldError as error:
        raise Unmapped(f"payload: {error}") from None
    return text


def _attempts_left(mapping: SourceMapping, record: Record) -> int | None:
    """The attempts that the old system has not used; at least one. None is the dispatcher's default."""
    most = _whole(mapping.max_attempts, record, "max_attempts")
    used = _whole(mapping.attempts, record, "attempts")
    if not most:
        return None
    return min(max(1, most - (used or 0)), _MOST_ATTEMPTS)


def _whole(lookup: Lookup | None, record: Record, name: str) -> int | None:
    value = None if lookup is None else look_up(lookup, record, name)
    if value is None:
        return None
    try:
        return int(_text(value, name))
    except ValueError:
        raise Unmapped(f"{name}: {str(value)[:40]!r} is not a whole number") from None


def _time(lookup: Lookup | None, record: Record, name: str) -> float | None:
    value = None if lookup is None else look_up(lookup, record, name)
    if lookup is None or value is None:
        return None
    try:
        return unix_time(value if isinstance(value, int | float) else _text(value, name), lookup.zone_s)
    except ValueError as error:
        raise Unmapped(f"{name}: {error}") from None


def _timeout(lookup: Lookup | None, record: Record) -> float | None:
    value = None if lookup is None else look_up(lookup, record, "timeout")
    if value is None:
        return None
    try:
        seconds = float(_text(value, "timeout"))
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST_TIMEOUT_S:
        raise Unmapped(f"timeout: {str(value)[:40]!r} is not a number of seconds up to {LONGEST_TIMEOUT_S:.0f}")
    return seconds
