"""Each shipped configuration in a real Mosquitto: it starts, logs no warning, and a job passes."""

from pathlib import Path

import pytest

from stockworker.broker.configuration import Bridge, Files, Profile, broker_config
from stockworker.cli import main
from stockworker.terminal.exits import Exit
from tests.harness.broker import Broker, BrokerFailed
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.jobs import run_job
from tests.harness.tools import publish
from tests.harness.waiting import wait_until

# Lines from old guides, and the errors of Mosquitto 2.0.11 to 2.1 about them. docs/mosquitto.md has their replacements.
REFUSED = {
    "keepalive_interval 60": ("Invalid bridge configuration", "requires a bridge"),
    "cleansession true": ("Invalid bridge configuration", "requires a bridge"),
    "bridge_tls_version tlsv1.2": ("Invalid bridge configuration", "requires a bridge"),
    "keepalive 60": ("Unknown configuration variable",),
    "tcp_keepalive true": ("Unknown configuration variable",),
    "connection_timeout 30": ("Unknown configuration variable",),
    "session_expiry_interval 86400": ("Unknown configuration variable",),
    "reconnect_delay 1": ("Unknown configuration variable",),
    "store_clean_interval 10": ("Unknown configuration variable",),
    "max_keepalive 70000": ("Invalid max_keepalive", "Invalid 'max_keepalive'"),
    "persistence_location /var/lib/mosquitto/": ("Duplicate",),
}
# They are taken, with a word of warning, and do nothing or will not do for long.
IGNORED = {
    "retry_interval 20": "no longer available",
    "allow_duplicate_messages true": "deprecated",
    "bind_address 127.0.0.1": "deprecated",
}


@pytest.mark.parametrize("profile", Profile)
def test_a_job_passes_through(tmp_path: Path, profile: Profile) -> None:
    with Fleet(tmp_path, workers=1, settings={"handlers": python_handlers("echo")}, profile=profile) as fleet:
        ended, _ = run_job(fleet, "echo", {"through": profile})
        assert f'{{"through":"{profile}"}}' in (ended.result or ""), ended
        for broker in {fleet.broker, fleet.site}:
            assert warnings(broker) == []


def option(line: str) -> dict[str, str | None]:
    name, _, value = line.partition(" ")
    return {name: value}


def warnings(broker: Broker) -> list[str]:
    """What the broker complained about when it started."""
    start, running, _ = broker.log.partition(" running\n")
    assert running
    # The harness, not the configuration, may run it as root. The access control list explains its pattern without %u.
    expected = ("should not be run as root", "ACL pattern 'system/dispatcher' does not contain")
    lines = [line for line in start.splitlines() if "Warning" in line or "Error" in line]
    return [line for line in lines if not any(each in line for each in expected)]


def test_what_a_site_says_while_it_is_cut_off_arrives_later(tmp_path: Path) -> None:
    """Also a bare submission, which is not repeated; the site's own worker runs it."""
    with Fleet(tmp_path, workers=1, settings={"handlers": python_handlers("echo")}, profile=Profile.BRIDGE) as fleet:
        run_job(fleet, "echo")
        fleet.broker.stop()
        publish(fleet.site, "client", "jobs/queue/normal/echo", "1", "-D", "publish", "user-property", "id", "cut-off")
        fleet.broker.start()
        done = "SELECT id FROM job WHERE id = 'cut-off' AND state = 'completed'"
        wait_until(lambda: fleet.stored(done), "the job that was submitted while the link was down is done", 60)
        assert fleet.stored("SELECT outcome FROM attempt WHERE job_id = 'cut-off'") == [("ok",)]


@pytest.mark.parametrize("line", REFUSED)
def test_mosquitto_refuses_what_old_guides_give(tmp_path: Path, line: str) -> None:
    with pytest.raises(BrokerFailed) as failed, Broker(tmp_path, changes=option(line)):
        pass
    assert any(said in str(failed.value) for said in REFUSED[line])


@pytest.mark.parametrize("line", IGNORED)
def test_mosquitto_warns_of_what_it_ignores(tmp_path: Path, line: str) -> None:
    with Broker(tmp_path, changes=option(line)) as broker:
        wait_until(lambda: IGNORED[line] in broker.log, "the broker logs that it ignores the line")


@pytest.mark.parametrize("line", [*REFUSED, *IGNORED])
def test_what_mosquitto_does_not_take_is_explained(line: str) -> None:
    assert f"`{line.partition(' ')[0]}`" in Path("docs/mosquitto.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("profile", Profile)
def test_every_line_has_a_reason(profile: Profile) -> None:
    """Each group of options follows a comment."""
    text = Path(f"etc/mosquitto/{profile}.conf").read_text(encoding="utf-8")
    for block in text.split("\n\n"):
        assert block.startswith("#"), block


def test_what_the_command_prints_is_what_mosquitto_gets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["broker", "config", "--profile", "wan", "--address", "::1"]) == Exit.OK
    assert capsys.readouterr().out == broker_config(Profile.WAN, "8883 ::1", Files())


def test_the_bridge_of_each_site_has_an_id_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["broker", "config", "--profile", "bridge", "--name", "paris", "--central", "mq.example.org"]
    printed = []
    for _ in range(2):
        assert main(asked) == Exit.OK
        printed.append(capsys.readouterr().out)
    assert printed[0] != printed[1]
    assert "\nconnection paris\naddress mq.example.org:8883\n" in printed[0]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--profile", "bridge"],
        ["--central", "mq.example.org"],
        ["--profile", "development", "--address", "0.0.0.0"],  # noqa: S104 (what must not be)
        ["--key-file", "/a\nallow_anonymous true"],
    ],
)
def test_what_can_not_be_meant_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["broker", "config", *wrong]) == Exit.USAGE
    assert capsys.readouterr().out == ""


def test_nothing_can_be_smuggled_into_the_configuration() -> None:
    for name, central in (("a\nuser root", "mq"), ("a", "mq\nallow_anonymous true"), ("a", "")):
        with pytest.raises(ValueError, match="not a valid"):
            broker_config(Profile.BRIDGE, "8883", Files(), Bridge(name=name, central=central, client_id="x"))
