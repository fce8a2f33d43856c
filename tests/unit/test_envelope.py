"""The format of sealed strings: any other text is refused by one error with a reason."""

import json
from typing import Any

import pytest

from stockworker.errors import SealRefused
from stockworker.protocol.body import fits
from stockworker.sealing.envelope import Refusal, SealKind, read_answer, read_job
from tests.harness.seals import JOB, NOW, Parties, job, parts, with_header


@pytest.fixture(scope="module")
def sealed() -> str:
    return Parties().submitter().seal_job(job({"symbol": "ACME"}), JOB, NOW).text


@pytest.fixture(scope="module")
def result() -> str:
    parties = Parties()
    worker = parties.worker()
    opened = worker.open_job(parties.submitter().seal_job(job(), JOB, NOW).text, JOB, job().type, NOW)
    return worker.seal_answer(SealKind.RESULT, "1", opened, 1, NOW)


def header(text: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(read_job(text).associated)
    return fields


def refused(text: str) -> str:
    with pytest.raises(SealRefused) as refused:
        read_job(text)
    assert refused.value.reason == Refusal.DAMAGED
    return str(refused.value)


def test_the_header_is_compact_json_in_a_fixed_order(sealed: str) -> None:
    fields = header(sealed)

    assert read_job(sealed).associated == json.dumps(fields, separators=(",", ":")).encode()
    names = ["kind", "id", "type", "group", "key", "enc", "nonce", "from", "until", "reply", "mark", "signer"]
    assert list(fields) == names


@pytest.mark.parametrize(
    "text", ["", "sealed", "sealed.", "sealed.1", "sealed.1...", "sealed.1....", "null", "sealed.1.a.b.c.d"]
)
def test_what_has_not_its_parts(text: str) -> None:
    assert refused(text).startswith("damaged: ")


def test_another_version_is_named(sealed: str) -> None:
    assert refused(sealed.replace("sealed.2.", "sealed.3.")) == ("damaged: version '3' is not supported, only 1 and 2")


def test_a_header_has_the_fields_of_its_version_alone(sealed: str, result: str) -> None:
    unmarked = json.dumps({name: value for name, value in header(sealed).items() if name != "mark"}).encode()
    assert "does not have the fields of version 2" in refused(with_header(sealed, unmarked))
    assert "does not have the fields of version 1" in refused(sealed.replace("sealed.2.", "sealed.1."))

    fields = json.loads(read_answer(result).associated)
    for missing in ("group", "mark"):
        without = json.dumps({name: value for name, value in fields.items() if name != missing}).encode()
        for version in ("1", "2"):
            text = with_header(result, without).replace("sealed.2.", f"sealed.{version}.")
            with pytest.raises(SealRefused, match=f"does not have the fields of version {version}"):
                read_answer(text)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("spoilt", ["{}=", "{}\n", "{}A!", " {}", "é{}"])
def test_base64_has_one_spelling(sealed: str, number: int, spoilt: str) -> None:
    changed = parts(sealed)
    changed[number] = spoilt.format(changed[number])
    assert "damaged" in refused(".".join(["sealed", "2", *changed]))


def test_unused_bits_of_base64_are_zero(sealed: str) -> None:
    """The last digit of a 64 byte signature has four unused bits."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(sealed[-1]) ^ 1]
    assert "not base64url" in refused(sealed[:-1] + other)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("kind", "result", "kind: expected job, got result"),
        ("kind", None, "kind: expected a word"),
        ("id", "a/b", "id: 'a/b' is not a valid ID"),
        ("type", 1, "type: expected an id"),
        ("group", "", "group: '' is not a valid ID"),
        ("key", "F" * 16, "key: not a key ID"),
        ("key", "f" * 15, "key: not a key ID"),
        ("enc", "AAAA", "enc: must be 32 bytes"),
        ("nonce", "A" * 17, "not base64url"),
        ("from", "#", "from: '#' is not a valid ID"),
        ("until", 1.5, "until: expected a whole number"),
        ("until", -1, "until: must be from 0"),
        ("until", True, "until: expected a whole number"),
        ("reply", None, "reply: expected a string"),
        ("mark", "AAAA", "mark: must be 16 bytes"),
        ("signer", "", "signer: not a key ID"),
        ("signer", None, "its signature has the wrong length"),
    ],
)
def test_headers_that_are_refused(sealed: str, name: str, value: object, problem: str) -> None:
    changed = json.dumps({**header(sealed), name: value}).encode()
    assert problem in refused(with_header(sealed, changed))


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff", b"[" * 2000, b" " * 3000, b'{"until": 1e999}'])
def test_headers_that_are_none(sealed: str, content: bytes) -> None:
    assert "damaged" in refused(with_header(sealed, content))


def test_unknown_fields_of_a_header_are_ignored(sealed: str) -> None:
    changed = json.dumps({**header(sealed), "colour": "blue"}).encode()
    assert read_job(with_header(sealed, changed)).header == read_job(sealed).header


def test_a_job_is_no_answer_and_an_answer_no_job(sealed: str, result: str) -> None:
    assert "kind: expected job" in refused(result)
    with pytest.raises(SealRefused, match="kind: expected result or error or output, got job"):
        read_answer(sealed)


def test_three_quarters_of_what_fits_plain_fits_sealed() -> None:
    submitter = Parties().submitter()
    assert fits(submitter.seal_job(job("x" * 183_000), JOB, NOW).text)
    assert not fits(submitter.seal_job(job("x" * 184_000), JOB, NOW).text)
