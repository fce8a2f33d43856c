"""Installing, upgrading and removing packages on a booted machine."""

import json
from pathlib import Path

import pytest

from tests.harness import site
from tests.harness.guest import Guest
from tests.harness.package_tools import OURS, WITH_APT, WITH_DNF, System
from tests.packages.conftest import NewGuest, on

everywhere = on(*WITH_APT, *WITH_DNF)

CONFIGURATION = "/etc/stockworker/job_processor.yml"
CODE = "/usr/share/stockworker-code"
CORE, LIBRARIES = "stockworker", "stockworker-libraries"

PATHS = ("stockworker@1.path", "stockworker-dispatcher.path")
JOIN = "stockworker-join.service"
OWN = ("/etc/stockworker", "/usr/bin/stockworker", "/usr/share/stockworker-code", "/usr/share/stockworker-broker")
OPERATOR = ("stockworker", "--config", "/root/operator.yml")
SLOTS = 10
"""The number of jobs that the two workers run together."""

SITE = ["/etc/mosquitto/conf.d/stockworker.conf", "/etc/mosquitto/stockworker"]
DROP_IN = "/etc/systemd/system/mosquitto.service.d/stockworker.conf"
"""The files that the administrator has written, by `stockworker broker setup`."""


def main_pids(guest: Guest) -> dict[str, str]:
    return {service: guest.show(service, "MainPID") for service in (*site.SERVICES, JOIN)}


def left_over(guest: Guest) -> list[str]:
    """Files and folders with the name of the product, except logs and the offered packages."""
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
    guest.run("systemctl", "enable", "-q", "--now", *PATHS, JOIN)
    return guest


@everywhere
def test_installing_starts_no_service(
    new_guest: NewGuest, bare: tuple[Path, ...], system: System, packages: Path
) -> None:
    guest = new_guest(bare)
    broker = guest.show("mosquitto", "MainPID")
    assert broker != "0"

    system.tool.install(guest, packages)

    assert system.tool.versions(guest) == {"installed 0.1.0-0.1"}
    assert system.tool.altered(guest) == []
    assert guest.run("stockworker", "--version").startswith("stockworker ")
    assert guest.run("systemctl", "list-units", "--no-legend", "--state=active,failed", "stockworker*") == ""
    assert guest.run("systemctl", "--failed", "--no-legend") == ""
    assert guest.show("mosquitto", "MainPID") == broker, "it may serve others"
    assert guest.show("mosquitto", "DropInPaths") == ""
    compiled = guest.run("find", "/usr/share/stockworker-code", "-name", "*.pyc")
    assert len(compiled.splitlines()) == len(list((guest.root / "usr/share/stockworker-code").rglob("*.py")))
    assert guest.run("find", *OWN, "(", "-not", "-user", "root", "-o", "-perm", "/022", ")") == ""
    for user in ("stockworker", "stockworker-dispatcher"):
        _, _, uid, gid, _, _, shell = guest.run("getent", "passwd", user).strip().split(":")
        assert 0 < int(uid) == int(gid) < 1000
        assert shell == "/usr/sbin/nologin"


@everywhere
def test_an_upgrade_restarts_running_services_only(
    running: Guest, system: System, packages: Path, newer_packages: Path
) -> None:
    running.run("systemctl", "stop", "stockworker@2")
    before = main_pids(running)

    system.tool.install(running, newer_packages)

    after = main_pids(running)
    assert system.tool.versions(running) == {"installed 99.0.0-0.1"}
    assert running.run("systemctl", "is-enabled", *PATHS, *site.SERVICES, JOIN).split() == ["enabled"] * 7
    assert after["mosquitto"] == before["mosquitto"]
    assert after["stockworker@2"] == "0"
    for service in ("stockworker-dispatcher", "stockworker@1", JOIN):
        assert after[service] not in {"0", before[service]}, service

    system.tool.downgrade(running, packages)

    assert system.tool.versions(running) == {"installed 0.1.0-0.1"}
    running.run("systemctl", "start", "stockworker@2")
    site.start(running)
    assert site.submit(running, "greet", "back") == "hello, back"


@everywhere
def test_jobs_survive_an_upgrade(running: Guest, system: System, newer_packages: Path) -> None:
    ids = [f"job-{number}" for number in range(SLOTS + 3)]
    running.write("/root/jobs", "".join(json.dumps({"id": job, "payload": job}) + "\n" for job in ids))
    running.run(*OPERATOR, "submit", "hold", "--batch", "/root/jobs")
    running.wait_until(
        lambda: len(running.run(*OPERATOR, "list", "--state", "running", "--json").splitlines()) == SLOTS,
        "all workers are busy",
    )

    system.tool.install(running, newer_packages)
    running.write("/opt/jobs/go-on", "")

    said = running.run(*OPERATOR, "wait", "--json", "--timeout", "50s", *ids)
    ended = [json.loads(line) for line in said.splitlines()]
    assert {(job["id"], job["state"], job["result"]) for job in ended} == {(job, "completed", job) for job in ids}


@everywhere
def test_an_upgrade_keeps_an_edited_configuration_without_prompts(
    running: Guest, system: System, newer_packages: Path
) -> None:
    edited = (running.root / CONFIGURATION[1:]).read_text() + "# edited\n"
    running.write(CONFIGURATION, edited)

    system.tool.install(running, newer_packages)

    assert system.tool.versions(running) == {"installed 99.0.0-0.1"}
    assert system.tool.altered(running) == [CONFIGURATION]
    assert (running.root / CONFIGURATION[1:]).read_text() == edited
    assert list((running.root / "etc" / "stockworker").glob("*.*-*")) == []


@everywhere
def test_removing_stops_services_and_keeps_their_data(running: Guest, system: System, packages: Path) -> None:
    site.submit(running, "greet", "before")
    store = running.root / "var/lib/stockworker/dispatcher/jobs.sqlite3"

    system.tool.remove(running)

    assert running.run("systemctl", "list-units", "--no-legend", "--state=active,failed", "stockworker*") == ""
    assert processes_of(running, "stockworker", "stockworker-dispatcher") == []
    assert store.exists()
    assert list((running.root / "usr/share").glob("stockworker*")) == []

    system.tool.install(running, packages)
    enabled = running.try_run("systemctl", "is-enabled", *site.WORKERS).stdout.split()
    assert enabled == [system.tool.enablement_after_removal] * 2
    running.run("systemctl", "enable", "stockworker-dispatcher", *site.WORKERS)
    running.run("systemctl", "start", "multi-user.target")
    site.start(running)
    assert site.submit(running, "greet", "after") == "hello, after"


@on(*WITH_APT)
def test_purging_leaves_only_files_of_others(running: Guest) -> None:
    running.write("/var/lib/stockworker/README", "the administrator's")

    running.run("apt-get", "purge", "-q", "-y", *OURS, timeout_s=300)

    assert left_over(running) == [*SITE, "/etc/stockworker", DROP_IN, "/var/lib/stockworker"]
    assert running.run("ls", "/var/lib/stockworker").split() == ["README"]
    assert running.run("ls", "/etc/stockworker").split() == ["ca", "instances", "job_processor.d", "tls"]
    assert running.run("ls", "/etc/stockworker/job_processor.d").split() == ["site.yml"]


@on(*WITH_DNF)
def test_rpm_leaves_only_configuration_and_state(running: Guest, system: System) -> None:
    running.write(CONFIGURATION, (running.root / CONFIGURATION[1:]).read_text() + "# edited\n")
    running.write("/usr/share/stockworker-code/stockworker/former/__pycache__/module.cpython-311.pyc", "")

    system.tool.remove(running)

    assert left_over(running) == [*SITE, "/etc/stockworker", DROP_IN, "/var/lib/stockworker"]
    assert running.run("ls", "/var/lib/stockworker").split() == ["1", "2", "dispatcher", "market"]
    assert running.run("ls", "/etc/stockworker").split() == [
        "ca",
        "instances",
        "job_processor.d",
        "job_processor.yml.rpmsave",
        "tls",
    ]


@everywhere
def test_the_packages_that_share_a_folder_go_one_by_one(
    new_guest: NewGuest, bare: tuple[Path, ...], system: System, packages: Path
) -> None:
    guest = new_guest(bare)
    code = guest.root / CODE[1:]
    for first, second in ((CORE, LIBRARIES), (LIBRARIES, CORE)):
        system.tool.install(guest, packages)
        guest.run(*system.tool.remove_command, *(name for name in OURS if name not in {first, second}), timeout_s=300)

        guest.run(*system.tool.force_remove_command, first)

        left = {folder.name for folder in code.iterdir()}
        assert ("stockworker" in left) == (first != CORE)
        assert ("gmqtt" in left) == (first != LIBRARIES)
        assert {file.parent.parent for file in code.rglob("*.pyc")} == {file.parent for file in code.rglob("*.py")}

        guest.run(*system.tool.force_remove_command, second)

        assert not code.exists()
