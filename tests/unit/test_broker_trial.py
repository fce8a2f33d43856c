"""A sandboxed copy of a configuration can't affect other brokers; and whether a change needs a restart or a reload."""

from itertools import count
from pathlib import PurePath

import pytest

from stockworker.broker.configuration import Bridge, Files, Profile, broker_config
from stockworker.broker.trial import Trial, has_changed, included_folders, needs_restart, option

STAGE = PurePath("/tmp/stage")  # noqa: S108 (nothing is written)
PRODUCTION = broker_config(Profile.PRODUCTION, "8883", Files())


def harmless(text: str, *staged: str) -> list[str]:
    ports = count(40001)
    trial = Trial(STAGE, frozenset(map(PurePath, staged)), STAGE / "scratch", lambda: next(ports))
    return trial.sandboxed(text).splitlines()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("listener 8883", "listener 40001 127.0.0.1"),
        ("listener 8883 10.0.0.1", "listener 40001 127.0.0.1"),
        ("listener 0 /run/mosquitto.sock", "listener 0 /tmp/stage/scratch/40001"),
        ("port 1883", "port 40001"),
        ("bind_address 10.0.0.1", "bind_address 127.0.0.1"),
        ("bind_interface eth0", "bind_interface lo"),
        ("address mq.example.org:8883", "address 127.0.0.1:1"),
        ("addresses one two", "addresses 127.0.0.1:1"),
        ("pid_file /run/mosquitto/mosquitto.pid", "pid_file /tmp/stage/scratch/pid_file"),
        ("persistence_location /var/lib/mosquitto/", "persistence_location /tmp/stage/scratch/persistence_location/"),
        ("log_dest file /var/log/mosquitto/mosquitto.log", "log_dest file /tmp/stage/scratch/log"),
        ("  keyfile   /etc/broker.key", "keyfile /tmp/stage/etc/broker.key"),
        ("include_dir /etc/mosquitto/conf.d/", "include_dir /tmp/stage/etc/mosquitto/conf.d"),
        ("keyfile /etc/another.key", "keyfile /etc/another.key"),
        ("log_dest stdout", "log_dest stdout"),
        ("# listener 8883", "# listener 8883"),
        ("unheard-of 1", "unheard-of 1"),
    ],
)
def test_each_line_that_would_disturb_somebody_is_replaced(line: str, expected: str) -> None:
    assert harmless(line, "/etc/broker.key", "/etc/mosquitto/conf.d") == [expected]


def test_listeners_that_collide_still_do() -> None:
    lines = harmless("listener 8883\nlistener 1883\nlistener  8883\n")
    assert lines == ["listener 40001 127.0.0.1", "listener 40002 127.0.0.1", "listener 40001 127.0.0.1"]


def test_folders_that_are_included_are_found() -> None:
    assert included_folders("a 1\ninclude_dir /etc/x/\n#include_dir /etc/y\n") == [PurePath("/etc/x")]


def test_a_bridge_is_known_by_its_options() -> None:
    text = broker_config(Profile.BRIDGE, "8883", Files(), Bridge(name="paris", central="mq:8883", client_id="paris-1"))
    assert (option(text, "connection"), option(text, "remote_clientid")) == ("paris", "paris-1")
    assert option(PRODUCTION, "connection") is None


@pytest.mark.parametrize(
    ("text", "restart", "changed"),
    [
        (PRODUCTION, False, False),
        (PRODUCTION.replace("# ", "# !"), False, False),
        (PRODUCTION.replace("max_keepalive 120", "max_keepalive 60"), False, True),
        (PRODUCTION.replace("listener 8883", "listener 8884"), True, True),
        (PRODUCTION.replace("tlsv1.2", "tlsv1.3"), True, True),
        (broker_config(Profile.WAN, "8883", Files()), True, True),
        ("", True, True),
    ],
)
def test_a_restart_is_for_listeners_and_tls_alone(text: str, *, restart: bool, changed: bool) -> None:
    assert needs_restart(PRODUCTION, text) == restart
    assert has_changed(PRODUCTION, text) == changed
