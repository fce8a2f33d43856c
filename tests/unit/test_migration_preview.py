"""A dry run keeps little, however many records there are, and hides no reason."""

from stockworker.migration import preview
from stockworker.migration.decoding import MigratedJob, Refused, decode
from stockworker.migration.mapping_file import read_mapping
from stockworker.migration.preview import Preview
from stockworker.migration.source import Found

MAPPING = read_mapping(None, "jobs")


def job(number: int, kind: str = "echo", priority: str = "normal") -> MigratedJob:
    record = {"id": number, "type": kind, "payload": "x" * 99, "priority": priority}
    made = decode(Found(number, {**record, "payload": f'"{number}"'}), MAPPING, "db", 0.0)
    assert isinstance(made, MigratedJob)
    return made


def bad(number: int, reason: str) -> Refused:
    return Refused(number, str(number), reason)


def test_jobs_are_counted_by_type_and_priority() -> None:
    shown = Preview()
    for each in (job(2, "b"), job(1, "a", "high"), job(3, "b")):
        shown.add(each)
    assert list(shown.kinds()) == [("a", "high", 1, '1: "1"'), ("b", "normal", 2, '2: "2"')]
    assert (shown.jobs, shown.others, shown.refused, shown.samples(10)) == (3, 0, 0, [])


def test_further_types_are_counted_together() -> None:
    shown = Preview()
    for number in range(preview.MOST_KINDS + 5):
        shown.add(job(number, f"type-{number}"))
    shown.add(job(0, "type-0"))
    assert (shown.jobs, shown.others) == (preview.MOST_KINDS + 6, 5)
    assert len(list(shown.kinds())) == preview.MOST_KINDS


def test_each_reason_is_shown_however_many_records_have_another_one() -> None:
    shown = Preview()
    for number in range(10_000):
        shown.add(bad(number, f"payload: is not UTF-8 at byte {number}"))
    rare = bad(-1, "type: 'a b' is not a valid job type")
    shown.add(rare)
    shown.add(bad(-2, "type: 'c d' is not a valid job type"))
    samples = shown.samples(4)
    assert [each.token for each in samples] == [0, -1, 1, -2]
    assert shown.refused == 10_002
    assert sum(map(len, shown._reasons.values())) == preview.SAMPLES + 2


def test_reasons_without_an_end_do_not_fill_the_memory() -> None:
    shown = Preview()
    for number in range(1_000):
        shown.add(bad(number, f"payload: {'x' * number}"))
    assert (shown.refused, len(shown._reasons), len(shown.samples(2_000))) == (1_000, preview.MOST_REASONS, 100)
