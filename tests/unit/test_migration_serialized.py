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
