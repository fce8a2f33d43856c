"""Records become jobs, or the reason why they can't."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.migration.decoding import MigratedJob, Refused, decode, job_id
from stockworker.migration.mapping import Lookup, SourceMapping, ValueMap
from stockworker.migration.mapping_file import read_mapping
from stockworker.migration.source import Found
from stockworker.protocol.body import MAX_CONTENT, fits
from stockworker.protocol.ids import MATCHES_ID
from stockworker.protocol.job import Priority

NOW = 1_700_000_000.0
JOBS = read_mapping(None, "jobs")
LARAVEL = read_mapping(None, "laravel")
SYMFONY = read_mapping(None, "symfony")
ROW = {
    "id": 17,
    "type": "price_update",
    "payload": '{"symbol": "A"}',
    "priority": 5,
    "attempts": 1,
    "scheduled_at": None,
}


def read(record: Mapping[str, Any], mapping: SourceMapping = JOBS) -> MigratedJob | Refused:
    return decode(Found("token", record), mapping, "db/jobs", NOW)


def job(record: Mapping[str, Any], mapping: SourceMapping = JOBS) -> MigratedJob:
    made = read(record, mapping)
    assert isinstance(made, MigratedJob), made
    return made


def reason(record: Mapping[str, Any], mapping: SourceMapping = JOBS) -> str:
    made = read(record, mapping)
    assert isinstance(made, Refused), made
    return made.reason


def test_a_row_becomes_a_job() -> None:
    made = job(ROW)

    assert (made.token, made.record_id) == ("token", "17")
    assert made.submission.type == "price_update"
    assert made.submission.payload == '{"symbol": "A"}'
    assert made.submission.priority is Priority.NORMAL
    assert made.submission.max_attempts == 2
    assert made.submission.not_before is None
    assert made.submission.job_id == job_id("db/jobs", "17")


@pytest.mark.parametrize(
    ("priority", "expected"),
    [("high", Priority.HIGH), (9, Priority.HIGH), ("4", Priority.NORMAL), (0, Priority.LOW), (None, Priority.NORMAL)],
)
def test_a_priority_is_a_word_or_a_number(priority: object, expected: Priority) -> None:
    assert job({**ROW, "priority": priority}).submission.priority is expected


@pytest.mark.parametrize(("used", "left"), [(0, 3), (2, 1), (3, 1), (99, 1), (None, 3)])
def test_a_job_has_the_attempts_that_are_left(used: int | None, left: int) -> None:
    assert job({**ROW, "attempts": used}).submission.max_attempts == left


def test_a_time_in_the_future_is_a_delay() -> None:
    assert job({**ROW, "scheduled_at": NOW + 60}).submission.not_before == NOW + 60
    assert job({**ROW, "scheduled_at": NOW - 60}).submission.not_before is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"id": None}, "id: is missing"),
        ({"id": b"\xff"}, "id: is not UTF-8 at byte 0"),
        ({"type": None}, "type: is missing"),
        ({"type": "App\\Mail"}, "is not a valid job type; add it to the map of 'type', such as 'App_Mail'"),
        ({"payload": "{broken"}, "payload: is not JSON: "),
        ({"payload": b'{"a": "\xe9"}'}, "payload: is not UTF-8 at byte 7"),
        ({"payload": "[NaN]"}, "payload: is not JSON: NaN is not JSON"),
        ({"payload": json.dumps("x" * MAX_CONTENT)}, "put the data where workers can fetch it"),
        ({"payload": "[" * 100_000}, "payload: is nested too deeply"),
        ({"attempts": "many"}, "attempts: 'many' is not a whole number"),
        ({"scheduled_at": "soon"}, "scheduled: 'soon' is not a time"),
    ],
)
def test_a_record_that_can_not_become_a_job_has_a_reason(changes: Mapping[str, Any], expected: str) -> None:
    assert expected in reason({**ROW, **changes})


def test_a_value_outside_of_a_map_is_refused_unless_others_are_kept() -> None:
    def mapped(**options: Any) -> SourceMapping:
        lookup = Lookup("type", map=ValueMap({"old": "new"}), **options)
        return SourceMapping(
            kind="table",
            containers=("t",),
            id=Lookup("id"),
            type=lookup,
            payload=Lookup("payload"),
            standings={},
            exclude={},
            settings={},
        )

    assert job({**ROW, "type": "old"}, mapped()).submission.type == "new"
    assert reason({**ROW, "type": "other"}, mapped()) == "type: 'other' is not in the map of the mapping"
    assert job({**ROW, "type": "other"}, mapped(keep_others=True)).submission.type == "other"
    assert job({**ROW, "type": "other"}, mapped(default="any")).submission.type == "any"


def test_laravel_jobs_keep_their_command_as_text() -> None:
    data = {"commandName": "App\\Jobs\\SendMail", "command": 'O:17:"App\\Jobs\\SendMail":1:{s:2:"\0*\0id";i:7;}'}
    payload = {"displayName": "App\\Jobs\\SendMail", "job": "Call", "maxTries": 5, "timeout": 30, "data": data}
    row = {"id": 1, "queue": "high", "payload": json.dumps(payload), "attempts": 2, "available_at": int(NOW) + 9}
    made = job(row, LARAVEL).submission

    assert (made.type, made.priority, made.max_attempts, made.timeout_s) == ("SendMail", Priority.HIGH, 3, 30.0)
    assert made.not_before == NOW + 9
    assert json.loads(made.payload) == data


def test_symfony_messages_have_their_type_in_the_headers() -> None:
    headers = json.dumps({"type": "App\\Message\\Import", "Content-Type": "application/json"})
    row = {"id": 1, "headers": headers, "body": '{"file":"a.csv"}', "queue_name": "default", "available_at": None}

    assert job(row, SYMFONY).submission.type == "Import"
    assert "payload: is not JSON" in reason({**row, "body": 'O:36:\\"Symfony…'}, SYMFONY)


def test_steps_lead_into_a_value() -> None:
    inner = base64.b64encode(json.dumps([[1], {"b": 2}, {}]).encode()).decode()
    mapping = SourceMapping(
        kind="key",
        containers=("celery",),
        id=Lookup("entry", ("json", ".headers", ".id")),
        type=Lookup("entry", ("json", ".headers", ".task")),
        payload=Lookup("entry", ("json", ".body", "base64", "celery")),
        standings={},
        exclude={},
        settings={},
    )
    entry = json.dumps({"headers": {"id": "1-2", "task": "app.add"}, "body": inner})
    made = job({"entry": entry}, mapping)

    assert made.record_id == "1-2"
    assert json.loads(made.submission.payload) == {"args": [1], "kwargs": {"b": 2}}
    assert "payload: " in reason({"entry": entry.replace(inner, "*")}, mapping)


def test_an_id_depends_on_the_source_the_record_and_the_life() -> None:
    ids = {job_id("a", "1"), job_id("b", "1"), job_id("a", "2"), job_id("a", "1", 1), job_id("a", "1", 2)}

    assert len(ids) == 5
    assert job_id("a", "1") == job_id("a", "1")
    assert job_id("a", "17").startswith("migrated-17-")


@given(st.text(), st.text(), st.integers(0, 9999))
def test_an_id_is_always_valid(identity: str, record_id: str, life: int) -> None:
    assert MATCHES_ID(job_id(identity, record_id, life))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted({*JOBS.columns, *LARAVEL.columns, *SYMFONY.columns})


@pytest.mark.parametrize("mapping", [JOBS, LARAVEL, SYMFONY], ids=["jobs", "laravel", "symfony"])
@given(record=st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_any_record_is_a_job_or_has_a_reason(mapping: SourceMapping, record: dict[str, Any]) -> None:
    made = read(record, mapping)

    if isinstance(made, Refused):
        assert made.reason
        assert made.reason.isprintable() or "\n" not in made.reason
    else:
        json.loads(made.submission.payload)
        assert fits(made.submission.payload)


def test_half_of_a_surrogate_pair_in_a_short_payload_is_refused() -> None:
    parsed = replace(JOBS, payload=Lookup("payload", read=("json",)))
    assert reason({**ROW, "payload": '"\\ud800"'}, parsed) == (
        "payload: holds half of a surrogate pair, which UTF-8 can't carry"
    )


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    assert reason({**ROW, "priority": 10**5000}) == "priority: is a number with too many digits"
    assert reason({**ROW, "scheduled_at": 10**400}).endswith(" is not a time between 1970 and 9999")


def test_a_payload_that_contains_itself_is_refused() -> None:
    own: list[object] = []
    own.append(own)
    assert reason({**ROW, "payload": own}).startswith("payload: ")
