"""`stockworker broker setup` on a booted machine with a running Mosquitto."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.harness import site
from tests.harness.advice import follows
from tests.harness.guest import Guest
from tests.harness.package_tools import WITH_APT
from tests.packages.conftest import on

pytestmark = on(*WITH_APT)

CONFIG = "/etc/mosquitto/conf.d/stockworker.conf"
SETUP = ("stockworker", "broker", "setup")
NOTHING = "nothing to do\n"
REFUSED = 78


@pytest.fixture(scope="module")
def machine(configured: tuple[Path, ...], host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A machine on which everything runs; its broker was set up before it booted."""
    with Guest(configured, tmp_path_factory.mktemp("setup") / host, host) as guest:
        site.start(guest)
        yield guest


def broker_files(guest: Guest) -> str:
    """The files of the broker, with their modes, owners and times."""
    return guest.run("find", "/etc/mosquitto", "-type", "f", "-printf", "%p %u:%g %m %T@\n")


def pid(guest: Guest) -> str:
    return guest.show("mosquitto", "MainPID")


def test_only_root_and_mosquitto_can_read_the_broker_files(machine: Guest) -> None:
    ours = [line for line in broker_files(machine).splitlines() if "stockworker" in line]
    assert len(ours) == 6
    assert all(" root:mosquitto 640 " in line for line in ours), ours


def test_a_second_run_changes_nothing(machine: Guest) -> None:
    before = broker_files(machine), pid(machine)
    assert machine.run(*SETUP).startswith(NOTHING)
    assert (broker_files(machine), pid(machine)) == before


def test_a_new_client_needs_no_restart(machine: Guest) -> None:
    before = pid(machine)
    machine.run("stockworker", "pki", "issue", "client", "desk-1")
    said = machine.run(*SETUP)
    assert "wrote /etc/mosquitto/stockworker/acl" in said
    assert "reloaded mosquitto" in said
    assert pid(machine) == before
    assert site.submit(machine, "greet", "reloaded") == "hello, reloaded"


def test_other_listeners_need_a_restart_and_workers_come_back(machine: Guest) -> None:
    before = pid(machine)
    assert "restarted mosquitto" in machine.run(*SETUP, "--profile", "wan")
    assert pid(machine) != before
    site.start(machine)
    assert site.submit(machine, "greet", "restarted") == "hello, restarted"
    assert machine.run(*SETUP).startswith(NOTHING)


def test_an_edited_file_is_kept(machine: Guest) -> None:
    file = machine.root / CONFIG[1:]
    made = file.read_text()
    edited = made + "# by hand\n"
    file.write_text(edited)
    before = pid(machine)

    refused = machine.try_run(*SETUP)

    assert refused.returncode == REFUSED
    assert f"{CONFIG}: was edited by hand" in refused.stdout
    assert (file.read_text(), pid(machine)) == (edited, before)

    assert f"kept {CONFIG}.edited-" in machine.run(*SETUP, "--force")
    assert file.read_text() == made
    assert pid(machine) == before, "a changed comment needs no restart"


def test_an_invalid_configuration_never_reaches_the_running_broker(machine: Guest) -> None:
    machine.write("/etc/mosquitto/conf.d/old.conf", "keepalive 60\n")
    before = broker_files(machine), pid(machine)
    try:
        refused = machine.try_run(*SETUP, "--profile", "production")
    finally:
        machine.run("rm", "/etc/mosquitto/conf.d/old.conf")
    assert refused.returncode == REFUSED
    assert "/etc/mosquitto/conf.d/old.conf:1" in refused.stdout
    assert pid(machine) == before[1]
    assert broker_files(machine) == "".join(
        line for line in before[0].splitlines(keepends=True) if "old.conf" not in line
    )
    assert site.submit(machine, "greet", "untouched") == "hello, untouched"


def test_a_failed_restart_is_undone(machine: Guest) -> None:
    machine.run("systemd-run", "--unit=squatter", "python3", "-m", "http.server", "8884")
    machine.wait_until(partial(site.is_listening, machine, 8884), "the port is taken")
    before = (machine.root / CONFIG[1:]).read_text()

    refused = machine.try_run(*SETUP, "--profile", "wan", "--port", "8884")

    assert refused.returncode == REFUSED
    assert "'systemctl restart mosquitto' has failed" in refused.stdout
    assert "all files were restored" in refused.stdout
    assert (machine.root / CONFIG[1:]).read_text() == before
    machine.wait_until(partial(site.is_active, machine, "mosquitto"), "Mosquitto runs again")
    site.start(machine)
    assert site.submit(machine, "greet", "back") == "hello, back"


def test_mosquitto_may_write_where_its_configuration_says(machine: Guest) -> None:
    main = machine.root / "etc/mosquitto/mosquitto.conf"
    ours = main.read_text()
    main.write_text(ours.replace("/var/lib/mosquitto/", "/srv/mosq/"))
    machine.run("install", "-d", "-o", "mosquitto", "-g", "mosquitto", "/srv/mosq")
    try:
        assert "restarted mosquitto: it enters its sandbox" in machine.run(*SETUP)
        machine.run("systemctl", "kill", "--signal=USR1", "mosquitto")  # save
        machine.wait_until((machine.root / "srv/mosq/mosquitto.db").exists, "the data are saved")
    finally:
        main.write_text(ours)
        machine.run(*SETUP)
    site.start(machine)


def test_a_broker_that_hangs_is_restarted(machine: Guest) -> None:
    # Mosquitto wants the timer, and systemctl does not wait for what a unit wants.
    machine.wait_until(partial(site.is_active, machine, "stockworker-broker-check.timer"), "the timer runs")
    assert machine.show("mosquitto", "StartLimitIntervalUSec") == "0"
    before = pid(machine)
    machine.run("systemctl", "start", "stockworker-broker-check")
    assert pid(machine) == before
    machine.run("systemctl", "stop", "stockworker-broker-check.timer")  # one check at a time
    machine.run("systemctl", "kill", "--signal=STOP", "mosquitto")
    machine.run("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8883")  # the connection waits, even when its client has left

    assert machine.try_run("systemctl", "start", "stockworker-broker-check").returncode != 0

    assert "Mosquitto hangs" in machine.journal("stockworker-broker-check")
    machine.wait_until(lambda: pid(machine) not in {"0", before}, "Mosquitto was restarted")
    machine.wait_until(partial(site.is_active, machine, "stockworker-broker-check.timer"), "the timer runs again")
    site.start(machine)
    assert site.submit(machine, "greet", "healed") == "hello, healed"


def test_mosquitto_is_given_back(machine: Guest) -> None:
    before = pid(machine)
    removed = machine.run(*SETUP, "--remove")
    assert "restarted mosquitto: it has the distribution's configuration again, without a sandbox" in removed
    assert pid(machine) != before
    assert machine.show("mosquitto", "DropInPaths") == ""
    assert not site.is_listening(machine, 8883)
    machine.wait_until(lambda: not site.is_active(machine, "stockworker-broker-check.timer"), "its check ends")

    machine.run(*SETUP, "--host", "localhost")
    site.start(machine)
    assert site.submit(machine, "greet", "set up again") == "hello, set up again"


@follows("next: systemctl enable --now …")
def test_a_broker_that_is_stopped_is_started_as_advised(machine: Guest) -> None:
    machine.run("systemctl", "disable", "--now", "mosquitto")
    (command,) = re.findall(r"next: (systemctl enable --now \S+)", machine.run(*SETUP))
    machine.run(*command.split())
    site.start(machine)
    assert "next: systemctl" not in machine.run(*SETUP)
