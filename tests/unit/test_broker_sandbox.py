"""The sandbox of Mosquitto's service: what an existing configuration needs, and what it can't have."""

from pathlib import PurePath

import pytest

from stockworker.broker.host import File
from stockworker.broker.sandbox import folders_to_write, sandbox
from stockworker.errors import ConfigError

MAIN = PurePath("/etc/mosquitto/mosquitto.conf")


def folders(text: str) -> tuple[str, ...]:
    return tuple(map(str, folders_to_write([File(MAIN, text.encode())])))


def test_the_distribution_needs_no_more_folders() -> None:
    text = "pid_file /run/mosquitto/mosquitto.pid\npersistence_location /var/lib/mosquitto/\n"
    assert folders(text + "log_dest file /var/log/mosquitto/mosquitto.log\nlistener 8883\ncafile /etc/ca.crt\n") == ()


@pytest.mark.parametrize(
    "line",
    [
        "persistence_location /srv/mosq/",
        "log_dest file /srv/mosq/m.log",
        "pid_file /srv/mosq/m.pid",
        "listener 0 /srv/mosq/socket",
    ],
)
def test_mosquitto_may_write_where_its_configuration_says(line: str) -> None:
    assert folders(f"{line}\n# {line}2\n") == ("/srv/mosq",)


def test_the_drop_in_has_the_folders() -> None:
    rules = "[Service]\nProtectSystem=strict\n"
    assert sandbox(rules, ()) == rules
    assert sandbox(rules, [PurePath("/srv/mosq")]).endswith("\nReadWritePaths=/srv/mosq\n")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("listener 443", "can't use ports below 1024"),
        ("port 80", "can't use ports below 1024"),
        ("keyfile /root/mq.key", "hides this folder"),
        ("persistence_location /home/mosq/", "hides this folder"),
        ("log_dest file /tmp/m.log", "hides this folder"),
    ],
)
def test_what_cannot_work_in_the_sandbox_is_refused(line: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        folders(f"persistence true\n{line}\n")
    assert str(refused.value).startswith(f"{MAIN}: {line}: ")
    assert reason in str(refused.value)
