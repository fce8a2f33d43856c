"""Any sealed string is opened, or refused by one error with a reason. Every changed string is refused."""

import json
from base64 import urlsafe_b64decode
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.errors import ConfigError, SealRefused
from stockworker.protocol.ids import JobId, JobType
from stockworker.protocol.sealed import find, is_sealed, without_sealed
from stockworker.sealing import keyring
from stockworker.sealing.cli import HEADER, rows
from stockworker.sealing.envelope import Refusal, SealKind, encode_bytes, read_answer, read_job
from stockworker.sealing.keyring import Holder
from stockworker.sealing.submitter_seal import Sent
from tests.harness.seals import JOB, NOW, PRICE_UPDATE, Parties, group, job, line, sent_of, with_header

PARTIES = Parties()
SUBMITTER, WORKER = PARTIES.submitter(), PARTIES.worker()
SEALED = SUBMITTER.seal_job(job({"symbol": "ACME"}), JOB, NOW).text
RESULT = WORKER.seal_answer(SealKind.RESULT, '"rich"', WORKER.open_job(SEALED, JOB, PRICE_UPDATE, NOW), 1, NOW)

PARTS = st.text("AQaz09-_=", max_size=12) | st.text(max_size=12) | st.sampled_from(SEALED.split("."))
CLAIMS = (
    st.text()
    | st.text().map("sealed.2.".__add__)
    | st.lists(PARTS, max_size=5).map(lambda parts: ".".join(["sealed", "2", *parts]))
    | st.lists(PARTS, min_size=5, max_size=5).map(".".join)
)
NAMES = st.sampled_from(sorted(json.loads(read_job(SEALED).associated))) | st.text(max_size=8)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)


def refused(text: str) -> SealRefused:
    with pytest.raises(SealRefused) as worker:
        WORKER.open_job(text, JOB, PRICE_UPDATE, NOW)
    with pytest.raises(SealRefused) as submitter:
        SUBMITTER.open_result(text, JOB, NOW, sent_of(SEALED))
    assert submitter.value.reason in set(Refusal)
    assert worker.value.reason in set(Refusal)
    return worker.value


@given(CLAIMS)
def test_any_text_is_refused_by_a_typed_error(text: str) -> None:
    if text not in {SEALED, RESULT}:
        assert refused(text).reason in {Refusal.DAMAGED, Refusal.FORGED}  # parts of two sealed texts fit together


@given(st.binary(max_size=300), st.binary(max_size=60), st.binary(max_size=70))
def test_any_bytes_inside_are_refused_by_a_typed_error(header: bytes, ciphertext: bytes, signature: bytes) -> None:
    refused(f"sealed.2.{encode_bytes(header)}.{encode_bytes(ciphertext)}.{encode_bytes(signature)}")


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4))
def test_any_header_is_refused_by_a_typed_error(changes: dict[str, object]) -> None:
    header = json.dumps({**json.loads(read_job(SEALED).associated), **changes}).encode()
    refused(with_header(SEALED, header))


@given(st.integers(0, 1 << 31), st.integers(0, 7), st.integers(2, 4))
def test_a_flipped_bit_anywhere_is_noticed(position: int, bit: int, part: int) -> None:
    parts = SEALED.split(".")
    content = bytearray(urlsafe_b64decode(parts[part] + "=="))
    content[position % len(content)] ^= 1 << bit
    parts[part] = encode_bytes(bytes(content))
    refused(".".join(parts))


@given(st.integers(0, 1 << 31), st.characters(codec="utf-8"))
def test_a_changed_character_anywhere_is_noticed(position: int, character: str) -> None:
    for original in (SEALED, RESULT):
        place = position % len(original)
        changed = original[:place] + character + original[place + 1 :]
        if changed != original:
            refused(changed)


@given(st.integers(0, 1 << 31), st.integers(0, 7), st.integers(2, 4))
def test_a_flipped_bit_of_a_result_is_noticed(position: int, bit: int, part: int) -> None:
    parts = RESULT.split(".")
    content = bytearray(urlsafe_b64decode(parts[part] + "=="))
    content[position % len(content)] ^= 1 << bit
    parts[part] = encode_bytes(bytes(content))
    with pytest.raises(SealRefused):
        SUBMITTER.open_result(".".join(parts), JOB, NOW, sent_of(SEALED))


class Fleet:
    """Jobs of two groups, with equal and different IDs and payloads, and a worker of each group that opens them."""

    def __init__(self) -> None:
        parties, logs = Parties(), group()
        parties.lines.append(line(Holder.GROUP, "logs", logs, ["log"]))
        desk = self.desk = parties.submitter()
        self.worker = parties.worker(groups=[parties.prices, logs])
        self.jobs = [
            (job_id, job_type, desk.seal_job(job(payload, job_id, job_type), JobId(job_id), NOW).text)
            for job_id in ("job-1", "job-2")
            for job_type in (PRICE_UPDATE, "log")
            for payload in ("a", "a", "b")
        ]
        self.opened = [
            self.worker.open_job(text, JobId(job_id), JobType(job_type), NOW) for job_id, job_type, text in self.jobs
        ]


FLEET = Fleet()
NUMBERS = st.integers(0, len(FLEET.jobs) - 1)
KINDS = st.sampled_from([SealKind.RESULT, SealKind.ERROR])


def accepted(answer: str, kind: SealKind, job_id: str, sent: Sent | None) -> bool:
    read = FLEET.desk.open_result if kind is SealKind.RESULT else FLEET.desk.open_error
    try:
        return read(answer, JobId(job_id), NOW, sent) == "1"
    except SealRefused:
        return False


@given(NUMBERS, NUMBERS, KINDS, KINDS)
def test_an_answer_belongs_to_its_own_job_and_kind_alone(
    answered: int, asked: int, kind: SealKind, wanted: SealKind
) -> None:
    answer = FLEET.worker.seal_answer(kind, "1", FLEET.opened[answered], 1, NOW)
    (own_id, _, _), (job_id, _, text) = FLEET.jobs[answered], FLEET.jobs[asked]

    assert accepted(answer, wanted, job_id, sent_of(text)) == (answered == asked and kind is wanted)
    assert accepted(answer, wanted, job_id, None) == (own_id == job_id and kind is wanted)


@given(NUMBERS, NUMBERS, st.none() | st.binary(min_size=32, max_size=32), KINDS)
def test_a_token_of_another_job_or_made_up_proves_nothing(
    known: int, asked: int, made_up: bytes | None, kind: SealKind
) -> None:
    """A worker names any job in its answer, and uses any token that it has or makes up."""
    job_id, _, text = FLEET.jobs[asked]
    token = FLEET.opened[known].token if made_up is None else made_up
    answer = FLEET.worker.seal_answer(kind, "1", replace(FLEET.opened[asked], token=token), 1, NOW)

    proven = made_up is None and known == asked
    assert accepted(answer, kind, job_id, sent_of(text)) == proven
    assert accepted(answer, kind, job_id, None) == proven


@given(st.integers(0, 1 << 31), st.integers(0, 7), st.integers(2, 4), KINDS)
def test_a_changed_answer_is_refused_by_a_process_that_remembers_nothing(
    position: int, bit: int, part: int, kind: SealKind
) -> None:
    parts = FLEET.worker.seal_answer(kind, "1", FLEET.opened[0], 1, NOW).split(".")
    content = bytearray(urlsafe_b64decode(parts[part] + "=="))
    content[position % len(content)] ^= 1 << bit
    parts[part] = encode_bytes(bytes(content))
    with pytest.raises(SealRefused):
        FLEET.desk.open_result(".".join(parts), JOB, NOW, None)


@given(st.text(), st.sampled_from([SealKind.RESULT, SealKind.ERROR]))
def test_any_text_comes_through(text: str, kind: SealKind) -> None:
    payload = json.dumps(text)
    sealed = SUBMITTER.seal_job(job(text), JOB, NOW).text
    opened = WORKER.open_job(sealed, JOB, PRICE_UPDATE, NOW)
    assert json.loads(opened.payload) == json.loads(payload)

    answer = WORKER.seal_answer(kind, payload, opened, 1, NOW)
    read = SUBMITTER.open_result if kind is SealKind.RESULT else SUBMITTER.open_error
    assert read(answer, JOB, NOW, sent_of(sealed)) == payload
    assert read_answer(answer).header.kind is kind


@given(st.text(), st.text())
def test_what_is_sealed_is_found_in_what_was_said_around_it(before: str, after: str) -> None:
    text = f"{before} {RESULT} {after}"
    if find(before) is None:
        assert find(text) == RESULT
    assert RESULT not in without_sealed(text)


@given(st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)))
def test_no_json_text_claims_to_be_sealed(value: object) -> None:
    assert not is_sealed(json.dumps(value))


TIMES = (
    st.datetimes().map(lambda time: time.isoformat(timespec="seconds"))
    | st.datetimes(timezones=st.timezones()).map(lambda time: time.isoformat(timespec="seconds"))
    | st.dates().map(str)
    | st.text("0123456789-:TZ+W.", max_size=25)
)


@given(TIMES, TIMES)
def test_the_times_of_a_line_are_written_as_they_were_read_and_can_be_listed(begins: str, ends: str) -> None:
    entry = replace(PARTIES.lines[0], not_before=None, not_after=None)
    try:
        read = keyring.parse(f"{keyring.show(entry)} not-before={begins} not-after={ends}", "keyring")
    except ConfigError:
        return
    written = keyring.show(read.entries[0])
    assert keyring.parse(written, "keyring").entries == read.entries
    assert keyring.show(keyring.parse(written, "keyring").entries[0]) == written
    assert all(len(row.cells()) == len(HEADER) for row in rows(read, [PARTIES.desk], NOW))


LINES = st.lists(
    st.text(max_size=30)
    | st.sampled_from(
        ["submitter", "worker", "group", "desk-1", "ed25519:", "types=a", "groups=a", "not-before=2026-05-01", "#"]
    )
    | st.sampled_from(keyring.show(PARTIES.lines[0]).split()),
    max_size=8,
).map(" ".join)


@given(st.lists(LINES, max_size=4).map("\n".join))
def test_any_keyring_is_read_or_refused_with_its_lines(text: str) -> None:
    try:
        entries = keyring.parse(text, "keyring").entries
    except ConfigError:
        return
    assert keyring.parse("\n".join(map(keyring.show, entries)), "keyring").entries == entries


@given(st.text(min_size=1))
def test_a_job_id_is_compared_as_a_whole(other: str) -> None:
    if other != JOB:
        with pytest.raises(SealRefused):
            WORKER.open_job(SEALED, JobId(other), PRICE_UPDATE, NOW)
