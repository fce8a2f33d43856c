"""Mappings that `--inspect` proposes, and that work as they are."""

from pathlib import Path
from typing import Any

import pytest

from stockworker.migration.decoding import MigratedJob, decode
from stockworker.migration.mapping_file import preset_names, read_mapping
from stockworker.migration.proposal import propose
from stockworker.migration.source import Container, Found, Standing

PRESETS = {name: read_mapping(None, name) for name in preset_names()}


def table(name: str, *records: dict[str, Any]) -> Container:
    return Container("table", name, records, len(records))


TASKS = table(
    "tasks",
    {
        "uuid": "u-1",
        "task": "App\\Mail",
        "args": '{"to": 1}',
        "prio": 9,
        "tries": 1,
        "run_at": None,
        "state": "Waiting",
    },
    {"uuid": "u-2", "task": "App\\Mail", "args": "not json", "prio": None, "tries": 0, "run_at": None, "state": "busy"},
)


def test_a_proposed_mapping_reads_its_samples(tmp_path: Path) -> None:
    (proposal,) = propose([TASKS], PRESETS)
    file = tmp_path / "mapping.yml"
    file.write_text(proposal.text)
    mapping = read_mapping(file, None)
    made = decode(Found(1, TASKS.samples[0]), mapping, "db", 0.0)

    assert isinstance(made, MigratedJob)
    assert (made.record_id, made.submission.type, made.submission.max_attempts) == ("u-1", "Mail", 2)
    assert mapping.standings[Standing.PENDING] == {"state": ("waiting",)}
    assert mapping.standings[Standing.CLAIMED] == {"state": ("migrating",)}
    assert proposal.notes == ()


def test_the_table_that_is_most_like_a_queue_comes_first() -> None:
    users = table("users", {"id": 1, "name": "a", "data": "{}"})
    logs = table("logs", {"line": 1})

    assert [each.container.name for each in propose([users, logs, TASKS], PRESETS)] == ["tasks", "users"]


@pytest.mark.parametrize(
    ("preset", "record"),
    [
        ("laravel", {"id": 1, "queue": "q", "payload": '{"displayName": "A", "data": {}}', "attempts": 0,
                     "reserved_at": None, "available_at": 1, "created_at": 1}),
        ("symfony", {"id": 1, "body": "{}", "headers": '{"type": "A"}', "queue_name": "default", "created_at": "2026-01-01",
                     "available_at": "2026-01-01", "delivered_at": None}),
        ("jobs", {"id": 1, "type": "a", "payload": "{}", "priority": 1, "attempts": 0, "scheduled_at": None,
                  "status": "pending"}),
    ],
)  # fmt: skip
def test_a_preset_is_recognised_with_and_without_rows(preset: str, record: dict[str, Any]) -> None:
    expected = f"migration:\n  preset: {preset}\n  table: old\n"

    for sample in (record, dict.fromkeys(record)):
        (proposal,) = propose([table("old", sample)], PRESETS)
        assert proposal.text == expected


def test_what_is_missing_is_noted() -> None:
    (proposal,) = propose([table("plain", {"id": 1, "body": "text that is not JSON"})], PRESETS)

    assert "type: {fixed: old_job}" in proposal.text
    assert "payload: {field: body, read: [text]}" in proposal.text
    assert "no column has a status" in proposal.notes[0]
    assert "no field has the type of a job" in proposal.notes[1]


def test_odd_names_are_quoted(tmp_path: Path) -> None:
    (proposal,) = propose([table('my "jobs"', {"ID": 1, "Payload": "{}", "type": "x", "no": 1})], PRESETS)
    file = tmp_path / "mapping.yml"
    file.write_text(proposal.text)

    assert read_mapping(file, None).containers == ('my "jobs"',)
