"""Messages of Celery and jobs of RQ, read without running their code."""

import json
import os
import pickle
import zlib

import pytest

from stockworker.migration.serialized import UnsafeData, celery_message, rq_job

CALL = ("shop.mail.send", None, ("a@example.org",), {"urgent": True})
READ = {"function": "shop.mail.send", "args": ["a@example.org"], "kwargs": {"urgent": True}}


@pytest.mark.parametrize(
    "data",
    [
        zlib.compress(pickle.dumps(CALL)),
        pickle.dumps(CALL, protocol=2),
        json.dumps(CALL),
        zlib.compress(json.dumps(CALL).encode()),
    ],
)
def test_a_job_of_rq_is_read(data: bytes | str) -> None:
    assert rq_job(data) == READ


class Danger:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("echo this must not run >&2; exit 1",)


def test_no_code_of_a_pickle_runs(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnsafeData, match=r"contains an object of (posix|os)\.system"):
        rq_job(pickle.dumps(("f", None, (Danger(),), {})))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x80garbage", "is neither a pickle nor JSON"),
        (pickle.dumps(["f"]), "is not a job of RQ"),
        (zlib.compress(b"0" * (17 * 1024 * 1024)), "is larger than 16777216 bytes when it is unpacked"),
    ],
)
def test_what_is_not_a_job_of_rq_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        rq_job(data)


def test_a_method_of_an_object_is_refused() -> None:
    with pytest.raises(UnsafeData, match="calls a method of an object"):
        rq_job(pickle.dumps(("f", {"an": "instance"}, (), {})))


def test_a_message_of_celery_is_read() -> None:
    body = json.dumps([[1, 2], {"x": 3}, {"callbacks": None}])

    assert celery_message(body) == celery_message(body.encode()) == {"args": [1, 2], "kwargs": {"x": 3}}


@pytest.mark.parametrize("body", ['{"task": "old protocol 1"}', "[1]", '[{"a": 1}, {}]'])
def test_what_is_not_a_message_of_celery_is_refused(body: str) -> None:
    with pytest.raises(ValueError, match="is not the body of a Celery task of protocol 2"):
        celery_message(body)


def doubled() -> list[object]:
    """A small pickle: 60 lists, each of which contains the one before it twice."""
    inner: list[object] = [0]
    for _ in range(60):
        inner = [inner, inner]
    return inner


def endless() -> list[object]:
    own: list[object] = []
    own.append(own)
    return own


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pickle.dumps(("f", None, doubled(), {})), "is larger than 1048576 bytes as text"),
        (pickle.dumps(("f", None, ["x" * 2_000] * 600, {})), "is larger than 1048576 bytes as text"),
        (pickle.dumps(("f", None, [1 << 5_000_000], {})), "is larger than 1048576 bytes as text"),
        (pickle.dumps(("f", None, endless(), {})), "contains values that are too deep in others"),
        (pickle.dumps(("f", None, 5, 6)), "is not a job of RQ"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "is not a job of RQ"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\0\0.", "is neither a pickle nor JSON"),
        (1 << 40, "is not the data of a job of RQ"),
    ],
    ids=["doubled", "repeated", "number", "endless", "arguments", "memo", "bytes", "integer"],
)
def test_a_small_pickle_does_not_become_a_large_job(data: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        rq_job(data)


def test_a_value_may_occur_twice() -> None:
    shared = ["a"]
    assert rq_job(pickle.dumps(("f", None, [shared, shared], {})))["args"] == [["a"], ["a"]]
