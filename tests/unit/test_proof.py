"""The proof in an answer: it follows from the submitter's private key, and belongs to one sealing of one job."""

from itertools import pairwise

from stockworker.sealing.envelope import MARK_BYTES
from stockworker.sealing.proof import TOKEN_BYTES, answer_key, mark_of, root_of, token_of
from tests.harness.seals import opening_key

ROOT = root_of(opening_key().private)
MARK, OF = b"m" * 16, b"o" * 16


def test_the_root_belongs_to_the_private_key() -> None:
    key = opening_key()
    assert root_of(key.private) == root_of(key.private)
    assert root_of(key.private) not in {ROOT, key.public}


def test_a_mark_names_id_type_and_payload() -> None:
    mark = mark_of(ROOT, "job-1", "echo", b"{}")
    others = [
        mark_of(root_of(opening_key().private), "job-1", "echo", b"{}"),
        mark_of(ROOT, "job-2", "echo", b"{}"),
        mark_of(ROOT, "job-1", "echo2", b"{}"),
        mark_of(ROOT, "job-1", "echo", b"{} "),
        mark_of(ROOT, "job-1", "ech", b"o\0{}"),
    ]

    assert mark == mark_of(ROOT, "job-1", "echo", b"{}")
    assert len(mark) == MARK_BYTES
    assert mark not in others
    assert len({*others}) == len(others)


def test_a_token_is_for_one_sealing_of_one_job() -> None:
    token = token_of(ROOT, "job-1", "echo", "prices", (MARK, OF))
    others = [
        token_of(root_of(opening_key().private), "job-1", "echo", "prices", (MARK, OF)),
        token_of(ROOT, "job-2", "echo", "prices", (MARK, OF)),
        token_of(ROOT, "job-1", "echo2", "prices", (MARK, OF)),
        token_of(ROOT, "job-1", "echo", "logs", (MARK, OF)),
        token_of(ROOT, "job-1", "echo", "prices", (OF, MARK)),
        token_of(ROOT, "job-1", "echo", "prices", (MARK, MARK)),
    ]

    assert len(token) == TOKEN_BYTES
    assert token not in others
    assert len({*others}) == len(others)


def test_a_mark_is_no_token() -> None:
    """What the header of a job shows to all must not be what its payload hides."""
    rest = MARK + OF
    assert not token_of(ROOT, "a", "b", "c", (MARK, OF)).startswith(mark_of(ROOT, "a", "b", b"c\0" + rest))


def test_the_key_of_an_answer_follows_from_the_token_and_the_session() -> None:
    keys = [answer_key(token, session) for token in (b"t" * 32, b"u" * 32) for session in (b"s" * 32, b"r" * 32)]
    assert all(one != other for one, other in pairwise(sorted(keys)))
    assert {len(key) for key in keys} == {32}
