"""Notifications are delivered to a real program and a real server, or fail with a reason that names no secret."""

import json
import sys
from pathlib import Path

import pytest

from stockworker.adapters import delivery
from stockworker.adapters.delivery import DeliveryFailed, Recipient, deliver
from tests.harness.http_server import Answer, HttpServer

BODY = b'{"text": "a"}'
PROGRAM = "import json, os, sys; json.dump([sys.stdin.read(), dict(os.environ)], open(sys.argv[1], 'w'))"


def program(text: str, *arguments: str) -> Recipient:
    return Recipient((sys.executable, "-c", text, *arguments))


def failure(recipient: Recipient) -> tuple[str, bool]:
    with pytest.raises(DeliveryFailed) as caught:
        deliver(recipient, BODY, {})
    return str(caught.value), caught.value.retryable


def test_a_program_gets_the_notification_and_nothing_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    file = tmp_path / "got"
    deliver(program(PROGRAM, str(file)), BODY, {"STOCKWORKER_COUNT": "3"})
    body, environment = json.loads(file.read_text())
    assert body.encode() == BODY
    assert environment["STOCKWORKER_COUNT"] == "3"
    assert "PATH" in environment
    assert "NOTIFY_SOCKET" not in environment


def test_a_program_that_fails_does_not_exist_or_does_not_end_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failure(program("raise SystemExit(3)")) == (f"{sys.executable} ended with status 3", True)
    assert failure(Recipient(("/nonexistent",))) == ("/nonexistent can't be started: No such file or directory", True)
    monkeypatch.setattr(delivery, "TIMEOUT_S", 0.05)
    assert failure(Recipient(("/bin/sh", "-c", "sleep 600; true"))) == ("/bin/sh did not end within 0 s", True)


def test_a_program_that_reads_nothing_is_fine() -> None:
    deliver(Recipient(("/bin/true",)), b"x" * 1_000_000, {})


def test_a_web_address_gets_the_notification() -> None:
    with HttpServer() as server:
        server.answers["/hook"] = Answer(b"ok")
        deliver(Recipient(webhook=server.url("/hook?key=1")), BODY, {})
    assert (server.requests, server.bodies) == (["/hook?key=1"], [BODY])
    assert server.headers[0]["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        (500, "answered 500 Internal Server Error", True),
        (404, "answered 404 Not Found", False),
        (302, "answered 302 Found", False),
    ],
)
def test_a_refusal_is_reported_without_the_path_of_the_address(status: int, reason: str, *, retryable: bool) -> None:
    with HttpServer() as server:
        server.answers["/s3cret"] = Answer(b"", status=status, location="/elsewhere")
        found = failure(Recipient(webhook=server.url("/s3cret")))
    assert found == (f"the webhook at 127.0.0.1:{server.port}: {reason}", retryable)
    assert len(server.requests) == 1


@pytest.mark.parametrize("address", ["http://user:s3cret@127.0.0.1/", "http://[::1/", "http:///x"])
def test_an_address_that_is_not_valid_is_given_up(address: str) -> None:
    reason = "the address of the webhook is not valid; it needs a host, and no user"
    assert failure(Recipient(webhook=address)) == (reason, False)
