"""The journal of a worker: what was committed comes back, in order, and nothing else."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from shutil import disk_usage, rmtree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockworker.adapters.sqlite import MEMORY
from stockworker.errors import StoreError
from stockworker.logs.worker_events import JournalOfAnother
from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.ids import Token, WorkerId
from stockworker.protocol.messages import Assignment, AttemptReport
from stockworker.worker.effects import Accept, Entry, Forget, MarkStarted, RecordOutcome
from stockworker.worker.journal import Journal, open_journal
from stockworker.worker.leases import JournalEntry
from tests.harness.messages import assignments, attempt_reports
from tests.harness.working import A1, B1, C1, JOB_A, JOB_B, JOB_C, MemoryJournal, attempt, evicted


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite3"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    opened = Journal(path)
    yield opened
    opened.close()


def test_leases_come_back_in_order_of_arrival(journal: Journal, path: Path) -> None:
    journal.commit([Accept(JOB_B), Accept(JOB_A)])
    journal.commit([Accept(JOB_C), MarkStarted(A1)])
    journal.commit([RecordOutcome(attempt(JOB_B)), Forget(C1)])
    entries = journal.load()
    assert [(entry.assignment.token, entry.started) for entry in entries] == [(B1, False), (A1, True)]
    assert [entry.report for entry in entries] == [attempt(JOB_B), None]
    journal.close()
    again = Journal(path)
    assert again.load() == entries
    again.close()


def test_a_payload_is_kept_while_its_job_waits(journal: Journal) -> None:
    journal.commit([Accept(JOB_A), Accept(JOB_B), MarkStarted(B1)])
    assert [entry.assignment.payload for entry in journal.load()] == [JOB_A.payload, ""]
    journal.commit([MarkStarted(A1)])
    assert journal.load()[0] == JournalEntry(replace(JOB_A, payload=""), started=True, report=None)


def test_the_payload_of_a_job_that_starts_immediately_is_not_written(journal: Journal, path: Path) -> None:
    large = replace(JOB_A, payload=f'"{"x" * 100_000}"')
    journal.commit([Accept(large), MarkStarted(A1)])
    assert journal.load() == [JournalEntry(replace(JOB_A, payload=""), started=True, report=None)]
    assert path.with_name(f"{path.name}-wal").stat().st_size < 100_000


def test_a_lease_may_come_and_go_in_one_commit(journal: Journal) -> None:
    journal.commit([Accept(JOB_A), MarkStarted(A1), RecordOutcome(attempt(JOB_A)), Forget(A1)])
    assert journal.load() == []
    journal.commit([Accept(JOB_A), Forget(A1), Accept(JOB_A)])
    assert journal.load() == [JournalEntry(JOB_A, started=False, report=None)]


def test_a_commit_that_fails_leaves_nothing_and_the_journal_goes_on(journal: Journal, path: Path) -> None:
    journal.commit([Accept(JOB_A)])
    before = journal.load()
    with pytest.raises(StoreError, match=f"{path}: can't be written: "):
        journal.commit([MarkStarted(A1), RecordOutcome(attempt(JOB_A)), Accept(JOB_B), Accept(JOB_A)])
    assert journal.load() == before
    journal.commit([MarkStarted(A1)])
    assert journal.load() == [JournalEntry(replace(JOB_A, payload=""), started=True, report=None)]


def test_until_when_a_lease_may_start_is_kept(journal: Journal) -> None:
    journal.commit([Accept(replace(JOB_A, expires_in_s=0.5), start_by=1.7e9 + 1 / 3)])
    assert journal.load() == [JournalEntry(JOB_A, started=False, report=None, start_by=1.7e9 + 1 / 3)]


def test_a_commit_of_nothing_is_no_matter(journal: Journal) -> None:
    journal.commit([])
    assert journal.load() == []


def test_a_result_is_synced_and_what_can_be_said_again_is_not(journal: Journal) -> None:
    def synced() -> bool:
        """Whether the last commit waited for the disk (https://sqlite.org/pragma.html#pragma_synchronous)."""
        return bool(journal._connection.execute("PRAGMA synchronous").fetchone()[0] == 2)

    journal.commit([Accept(JOB_A), MarkStarted(A1)])
    assert not synced()
    journal.commit([RecordOutcome(attempt(JOB_A)), Forget(A1)])
    assert synced()
    journal.commit([Accept(JOB_B)])
    assert not synced()


def test_a_result_may_be_evicted(journal: Journal) -> None:
    journal.commit([Accept(JOB_A), MarkStarted(A1), RecordOutcome(attempt(JOB_A))])
    gone = evicted(attempt(JOB_A), "no room")
    journal.commit([RecordOutcome(gone)])
    assert [entry.report for entry in journal.load()] == [gone]


def test_evicting_makes_room(journal: Journal, path: Path) -> None:
    """Its room is used again, in the file and in the log beside it."""
    large = [Assignment(JOB_A.job_id, JOB_A.type, 1, Token(f"token-{number}"), 60.0, "") for number in range(60)]
    sizes = []
    for each in large:
        report = replace(attempt(each), result="x" * 200_000)
        journal.commit([Accept(each), RecordOutcome(report)])
        journal.commit([RecordOutcome(evicted(report, "no room"))])
        sizes.append(path.stat().st_size + path.with_name(f"{path.name}-wal").stat().st_size)
    assert max(sizes) < 60 * 200_000 / 2


def test_the_room_on_its_disk_is_known(journal: Journal, tmp_path: Path) -> None:
    assert 0 < journal.free_bytes() <= disk_usage(tmp_path).total


def test_a_folder_that_is_gone_is_an_error_of_the_journal(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    journal = Journal(folder / "journal.sqlite3")
    rmtree(folder)
    with pytest.raises(StoreError, match=r"journal\.sqlite3: .*No such file or directory"):
        journal.free_bytes()
    journal.close()


def test_large_batches_are_no_matter(journal: Journal) -> None:
    many = [Assignment(JOB_A.job_id, JOB_A.type, 1, Token(f"token-{number}"), 60.0, "") for number in range(3000)]
    journal.commit([Accept(each) for each in many])
    journal.commit([RecordOutcome(attempt(each)) for each in many])
    assert [entry.report for entry in journal.load()] == [attempt(each) for each in many]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(assignments, max_size=6, unique_by=lambda each: each.token),
    st.lists(attempt_reports, max_size=6),
    st.data(),
)
def test_the_journal_keeps_what_a_dictionary_keeps(
    leases: list[Assignment], reports: list[AttemptReport], data: st.DataObject
) -> None:
    entries: list[Entry] = [Accept(each) for each in leases]
    for each, report in zip(leases, reports, strict=False):
        entries += data.draw(st.sampled_from(ways(each, report)))
    journal, model = Journal(MEMORY), MemoryJournal()
    journal.commit(entries)
    model.commit(entries)
    assert journal.load() == model.load()
    journal.close()


def ways(lease: Assignment, report: AttemptReport) -> list[list[Entry]]:
    """The possible changes of a lease."""
    token = lease.token
    ended = RecordOutcome(replace(report, job_id=lease.job_id, token=token))
    return [[], [MarkStarted(token)], [ended], [MarkStarted(token), ended], [Forget(token)], [ended, Forget(token)]]


def test_a_journal_of_another_worker_is_warned_of_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = WorkerId("old-1"), WorkerId("new-1")
    with closing(open_journal(path, first)) as journal:
        journal.commit([Accept(JOB_A)])
    open_journal(path, first).close()
    assert caplog.records == []
    for _ in range(2):
        open_journal(path, second).close()
    (record,) = caplog.records
    assert record.__dict__["event"] == JournalOfAnother(journal=str(path), id=second, before=first, leases=1)


def test_an_output_comes_back_with_its_report(journal: Journal) -> None:
    with_output = replace(attempt(JOB_A), output=AttemptOutput("a\0\n", 3))
    journal.commit([Accept(JOB_A), Accept(JOB_B), RecordOutcome(with_output), RecordOutcome(attempt(JOB_B))])
    assert [entry.report for entry in journal.load()] == [with_output, attempt(JOB_B)]
    dropped = replace(with_output, output=AttemptOutput("", 6))
    journal.commit([RecordOutcome(dropped)])
    assert journal.load()[0].report == dropped
