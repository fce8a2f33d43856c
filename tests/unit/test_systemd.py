"""The service manager, played by a real datagram socket."""

import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stockworker.adapters import clock
from stockworker.adapters.systemd import Notifier


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(10)
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


@pytest.mark.parametrize(
    ("say", "expected"),
    [
        (lambda notifier: notifier.ready("2 slots"), "READY=1\nSTATUS=2 slots"),
        (lambda notifier: notifier.status("frei: fünf"), "STATUS=frei: fünf"),
        (lambda notifier: notifier.status("a\nWATCHDOG=1"), "STATUS=a WATCHDOG=1"),
        (lambda notifier: notifier.status("\ud800"), "STATUS=?"),
        (lambda notifier: notifier.stopping("draining"), "STOPPING=1\nSTATUS=draining"),
        (lambda notifier: notifier.alive(), "WATCHDOG=1"),
        (lambda notifier: notifier.stuck(), "WATCHDOG=trigger"),
        (lambda notifier: notifier.extend_timeout(1.5), "EXTEND_TIMEOUT_USEC=1500000"),
    ],
)
def test_what_systemd_hears(manager: socket.socket, say: Callable[[Notifier], None], expected: str) -> None:
    with closing(Notifier()) as notifier:
        say(notifier)

    assert manager.recv(4096).decode() == expected


def test_a_status_is_renewed_once_a_second_and_only_with_news(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, texts = iter([0.0, 1.0, 1.9, 2.0, 3.0]), iter(["one", "one", "three"])
    monkeypatch.setattr(clock, "monotonic", lambda: next(times))
    with closing(Notifier()) as notifier:
        for _ in range(4):
            notifier.refresh(lambda: next(texts))
        notifier.alive()

    assert [manager.recv(4096).decode() for _ in range(3)] == ["STATUS=one", "STATUS=three", "WATCHDOG=1"]


def test_no_call_waits_for_a_systemd_that_does_not_read(manager: socket.socket) -> None:
    with closing(Notifier()) as notifier:
        for _ in range(2000):
            notifier.status("busy")
        notifier.ready("2 slots")
        while select.select([manager], [], [], 0)[0]:
            assert manager.recv(4096) == b"STATUS=busy"
        notifier.alive()
        notifier.alive()
    assert [manager.recv(4096) for _ in range(2)] == [b"READY=1\nWATCHDOG=1", b"WATCHDOG=1"]


def test_an_abstract_socket_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"stockworker-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(10)
        listener.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")

        with closing(Notifier()) as notifier:
            notifier.alive()

        assert listener.recv(4096) == b"WATCHDOG=1"


def test_a_reload_says_when_it_began(manager: socket.socket) -> None:
    before = clock.monotonic()
    with closing(Notifier()) as notifier:
        notifier.reloading()
    after = clock.monotonic()

    first, _, usec = manager.recv(4096).decode().partition("\nMONOTONIC_USEC=")
    assert first == "RELOADING=1"
    assert before - 1e-6 <= int(usec) / 1e6 <= after


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    notifier = Notifier()

    notifier.ready("")
    notifier.alive()
    notifier.close()

    assert notifier.watchdog_s is None


def test_a_manager_that_is_gone_is_no_reason_to_fail(manager: socket.socket) -> None:
    with closing(Notifier()) as notifier:
        manager.close()
        notifier.alive()
    notifier.alive()


@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [
        ("30000000", None, 30.0),
        pytest.param("30000000", str(os.getpid()), 30.0, id="of this process"),
        ("30000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
    ],
)
def test_how_long_the_watchdog_waits_is_known(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str | None, expected: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid:
        monkeypatch.setenv("WATCHDOG_PID", pid)

    assert Notifier().watchdog_s == expected
