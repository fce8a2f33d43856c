"""A sealed job from the submitter to the worker and back, and everything that makes either side refuse."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from stockworker.errors import ConfigError, SealRefused
from stockworker.protocol.ids import JobId, JobType, WorkerId
from stockworker.protocol.sealed import find, is_sealed, without_sealed
from stockworker.sealing import hpke, sessions, submitter_seal
from stockworker.sealing.envelope import Refusal, SealKind, read_answer, read_job
from stockworker.sealing.keyring import Holder
from stockworker.sealing.submitter_seal import Sent
from stockworker.sealing.worker_seal import Opened, WorkerSeal
from tests.harness.seals import (
    DESK,
    EDGE,
    JOB,
    NOW,
    PRICE_UPDATE,
    PRICES,
    VALID_FOR_S,
    Parties,
    forged_answer,
    group,
    identity,
    job,
    line,
    rotated,
    sent_of,
)

SECRET = {"symbol": "ACME"}


@pytest.fixture
def parties() -> Parties:
    return Parties()


def sealed(parties: Parties, *, sign: bool = True, now: float = NOW) -> str:
    return parties.submitter(sign=sign).seal_job(job(SECRET), JOB, now).text


def opened(worker: WorkerSeal, text: str, job_id: str = JOB, job_type: str = PRICE_UPDATE, now: float = NOW) -> Opened:
    return worker.open_job(text, JobId(job_id), JobType(job_type), now)


def refusal(
    worker: WorkerSeal, text: str, job_id: str = JOB, job_type: str = PRICE_UPDATE, now: float = NOW
) -> tuple[str, str]:
    with pytest.raises(SealRefused) as refused:
        opened(worker, text, job_id, job_type, now)
    return refused.value.reason, str(refused.value)


# --- the way there ----------------------------------------------------------------------------------------------------


def test_a_payload_arrives_as_it_was(parties: Parties) -> None:
    text = sealed(parties)
    got = opened(parties.worker(), text)

    assert is_sealed(text)
    assert "ACME" not in text
    assert got.payload == '{"symbol": "ACME"}'
    assert got.reply == parties.desk.opening[0].public
    assert (got.header.sender, got.header.group, got.header.until) == (DESK, PRICES, NOW + VALID_FOR_S)


def test_the_same_payload_never_looks_the_same(parties: Parties) -> None:
    submitter = parties.submitter()
    texts = [submitter.seal_job(job(SECRET), JOB, NOW).text for _ in range(2)]
    headers = [read_job(text).header for text in texts]

    assert headers[0].nonce != headers[1].nonce
    assert headers[0].enc == headers[1].enc  # agreed once
    assert read_job(texts[0]).ciphertext != read_job(texts[1]).ciphertext


def test_a_job_that_is_to_start_later_is_good_for_later(parties: Parties) -> None:
    submitter = parties.submitter()
    later = submitter.seal_job(job(not_before=NOW + 1000), JOB, NOW).text
    sooner = submitter.seal_job(job(not_before=NOW + 1000, expires_at=NOW + 1001.5), JOB, NOW).text

    assert read_job(later).header.until == NOW + 1000 + VALID_FOR_S
    assert read_job(sooner).header.until == NOW + 1002


def test_an_unsigned_payload_needs_nobody_who_can_sign(parties: Parties) -> None:
    text = sealed(parties, sign=False)
    got = opened(parties.worker(sign=False), text)

    assert text.endswith(".")
    assert got.header.signer is None
    assert got.reply == parties.desk.opening[0].public


def test_a_signature_is_checked_even_where_none_is_needed(parties: Parties) -> None:
    text = sealed(Parties(prices=parties.prices))

    assert refusal(parties.worker(sign=False), text)[0] == Refusal.UNTRUSTED


# --- what a worker refuses --------------------------------------------------------------------------------------------


def test_a_worker_of_another_group_has_no_key(parties: Parties) -> None:
    reason, text = refusal(parties.worker(groups=[group()]), sealed(parties))

    assert reason == Refusal.NO_KEY
    assert f"no private key {parties.prices.opening[0].id} of group {PRICES}" in text


def test_a_submitter_that_the_keyring_does_not_list(parties: Parties) -> None:
    reason, text = refusal(parties.worker(lines=parties.without(Holder.SUBMITTER)), sealed(parties))

    assert (reason, text) == (
        Refusal.UNTRUSTED,
        f"submitter {DESK} is not trusted: in the keyring, it is missing",
    )


def test_a_submitter_under_a_name_that_is_not_its_own(parties: Parties) -> None:
    impostor = Parties(prices=parties.prices)
    reason, text = refusal(parties.worker(), sealed(impostor))

    assert reason == Refusal.UNTRUSTED
    assert f"the key is not {impostor.desk.signing[0].id}" in text


def test_a_submitter_whose_key_does_not_count_any_more(parties: Parties) -> None:
    worker = parties.worker(lines=parties.changed(Holder.SUBMITTER, not_after=NOW + 10))
    text = sealed(parties)

    assert opened(worker, text, now=NOW + 10).payload
    assert refusal(worker, text, now=NOW + 11)[0] == Refusal.UNTRUSTED


def test_a_submitter_that_may_not_submit_this_type(parties: Parties) -> None:
    worker = parties.worker(lines=parties.changed(Holder.SUBMITTER, types=frozenset({JobType("data_import")})))

    reason, text = refusal(worker, sealed(parties))
    assert reason == Refusal.NOT_ALLOWED
    assert f"submitter {DESK} may not submit {PRICE_UPDATE}" in text


def test_a_group_that_may_not_run_this_type(parties: Parties) -> None:
    worker = parties.worker(lines=parties.changed(Holder.GROUP, types=frozenset({JobType("data_import")})))

    assert refusal(worker, sealed(parties))[0] == Refusal.NOT_ALLOWED


def test_a_key_of_another_group_than_the_header_says(parties: Parties) -> None:
    """Workers of a group run its types alone, though a submitter calls it by the name of another one."""
    other = Parties(desk=parties.desk, edge=parties.edge)
    ring = [*parties.lines, line(Holder.GROUP, "others", other.prices, ["data_import"])]
    worker = parties.worker(lines=ring, groups=[other.prices])

    reason, text = refusal(worker, sealed(other))
    assert (reason, text) == (
        Refusal.NO_KEY,
        f"the keyring lists no key {other.prices.opening[0].id} of group {PRICES}; copy the current keyring",
    )


@pytest.mark.parametrize(("job_id", "job_type"), [("job-2", PRICE_UPDATE), (JOB, "data_import")])
def test_a_payload_that_was_moved_to_another_job(parties: Parties, job_id: str, job_type: str) -> None:
    assert refusal(parties.worker(), sealed(parties), job_id, job_type)[0] == Refusal.MOVED


def test_a_payload_past_its_time(parties: Parties) -> None:
    text = sealed(parties)
    worker = parties.worker()

    assert opened(worker, text, now=NOW + VALID_FOR_S).payload
    reason, problem = refusal(worker, text, now=NOW + VALID_FOR_S + 1)
    assert reason == Refusal.EXPIRED
    assert "it expired at 2026-09-21T15:13:20Z" in problem


def test_an_unsigned_payload_where_signed_ones_are_wanted(parties: Parties) -> None:
    reason, text = refusal(parties.worker(), sealed(parties, sign=False))

    assert reason == Refusal.UNSIGNED
    assert "encryption.sign" in text


def test_a_signature_with_another_key_than_the_header_says(parties: Parties) -> None:
    impostor = replace(parties, desk=identity(), lines=parties.lines)
    signing = replace(impostor.desk.signing[0], id=parties.desk.signing[0].id)
    opening = replace(impostor.desk.opening[0], id=parties.desk.opening[0].id)
    impostor.desk = replace(impostor.desk, signing=(signing,), opening=(opening,))

    reason, text = refusal(parties.worker(), sealed(impostor))
    assert (reason, text) == (Refusal.FORGED, f"its signature is not from submitter {DESK}")


def test_a_worker_that_could_not_sign_the_result_leaves_the_job_to_another(parties: Parties) -> None:
    with pytest.raises(ConfigError, match=f"keys export worker {EDGE}"):
        opened(parties.worker(lines=parties.without(Holder.WORKER)), sealed(parties))


def test_what_no_submitter_could_seal_says_what_is_missing(parties: Parties) -> None:
    with pytest.raises(ConfigError, match=r"no valid group for price_update\. .* --types price_update"):
        parties.submitter(lines=parties.without(Holder.GROUP)).seal_job(job(), JOB, NOW)
    with pytest.raises(ConfigError, match=f"keys export submitter {DESK}"):
        parties.submitter(lines=parties.without(Holder.SUBMITTER)).seal_job(job(), JOB, NOW)


def test_a_key_that_nothing_can_be_sealed_to(parties: Parties) -> None:
    """A point of small order: whatever is agreed with it, everybody knows."""
    one = (1).to_bytes(32, "little")
    with pytest.raises(ConfigError, match="is not usable for sealing"):
        parties.submitter(lines=parties.changed(Holder.GROUP, sealing=one)).seal_job(job(), JOB, NOW)


# --- the way back -----------------------------------------------------------------------------------------------------


def answer(parties: Parties, kind: SealKind = SealKind.RESULT, text: str = '"rich"') -> tuple[str, Sent]:
    sent = sealed(parties)
    worker = parties.worker()
    return worker.seal_answer(kind, text, opened(worker, sent), 3, NOW), sent_of(sent)


def test_a_result_comes_back_as_it_was(parties: Parties) -> None:
    text, sent = answer(parties)

    assert "rich" not in text
    assert parties.submitter().open_result(text, JOB, NOW, sent) == '"rich"'
    assert parties.submitter().open_result(text, JOB, NOW, None) == '"rich"'
    assert read_answer(text).header.attempt == 3


def test_an_error_text_comes_back_inside_what_the_dispatcher_says(parties: Parties) -> None:
    text, sent = answer(parties, SealKind.ERROR, "no price: ACME\nTraceback")
    reason = f"{text} (attempt 3 of 3)"
    found = find(reason)

    assert found == text
    assert parties.submitter().open_error(found, JOB, NOW, sent) == "no price: ACME\nTraceback"
    assert without_sealed(reason) == "(sealed for its submitter) (attempt 3 of 3)"


def result_refusal(parties: Parties, text: str, sent: Sent | None, job_id: str = JOB, **changes: object) -> str:
    lines = changes.pop("lines", None)
    with pytest.raises(SealRefused) as refused:
        parties.submitter(lines=lines).open_result(text, JobId(job_id), NOW, sent)  # type: ignore[arg-type] # lines or None
    return refused.value.reason


def test_results_that_a_submitter_refuses(parties: Parties) -> None:
    text, sent = answer(parties)
    error, _ = answer(parties, SealKind.ERROR)

    assert result_refusal(parties, '"forged"', sent) == Refusal.PLAIN
    assert result_refusal(parties, text, sent, "job-2") == Refusal.MOVED
    assert result_refusal(parties, error, None) == Refusal.MOVED
    assert result_refusal(parties, text, sent_of(sealed(parties))) == Refusal.MOVED
    assert result_refusal(parties, text, sent, lines=parties.without(Holder.WORKER)) == Refusal.UNTRUSTED
    assert result_refusal(replace(parties, edge=identity(), lines=[]), text, sent) == Refusal.UNTRUSTED


EVIL = WorkerId("host-9")


@pytest.fixture
def evil(parties: Parties) -> WorkerSeal:
    """A worker that the keyring lists, in another group: it can't open price updates, but data imports."""
    own, logs = identity(), group()
    parties.lines += [line(Holder.WORKER, EVIL, own), line(Holder.GROUP, "logs", logs, ["data_import"])]
    return WorkerSeal(EVIL, parties.keyring, [logs], own, required=True, sign=True)


def reason_of(parties: Parties, text: str, sent: Sent | None, kind: SealKind = SealKind.RESULT) -> str:
    desk = parties.submitter()
    with pytest.raises(SealRefused) as refused:
        (desk.open_result if kind is SealKind.RESULT else desk.open_error)(text, JOB, NOW, sent)
    return f"{refused.value.reason}: {refused.value}"


@pytest.mark.parametrize("kind", [SealKind.RESULT, SealKind.ERROR])
@pytest.mark.parametrize("remembered", [True, False])
def test_a_worker_that_could_not_open_the_job_can_not_answer_it(
    parties: Parties, evil: WorkerSeal, kind: SealKind, *, remembered: bool
) -> None:
    text = sealed(parties)
    sent = sent_of(text) if remembered else None
    own_job = parties.submitter().seal_job(job(job_id=JOB, job_type="data_import"), JOB, NOW).text
    token = opened(evil, own_job, job_type="data_import").token
    assert refusal(evil, text)[0] == Refusal.NO_KEY

    unproven = f"unproven: worker {EVIL} has signed it, but does not prove that it could open the job"
    for made_up in (bytes(32), b"\xff" * 32, token):
        assert reason_of(parties, forged_answer(evil, text, made_up, kind), sent, kind) == unproven
    own = forged_answer(evil, own_job, token, kind, id=JobId("job-2"))
    assert reason_of(parties, own, sent, kind).startswith("moved: ")
    old = forged_answer(evil, text, None, kind)
    assert reason_of(parties, old, sent, kind).startswith("unproven: version 1 does not prove that worker host-9 ")


def test_a_token_is_good_for_its_own_job_alone(parties: Parties, evil: WorkerSeal) -> None:
    """A worker has opened a job of its group, and uses what it found there for a job of another group."""
    submitter = parties.submitter()
    own = submitter.seal_job(job(job_id="job-2", job_type="data_import"), JobId("job-2"), NOW).text
    token = opened(evil, own, "job-2", "data_import").token
    assert token is not None

    for changes in ({}, {"id": JOB}, {"id": JOB, "type": PRICE_UPDATE}, {"id": JOB, "group": PRICES}):
        forged = forged_answer(evil, own, token, **changes)
        expected = "unproven" if changes else "moved"
        assert reason_of(parties, forged, None).startswith(f"{expected}: ")


def test_an_unsigned_answer_proves_that_its_worker_could_open_the_job(parties: Parties, evil: WorkerSeal) -> None:
    text = parties.submitter(sign=False).seal_job(job(), JOB, NOW).text
    evil = WorkerSeal(EVIL, parties.keyring, [group()], None, required=True, sign=False)
    with pytest.raises(SealRefused, match="made by a worker that could not open the job: host-9"):
        parties.submitter(sign=False).open_result(forged_answer(evil, text, bytes(32)), JOB, NOW, sent_of(text))


def test_a_worker_may_answer_the_jobs_of_its_groups_alone(parties: Parties) -> None:
    text, sent = answer(parties)
    for groups, accepted in (({PRICES, "logs"}, True), ({"logs"}, False)):
        lines = parties.changed(Holder.WORKER, groups=frozenset(groups))
        desk = parties.submitter(lines=lines)
        if accepted:
            assert desk.open_result(text, JOB, NOW, sent) == '"rich"'
            continue
        for remembered in (sent, None):
            with pytest.raises(SealRefused) as refused:
                desk.open_result(text, JOB, NOW, remembered)
            assert refused.value.reason == Refusal.NOT_ALLOWED
            assert f"worker {EDGE} may not answer jobs of group {PRICES}" in str(refused.value)


def test_another_payload_under_the_same_id_and_an_earlier_sealing_of_the_same_one(parties: Parties) -> None:
    text, sent = answer(parties)
    other = sent_of(parties.submitter().seal_job(job("other"), JOB, NOW).text)
    again = sent_of(sealed(parties))

    assert sent.marks == again.marks != other.marks
    assert (
        reason_of(parties, text, other) == f"moved: under the ID {JOB}, the dispatcher has a job with another payload"
    )
    assert reason_of(parties, text, again) == f"moved: it belongs to an earlier submission of job {JOB}"
    assert reason_of(parties, text, replace(other, of=frozenset())).startswith("moved: ")
    for accepted in (replace(again, of=again.of | sent.of), replace(again, of=frozenset())):
        assert parties.submitter().open_result(text, JOB, NOW, accepted) == '"rich"'


def test_a_payload_without_a_token_is_damaged(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitter_seal, "token_of", lambda *_: b"")
    text = parties.submitter().seal_job(job(), JOB, NOW).text
    assert refusal(parties.worker(), text) == (Refusal.DAMAGED, "damaged: it has no token in front of the payload")


def test_a_result_for_somebody_else(parties: Parties) -> None:
    text, sent = answer(parties)
    other = replace(parties, desk=identity())
    ours = other.submitter(lines=[*parties.without(Holder.SUBMITTER), line(Holder.SUBMITTER, DESK, other.desk)])

    with pytest.raises(SealRefused, match="which is not in identity"):
        ours.open_result(text, JOB, NOW, sent)


def test_an_unsigned_result_where_signed_ones_are_wanted(parties: Parties) -> None:
    sent = sealed(parties, sign=False)
    worker = parties.worker(sign=False)
    text = worker.seal_answer(SealKind.RESULT, "1", opened(worker, sent), 1, NOW)

    assert parties.submitter(sign=False).open_result(text, JOB, NOW, sent_of(sent)) == "1"
    assert result_refusal(parties, text, sent_of(sent)) == Refusal.UNSIGNED


# --- rotation ---------------------------------------------------------------------------------------------------------


def test_old_keys_still_open_old_jobs_and_results(parties: Parties) -> None:
    text, sent = answer(parties)
    old_job = sealed(parties)
    parties.prices, parties.desk = rotated(parties.prices), rotated(parties.desk)

    assert opened(parties.worker(), old_job).payload
    assert parties.submitter().open_result(text, JOB, NOW, sent) == '"rich"'


def test_of_two_group_keys_the_newest_that_counts_is_used(parties: Parties) -> None:
    old = parties.prices.opening[0].id
    parties.prices = rotated(parties.prices)
    parties.lines.append(line(Holder.GROUP, PRICES, parties.prices, [PRICE_UPDATE], not_before=NOW + 60))

    assert read_job(sealed(parties)).header.key == old
    assert read_job(sealed(parties, now=NOW + 60)).header.key == parties.prices.opening[0].id


def test_a_new_identity_key_is_used_when_the_keyring_lists_it(parties: Parties) -> None:
    old = parties.desk.signing[0].id
    parties.desk = rotated(parties.desk)
    assert read_job(sealed(parties)).header.signer == old

    parties.lines.append(line(Holder.SUBMITTER, DESK, parties.desk))
    assert read_job(sealed(parties)).header.signer == parties.desk.signing[0].id


# --- sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("later_s", [sessions.LONGEST_SESSION_S, -1.0])
def test_a_session_ends_with_its_hour_or_when_the_clock_steps_back(parties: Parties, later_s: float) -> None:
    submitter = parties.submitter()
    first, second, third = (
        read_job(submitter.seal_job(job(), JOB, now).text).header.enc for now in (NOW, NOW + 1, NOW + later_s)
    )

    assert first == second
    assert third != first


def test_a_session_ends_with_its_last_message(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions.Session.__init__, "__defaults__", (2,))
    submitter = parties.submitter()
    keys = [read_job(submitter.seal_job(job(), JOB, NOW).text).header.enc for _ in range(3)]

    assert keys[0] == keys[1] != keys[2]


def test_a_key_is_derived_once_per_session(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    derived: list[bytes] = []
    derive = hpke.derive

    def noted(private: X25519PrivateKey, enc: bytes, info: bytes) -> bytes:
        derived.append(enc)
        return derive(private, enc, info)

    monkeypatch.setattr(hpke, "derive", noted)
    submitter, worker = parties.submitter(), parties.worker()
    for _ in range(3):
        opened(worker, submitter.seal_job(job(), JOB, NOW).text)

    assert len(derived) == 1


def test_private_keys_and_payloads_do_not_show(parties: Parties) -> None:
    shown = repr((parties.desk, parties.edge, parties.prices, opened(parties.worker(), sealed(parties))))

    assert "ACME" not in shown
    assert "Private" not in shown
