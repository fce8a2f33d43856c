"""Identifiers: the grammar, UUIDv7 job ids, fencing tokens."""

import uuid

import pytest

from stockworker.protocol.ids import (
    ClientId,
    JobId,
    check_id,
    check_job_id,
    full_id,
    make_job_id,
    make_token,
    owner_of,
    short_id,
    written_id,
)
from tests.harness.entropy import Fixed, seeded

WALL = 1_700_000_000.123


@pytest.mark.parametrize("text", ["a", "x" * 64, "host-1", "A.b_c-9", "0"])
def test_a_valid_id_is_returned(text: str) -> None:
    assert check_id(text) == text


@pytest.mark.parametrize(
    "text", ["", "x" * 65, "a/b", "+", "#", "a b", "a\n", "\u00e4", "\u0661", "a\0", "$SYS", "%u", "a;b"]
)
def test_what_could_mean_something_to_mqtt_or_a_shell_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid ID: 1 to 64 characters"):
        check_id(text)


def test_the_error_about_a_long_id_is_short() -> None:
    with pytest.raises(ValueError, match="not a valid ID") as caught:
        check_id("x" * 100_000)
    assert len(str(caught.value)) < 200


def test_a_job_id_is_a_uuid_of_version_7() -> None:
    job_id = make_job_id(WALL, seeded(1))
    parsed = uuid.UUID(job_id)
    assert str(parsed) == job_id
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == 1_700_000_000_123


def test_random_bits_stay_in_their_places() -> None:
    assert make_job_id(0.0, Fixed(bits=-1)) == "00000000-0000-7fff-bfff-ffffffffffff"
    assert make_token(Fixed(bits=-1)) == "f" * 16


def test_job_ids_sort_by_the_time_they_were_made() -> None:
    entropy = seeded(2)
    made = [make_job_id(WALL + number / 500, entropy) for number in range(1000)]
    assert sorted(made) == made


@pytest.mark.parametrize("make", [lambda entropy: make_job_id(WALL, entropy), make_token])
def test_made_ids_are_valid_and_do_not_repeat(make: object) -> None:
    assert callable(make)
    entropy = seeded(3)
    made = [make(entropy) for _ in range(1000)]
    assert [check_id(found) for found in made] == made
    assert len(set(made)) == 1000


def test_a_token_keeps_its_leading_zeros() -> None:
    assert make_token(Fixed(bits=1)) == "0000000000000001"


@pytest.mark.parametrize("text", ["a", ":a", "ann:a", "x" * 64 + ":" + "x" * 64, "0:0"])
def test_a_valid_job_id_is_returned(text: str) -> None:
    assert check_job_id(text) == text


@pytest.mark.parametrize(
    "text", ["", ":", "a:", "::a", "a::b", "a:b:c", "a:" + "x" * 65, "x" * 65 + ":a", "a/b:c", "+:a"]
)
def test_what_is_not_a_job_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid ID: write ID, OWNER:ID or :ID"):
        check_job_id(text)


@pytest.mark.parametrize(("full", "owner"), [("a", None), ("ann:a", "ann")])
def test_the_owner_is_in_the_full_id(full: str, owner: str | None) -> None:
    assert owner_of(JobId(full)) == owner


@pytest.mark.parametrize(("full", "short"), [("ann:a", "a"), ("a", ":a"), ("eve:a", "eve:a"), ("ann2:a", "ann2:a")])
def test_a_client_writes_its_own_ids_without_the_owner(full: str, short: str) -> None:
    assert short_id(JobId(full), ClientId("ann")) == short
    assert full_id(JobId(short), ClientId("ann")) == full


@pytest.mark.parametrize(("full", "written"), [("alice:a", "alice:a"), ("a", ":a")])
def test_a_written_id_means_the_same_from_every_client(full: str, written: str) -> None:
    assert written_id(JobId(full)) == written
