"""What becomes of a machine when packages come, change and go."""

from pathlib import Path

import pytest

from tests.harness import site
from tests.harness.guest import Guest
from tests.packages.conftest import NewGuest

OURS = ("stockworker", "stockworker-agent", "stockworker-broker", "stockworker-dispatcher")
CONFIGURATION = "/etc/stockworker/job_processor.yml"

SITE = ["/etc/mosquitto/conf.d/stockworker.conf", "/etc/mosquitto/stockworker"]
"""What the administrator has written."""


def main_pids(guest: Guest) -> dict[str, str]:
    return {service: guest.show(service, "MainPID") for service in site.SERVICES}


def states(guest: Guest) -> set[str]:
    """What dpkg says of each of our packages: `ii` is installed, `rc` is removed but its configuration is there."""
    listed = guest.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}\n", *OURS)
    return {line.strip() for line in listed.splitlines()}


def change(guest: Guest, packages: Path, name: str, *options: str) -> None:
    """Bring the packages to another version, as an unattended upgrade would: nobody answers."""
    guest.run(*site.install_command(site.offer(guest.root, packages, name), *options), timeout_s=300)


def left_over(guest: Guest) -> list[str]:
    """Files and folders that bear our name, but for those in the logs and where the packages were offered."""
    found = guest.run(
        "find", "/etc", "/usr", "/var/lib", "/run", "-xdev", "-name", "*stockworker*", "-not", "-path", "*/dpkg/*"
    )
    return sorted(found.splitlines())


def processes_of(guest: Guest, *users: str) -> list[str]:
    uids = {guest.run("id", "-u", user).strip() for user in users}
    listed = guest.run("find", "/proc", "-maxdepth", "1", "-regex", "/proc/[0-9]+", "-printf", "%U %p\n")
    return [line for line in listed.splitlines() if line.split()[0] in uids]


@pytest.fixture
def running(new_guest: NewGuest, configured: tuple[Path, ...]) -> Guest:
    guest = new_guest(configured)
    site.start(guest)
    return guest


def test_installing_starts_nothing_and_breaks_nothing(
    new_guest: NewGuest, bare: tuple[Path, ...], packages: Path
) -> None:
    guest = new_guest(bare)

    change(guest, packages, "packages")

    assert states(guest) == {"ii"}
    assert guest.run("stockworker", "--version").startswith("stockworker ")
    assert guest.run("systemctl", "list-units", "--no-legend", "--state=active,failed", "stockworker*") == ""
    assert guest.run("systemctl", "--failed", "--no-legend") == ""
    assert guest.show("mosquitto", "User") == "mosquitto"
    assert guest.show("mosquitto", "ActiveState") == "active"
    compiled = guest.run("find", "/usr/share/stockworker-code", "-name", "*.pyc")
    assert len(compiled.splitlines()) == len(list((guest.root / "usr/share/stockworker-code").rglob("*.py")))


def test_an_upgrade_restarts_what_runs_and_nothing_else(running: Guest, packages: Path, newer_packages: Path) -> None:
    running.run("systemctl", "stop", "stockworker@2")
    before = main_pids(running)

    change(running, newer_packages, "newer")

    after = main_pids(running)
    assert states(running) == {"ii"}
    assert running.run("dpkg-query", "-W", "-f", "${Version}", "stockworker-agent") == "99.0.0-0.1"
    assert after["mosquitto"] == before["mosquitto"]
    assert after["stockworker@2"] == "0"
    assert after["stockworker-dispatcher"] not in {"0", before["stockworker-dispatcher"]}
    assert after["stockworker@1"] not in {"0", before["stockworker@1"]}

    change(running, packages, "older", "--allow-downgrades")

    running.run("systemctl", "start", "stockworker@2")
    site.start(running)
    assert site.submit(running, "greet", "back") == "hello, back"


def test_jobs_outlive_an_upgrade(running: Guest, newer_packages: Path) -> None:
    command = ("stockworker", "--config", "/root/operator.yml")
    running.run(*command, "drain", f"{running.name}-1", f"{running.name}-2")
    job = running.run(*command, "submit", "greet", '"later"').strip()

    change(running, newer_packages, "newer")
    site.start(running)
    running.run(*command, "undrain", f"{running.name}-1", f"{running.name}-2")

    running.run(*command, "wait", job, "--timeout", "30s")
    assert running.run(*command, "result", job).strip() == '"hello, later"'


def test_an_upgrade_keeps_an_edited_configuration_and_asks_nothing(running: Guest, newer_packages: Path) -> None:
    edited = (running.root / CONFIGURATION[1:]).read_text() + "# ours\n"
    running.write(CONFIGURATION, edited)

    change(running, newer_packages, "newer")

    assert states(running) == {"ii"}
    assert (running.root / CONFIGURATION[1:]).read_text() == edited
    assert list((running.root / "etc" / "stockworker").glob("*.dpkg-*")) == []


def test_removing_stops_what_runs_and_keeps_what_it_has_done(running: Guest, packages: Path) -> None:
    site.submit(running, "greet", "before")
    store = running.root / "var/lib/stockworker/dispatcher/jobs.sqlite3"

    running.run("apt-get", "remove", "-q", "-y", *OURS, timeout_s=300)

    assert running.run("systemctl", "list-units", "--no-legend", "--state=active,failed", "stockworker*") == ""
    assert processes_of(running, "stockworker", "stockworker-dispatcher") == []
    assert store.exists()
    assert list((running.root / "usr/share").glob("stockworker*")) == []

    change(running, packages, "again")
    assert running.run("systemctl", "is-enabled", *site.WORKERS).split() == ["enabled", "enabled"]
    running.run("systemctl", "start", "multi-user.target")
    site.start(running)
    assert site.submit(running, "greet", "after") == "hello, after"


def test_purging_leaves_what_others_have_made_and_nothing_else(running: Guest) -> None:
    running.write("/var/lib/stockworker/README", "the administrator's")

    running.run("apt-get", "purge", "-q", "-y", *OURS, timeout_s=300)

    assert left_over(running) == [*SITE, "/etc/stockworker", "/var/lib/stockworker"]
    assert running.run("ls", "/var/lib/stockworker").split() == ["README"]
    assert running.run("ls", "/etc/stockworker").split() == ["ca", "instances", "job_processor.d", "tls"]
    assert running.run("ls", "/etc/stockworker/job_processor.d").split() == ["site.yml"]
