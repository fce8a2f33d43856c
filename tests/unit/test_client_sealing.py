"""The sealing of a client: payloads are sealed, and only results of trusted workers are accepted."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stockworker.adapters import clock
from stockworker.client import Completion, Output
from stockworker.client.sealing import ClientSealing
from stockworker.config import Encryption
from stockworker.errors import ConfigError, JobRejected
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.job import Outcome, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptEntry, ReceiptStatus, Submission
from stockworker.protocol.sealed import is_sealed
from stockworker.protocol.views import AttemptView, Explanation, JobView, NumberedOutput
from stockworker.sealing import keyring, keys
from stockworker.sealing.envelope import SealKind, read_job
from stockworker.sealing.keyring import Entry, Holder
from stockworker.sealing.worker_seal import WorkerSeal
from tests.harness.advice import follows
from tests.harness.seals import DESK, EDGE, JOB, PRICES, forged_answer, group, identity, job, line

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TYPES = ["price_update"]


class Submitter:
    """The files of a submitter, and the worker that runs its jobs."""

    def __init__(self, folder: Path) -> None:
        self.ring = folder / "keyring"
        self.key = folder / "desk.pem"
        self.prices, self.edge = group(), identity()
        self.time = NOW.timestamp()
        keys.create(self.key, NOW, identity=True)
        self.lines = [
            line(Holder.SUBMITTER, DESK, keys.load(self.key)),
            line(Holder.WORKER, EDGE, self.edge),
            line(Holder.GROUP, PRICES, self.prices, TYPES),
        ]
        self.write(self.lines)

    def write(self, lines: Iterable[Entry]) -> None:
        keyring.write(self.ring, "".join(f"{keyring.show(entry)}\n" for entry in lines))

    def sealing(self, **changes: Any) -> ClientSealing:
        return ClientSealing(DESK, Encryption(keyring=self.ring, key=self.key, **changes))

    def worker(self) -> WorkerSeal:
        return WorkerSeal(EDGE, keyring.load(self.ring), [self.prices], self.edge, required=True, sign=True)

    def answer(self, payload: str, text: str, kind: SealKind = SealKind.RESULT, job_id: JobId = JOB) -> str:
        worker = self.worker()
        opened = worker.open_job(payload, job_id, JobType(TYPES[0]), self.time)
        return worker.seal_answer(kind, text, opened, 1, self.time)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submitter:
    desk = Submitter(tmp_path)
    monkeypatch.setattr(clock, "wall", lambda: desk.time)
    monkeypatch.setattr(clock, "monotonic", lambda: desk.time)
    return desk


def seal(sealing: ClientSealing, *jobs: Submission) -> list[Submission]:
    return asyncio.run(sealing.seal_all(jobs))


def ended(result: str | None, state: State = State.COMPLETED, reason: str | None = None) -> Completion:
    return Completion(JOB, state, result, reason)


def test_a_payload_leaves_sealed_and_its_result_comes_back(desk: Submitter) -> None:
    sealing = desk.sealing()
    (sent,) = seal(sealing, job({"symbol": "ACME"}))

    assert replace(sent, payload="") == replace(job(), payload="")
    assert desk.worker().open_job(sent.payload, JOB, sent.type, desk.time).payload == '{"symbol": "ACME"}'
    assert sealing.open(ended(desk.answer(sent.payload, '"rich"'))) == ended('"rich"')


def test_a_job_without_an_id_gets_one(desk: Submitter) -> None:
    (sent,) = seal(desk.sealing(), replace(job(), job_id=None))
    assert sent.job_id == read_job(sent.payload).header.id


def test_what_is_sealed_already_is_left_as_it_is(desk: Submitter) -> None:
    (sent,) = seal(desk.sealing(), job())
    assert seal(desk.sealing(), sent) == [sent]


def test_nothing_is_sealed_where_nothing_is_configured() -> None:
    sealing = ClientSealing(DESK, None)
    assert seal(sealing, job()) == [job()]
    assert sealing.open(ended("1")) == ended("1")


def test_a_type_without_a_group_is_refused_or_sent_plain(desk: Submitter) -> None:
    other = job(job_type="data_import")
    with pytest.raises(JobRejected, match=r"job job-1 can't be sealed: the keyring has no valid group for data_import"):
        seal(desk.sealing(), job(job_id="job-0"), other)
    assert seal(desk.sealing(required=False), other) == [other]


@pytest.mark.parametrize("wrong", [{"expires_at": float("nan")}, {"payload": "\ud800"}])
def test_what_makes_no_sense_is_refused(desk: Submitter, wrong: dict[str, Any]) -> None:
    with pytest.raises(JobRejected, match="job job-1 can't be sealed"):
        seal(desk.sealing(), replace(job(), **wrong))


def test_a_job_that_never_expires_is_sealed_until_the_end_of_time(desk: Submitter) -> None:
    (sent,) = seal(desk.sealing(), replace(job(), expires_at=float("inf")))
    assert read_job(sent.payload).header.until == 253_402_300_799


def test_a_payload_that_is_too_large_sealed(desk: Submitter) -> None:
    with pytest.raises(JobRejected, match="the payload is too large; sealing adds a third"):
        seal(desk.sealing(), job("x" * 190_000))


@pytest.mark.parametrize(("key", "problem"), [(None, "encryption.key is required"), ("/nonexistent", "No such file")])
def test_a_client_without_keys_says_so(desk: Submitter, key: str | None, problem: str) -> None:
    sealing = ClientSealing(DESK, Encryption(keyring=desk.ring, key=None if key is None else Path(key)))
    with pytest.raises(ConfigError, match=problem):
        seal(sealing, job())


# --- results that are not trustworthy -----------------------------------------------------------------------------------


def refusal(sealing: ClientSealing, result: str | None) -> str:
    got = sealing.open(ended(result))
    assert (got.state, got.result) == (State.COMPLETED, None)
    assert got.reason is not None
    return got.reason


@pytest.mark.parametrize("forged", ['"forged"', None])
@pytest.mark.parametrize("required", [True, False])
def test_a_plain_result_of_a_sealed_job(desk: Submitter, forged: str | None, *, required: bool) -> None:
    sealing = desk.sealing(required=required)
    seal(sealing, job())
    assert refusal(sealing, forged) == "the result is refused: it is not sealed, but must be"


def test_a_plain_result_of_a_plain_job(desk: Submitter) -> None:
    assert desk.sealing(required=False).open(ended("1")) == ended("1")
    assert "not sealed" in refusal(desk.sealing(), "1")


def test_a_result_of_another_submission_under_the_same_id(desk: Submitter) -> None:
    sealing = desk.sealing()
    ((first,), (second,)) = seal(sealing, job("first")), seal(sealing, job("second"))
    old = desk.answer(first.payload, "1")

    assert "the dispatcher has a job with another payload" in refusal(sealing, old)
    assert sealing.open(ended(desk.answer(second.payload, "2"))).result == "2"


def receipt(status: ReceiptStatus, job_id: JobId | None = JOB, holder: JobId | None = None) -> ReceiptEntry:
    return ReceiptEntry(job_id, status, None, holder)


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("status", ReceiptStatus)
def test_no_receipt_weakens_the_checks_of_a_result(desk: Submitter, status: ReceiptStatus, *, required: bool) -> None:
    """An earlier process had submitted another payload under the same ID, and its result is still stored."""
    (other,) = seal(desk.sealing(), job("other"))
    sealing = desk.sealing(required=required)
    seal(sealing, job())
    sealing.received([receipt(status), receipt(status, None)])

    assert "the dispatcher has a job with another payload" in refusal(sealing, desk.answer(other.payload, "1"))
    assert "it is not sealed, but must be" in refusal(sealing, '"forged"')
    assert "it is not sealed, but must be" in refusal(sealing, None)


def test_a_duplicate_of_the_same_payload_may_be_the_job_of_an_earlier_process(desk: Submitter) -> None:
    (stored,) = seal(desk.sealing(), job({"symbol": "ACME"}))
    sealing = desk.sealing()
    (again,) = seal(sealing, job({"symbol": "ACME"}))
    result = desk.answer(stored.payload, "1")

    assert again.payload != stored.payload
    assert "it belongs to an earlier submission" in refusal(sealing, result)
    sealing.received([receipt(ReceiptStatus.STORED)])
    assert "it belongs to an earlier submission" in refusal(sealing, result)
    sealing.received([receipt(ReceiptStatus.DUPLICATE)])
    assert sealing.open(ended(result)).result == "1"


def test_a_duplicate_of_the_same_payload_is_recognised_after_a_rotation(desk: Submitter) -> None:
    (stored,) = seal(desk.sealing(), job({"symbol": "ACME"}))
    (other,) = seal(desk.sealing(), job("other"))
    desk.write([*desk.lines, line(Holder.SUBMITTER, DESK, keys.add_generation(desk.key, NOW))])
    sealing = desk.sealing()
    (again,) = seal(sealing, job({"symbol": "ACME"}))
    sealing.received([receipt(ReceiptStatus.DUPLICATE)])

    assert read_job(again.payload).header.reply != read_job(stored.payload).header.reply
    assert sealing.open(ended(desk.answer(stored.payload, "1"))).result == "1"
    assert sealing.open(ended(desk.answer(again.payload, "2"))).result == "2"
    assert "the dispatcher has a job with another payload" in refusal(sealing, desk.answer(other.payload, "3"))


def test_a_duplicate_of_an_own_submission_is_answered_by_one_of_them_alone(desk: Submitter) -> None:
    (before,) = seal(desk.sealing(), job())
    sealing = desk.sealing()
    sent = [seal(sealing, job())[0] for _ in range(2)]
    sealing.received([receipt(ReceiptStatus.DUPLICATE)])

    assert "it belongs to an earlier submission" in refusal(sealing, desk.answer(before.payload, "0"))
    assert [sealing.open(ended(desk.answer(each.payload, "1"))).result for each in sent] == ["1", "1"]


def test_a_job_with_the_same_unique_key_must_be_sealed_too(desk: Submitter) -> None:
    (first,) = seal(desk.sealing(), job(job_id="holder"))
    sealing = desk.sealing(required=False)
    seal(sealing, job())
    holder = JobId("holder")
    sealing.received([receipt(ReceiptStatus.DUPLICATE, holder=holder)])

    forged = sealing.open(replace(ended('"forged"'), job_id=holder))
    assert (forged.result, forged.reason) == (None, "the result is refused: it is not sealed, but must be")
    result = desk.answer(first.payload, "1", job_id=holder)
    assert sealing.open(replace(ended(result), job_id=holder)).result == "1"


@follows("For results of jobs from before the upgrade, set encryption.accept_unproven_until")
def test_a_result_without_a_proof_is_accepted_until_the_configured_time_and_never_if_the_job_is_remembered(
    desk: Submitter,
) -> None:
    sealing = desk.sealing(accept_unproven_until=desk.time)
    (sent,) = seal(sealing, job())
    old = forged_answer(desk.worker(), sent.payload, None)

    assert "set encryption.accept_unproven_until" in refusal(desk.sealing(), old)
    assert desk.sealing(accept_unproven_until=desk.time).open(ended(old)).result == '"forged"'
    for remembering in (sealing, desk.sealing(), desk.sealing(accept_unproven_until=desk.time - 1)):
        assert "version 1 does not prove that worker edge-7-1 could open the job" in refusal(remembering, old)


def test_a_result_of_a_worker_that_the_keyring_does_not_know(desk: Submitter) -> None:
    sealing = desk.sealing()
    (sent,) = seal(sealing, job())
    result = desk.answer(sent.payload, "1")
    desk.write(desk.lines[:1])
    desk.time += 1

    assert "worker edge-7-1 is not trusted" in refusal(sealing, result)


def test_a_sealed_result_where_nothing_is_configured(desk: Submitter) -> None:
    (sent,) = seal(desk.sealing(), job())
    assert "no section 'encryption'" in refusal(ClientSealing(DESK, None), desk.answer(sent.payload, "1"))


# --- reasons ------------------------------------------------------------------------------------------------------------


def test_reasons_are_opened_wherever_they_stand(desk: Submitter) -> None:
    sealing = desk.sealing()
    (sent,) = seal(sealing, job())
    error = desk.answer(sent.payload, "no price: ACME", SealKind.ERROR)
    reason, read = f"{error} (attempt 1 of 1)", "no price: ACME (attempt 1 of 1)"

    assert sealing.open(ended(None, State.FAILED, reason)) == ended(None, State.FAILED, read)
    assert sealing.open_view(view(State.FAILED, reason)).reason == read
    attempt = AttemptView(1, WorkerId(EDGE), Token("t"), 1.0, 2.0, Outcome.ERROR, 1.0, error)
    story = sealing.open_explanation(Explanation(JOB, (f"it is failed: {reason}",), (attempt,)))
    assert story == Explanation(JOB, (f"it is failed: {read}",), (replace(attempt, error="no price: ACME"),))


def test_reasons_for_somebody_else_are_not_shown_as_noise(desk: Submitter) -> None:
    (sent,) = seal(desk.sealing(), job())
    error = desk.answer(sent.payload, "no price: ACME", SealKind.ERROR)

    assert ClientSealing(DESK, None).readable(JOB, f"{error} (x)") == "(sealed for its submitter) (x)"
    other = desk.sealing().readable(JobId("job-2"), error)
    assert other == "(sealed for its submitter): it was sealed as the error of another job, job-1"
    assert desk.sealing().readable(JOB, "worker w was lost") == "worker w was lost"
    assert desk.sealing().readable(JOB, None) is None


@pytest.mark.parametrize("required", [True, False])
def test_a_plain_reason_never_passes_for_one_that_a_worker_has_proven(desk: Submitter, *, required: bool) -> None:
    sealing = desk.sealing(required=required)
    (sent,) = seal(sealing, job())
    forged = "no price: ACME (attempt 1 of 1)"
    sealed = desk.answer(sent.payload, "no price: ACME", SealKind.ERROR)
    unproven = f"{forged} (not sealed, so no worker has proven it)"

    assert sealing.open(ended(None, State.FAILED, forged)).reason == unproven
    assert sealing.open_view(view(State.FAILED, forged)).reason == unproven
    attempt = AttemptView(1, WorkerId(EDGE), Token("t"), 1.0, 2.0, Outcome.ERROR, 1.0, forged)
    assert sealing.open_explanation(Explanation(JOB, (), (attempt,))).attempts[0].error == unproven
    assert sealing.open(ended(None, State.FAILED, f"{sealed} (attempt 1 of 1)")).reason == forged
    assert sealing.open(ended(None, State.CANCELLED, "cancelled")).reason == "cancelled"
    other = replace(ended(None, State.FAILED, forged), job_id=JobId("plain"))
    assert sealing.open(other).reason == (unproven if required else forged)


def view(state: State, reason: str | None = None, result: str | None = None) -> JobView:
    return JobView(JOB, JobType(TYPES[0]), Priority.NORMAL, state, 1.0, 1.0, 2.0, 1, 0, 0, None, False, reason, result)  # noqa: FBT003 (a record)


def test_a_view_with_a_result_is_opened_like_a_completion(desk: Submitter) -> None:
    sealing = desk.sealing()
    (sent,) = seal(sealing, job())
    result = desk.answer(sent.payload, "1")

    assert sealing.open_view(view(State.COMPLETED, result=result), with_result=True).result == "1"
    assert sealing.open_view(view(State.COMPLETED)).reason is None
    forged = sealing.open_view(view(State.COMPLETED, result="2"), with_result=True)
    assert (forged.result, forged.reason) == (None, "the result is refused: it is not sealed, but must be")


# --- keys that change -----------------------------------------------------------------------------------------------------


def test_new_keys_are_used_without_a_restart(desk: Submitter) -> None:
    sealing = desk.sealing()
    (before,) = seal(sealing, job())
    desk.prices = group()
    desk.write([*desk.lines, line(Holder.GROUP, PRICES, desk.prices, TYPES)])
    desk.time += 1
    (after,) = seal(sealing, job())

    assert read_job(before.payload).header.key == next(desk.lines[2].ids)
    assert read_job(after.payload).header.key == desk.prices.opening[0].id


def test_a_keyring_that_breaks_is_an_error_and_not_the_old_one(desk: Submitter) -> None:
    sealing = desk.sealing()
    seal(sealing, job())
    desk.ring.write_text("group prices")
    desk.time += 1
    with pytest.raises(ConfigError, match=":1: types, x25519 is missing"):
        seal(sealing, job())


def test_many_jobs_leave_other_tasks_their_turns(desk: Submitter) -> None:
    async def scenario() -> list[bool]:
        turns: list[bool] = []
        asyncio.get_running_loop().call_soon(turns.append, True)  # noqa: FBT003 (what is appended)
        sent = await desk.sealing().seal_all(job(job_id=f"job-{number}") for number in range(64))
        assert all(is_sealed(each.payload) for each in sent)
        return turns

    assert asyncio.run(scenario()) == [True]


# --- outputs ---


def read_output(sealing: ClientSealing, text: str, number: int = 1) -> Output:
    return sealing.open_output(JOB, NumberedOutput(text, 5, number=number))


def test_the_output_of_a_sealed_job_is_opened(desk: Submitter) -> None:
    sealing = desk.sealing()
    (sent,) = seal(sealing, job())
    sealed = desk.answer(sent.payload, "said\n", SealKind.OUTPUT)
    assert read_output(sealing, sealed) == Output(1, "said\n", 5)
    assert read_output(desk.sealing(), sealed) == Output(1, "said\n", 5)
    assert read_output(sealing, sealed, number=2) == Output(2, None, 5, "it was sealed as the output of attempt 1")


@pytest.mark.parametrize("required", [True, False])
def test_a_plain_output_of_a_sealed_job_is_refused(desk: Submitter, *, required: bool) -> None:
    sealing = desk.sealing(required=required)
    seal(sealing, job())
    assert read_output(sealing, "forged") == Output(1, None, 5, "it is not sealed, but must be")
    assert read_output(sealing, "") == Output(1, "", 5)


def test_a_plain_output_of_a_plain_job_is_shown(desk: Submitter) -> None:
    assert read_output(desk.sealing(required=False), "said\n") == Output(1, "said\n", 5)
    assert read_output(desk.sealing(required=True), "said\n") == Output(1, None, 5, "it is not sealed, but must be")
    assert read_output(ClientSealing(DESK, None), "said\n") == Output(1, "said\n", 5)


def test_a_sealed_output_where_nothing_is_configured(desk: Submitter) -> None:
    (sent,) = seal(desk.sealing(), job())
    sealed = desk.answer(sent.payload, "said\n", SealKind.OUTPUT)
    problem = "it is sealed, and this client has no keys; its configuration has no section 'encryption'"
    assert read_output(ClientSealing(DESK, None), sealed) == Output(1, None, 5, problem)
