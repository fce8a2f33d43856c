"""The check for a Mosquitto that hangs, with a real one."""

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from stockworker.adapters.mosquitto import hangs, waiting_connections
from stockworker.broker.configuration import Profile
from tests.harness.broker import Broker
from tests.harness.waiting import wait_until

LOOPBACK = "127.0.0.1"


def is_hung(port: int) -> bool:
    return hangs(LOOPBACK, port, between_looks_s=0.01, patience_s=0.5)


def waiting(port: int) -> int:
    return waiting_connections(Path("/proc/self/net/tcp").read_text(), port)


def test_a_broker_that_hangs_is_noticed_by_the_connections_that_wait(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, ExitStack() as connections:
        log = broker.log
        assert not is_hung(broker.port)
        assert broker.log == log, "a look makes no connection"

        broker.pause()
        assert not is_hung(broker.port), "no client needs it"
        connections.enter_context(socket.create_connection((LOOPBACK, broker.port)))
        wait_until(lambda: waiting(broker.port) == 1, "the connection waits")
        assert is_hung(broker.port)

        broker.resume()
        wait_until(lambda: waiting(broker.port) == 0, "the connection was accepted")
        assert not is_hung(broker.port)


@pytest.mark.parametrize("profile", [Profile.PRODUCTION, Profile.DEVELOPMENT])
def test_a_broker_that_is_only_slow_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: Profile) -> None:
    with Broker(tmp_path / "broker", profile=profile) as broker:
        table = tmp_path / "tcp"
        table.write_text(f"sl local\n 0: 00000000:{broker.port:04X} 00000000:0000 0A 00000000:00000003 00\n")
        monkeypatch.setattr("stockworker.adapters.mosquitto._CONNECTIONS", (table,))
        assert not is_hung(broker.port)
        broker.pause()
        assert is_hung(broker.port)


def test_only_waiting_connections_to_the_port_count() -> None:
    table = "sl local\n 0: 00000000:22B3 00000000:0000 0A 00000000:00000003 00\n"
    assert waiting_connections(table, 8883) == 3
    assert waiting_connections(table, 8884) == 0
    assert waiting_connections(table.replace(" 0A ", " 01 "), 8883) == 0


def test_a_broker_that_does_not_run_does_not_hang() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        assert not is_hung(taken.getsockname()[1])
