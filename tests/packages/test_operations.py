"""The commands of docs/operations.md and docs/tutorial.md, run unchanged on a machine that has just booted."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.harness import operations_guide
from tests.harness.guest import Guest
from tests.harness.package_tools import WITH_APT
from tests.packages.conftest import NewGuest, on

pytestmark = on(*WITH_APT)

COMMAND = ("stockworker",)
PACKAGES, NEWER = "/opt/packages", "/opt/newer"
UNKNOWN_JOB = 3


class Reader:
    """Runs the commands of a page on a machine."""

    def __init__(self, guest: Guest, page: Path = operations_guide.PAGE) -> None:
        self.followed: set[str] = set()
        self._guest, self._page = guest, page

    def follow(self, section: str, *, folder: str = "/root", part: slice = slice(None)) -> str:
        """Run the commands of a section unchanged; return their output."""
        self.followed.add(section)
        blocks = operations_guide.commands(section, self._page)[part]
        assert blocks, section
        return "".join(self._guest.run("bash", "-euc", f"cd {folder}\n{block}", timeout_s=300) for block in blocks)


def bring(guest: Guest, packages: Path, folder: str) -> None:
    """Copy the packages into a folder, without installing them."""
    target = guest.root / folder[1:]
    target.mkdir()
    for file in packages.glob("*.deb"):
        shutil.copy(file, target)


def worker(guest: Guest) -> dict[str, object]:
    """The dispatcher's view of the only worker."""
    (found,) = json.loads(guest.run(*COMMAND, "stats", "--json"))["workers"]
    return dict(found)


def version(guest: Guest) -> str:
    return guest.run("dpkg-query", "-W", "-f", "${Version}", "stockworker-dispatcher")


def submit(guest: Guest, name: str) -> str:
    """Run a job with a given ID; return its result."""
    bars = [{"date": "2026-01-05", "open": 1, "high": 1, "low": 1, "close": 1, "volume": 1}]
    payload = json.dumps({"symbol": "ACME", "bars": bars, "indicators": [{"name": "sma", "period": 1}]})
    return guest.run(*COMMAND, "submit", "technical_analysis", payload, "--id", name, "--wait-timeout", "60s")


def is_online(guest: Guest) -> bool:
    done = guest.try_run(*COMMAND, "stats", "--json")
    return done.returncode == 0 and any(each["online"] for each in json.loads(done.stdout)["workers"])


@pytest.mark.timeout(600)
def test_the_commands_of_the_page_work(
    new_guest: NewGuest, bare: tuple[Path, ...], packages: Path, newer_packages: Path
) -> None:
    guest = new_guest(bare)
    bring(guest, packages, PACKAGES)
    bring(guest, newer_packages, NEWER)
    reader = Reader(guest)
    start(guest, reader)
    follow_tutorial(guest)

    reader.follow("Drain", part=slice(1))
    guest.wait_until(lambda: worker(guest)["leases"] == 0, "the worker is empty")
    reader.follow("Drain", part=slice(1, None))
    guest.wait_until(partial(is_online, guest), "the worker is back")
    submit(guest, "before")

    former = version(guest)
    upgraded = reader.follow("Upgrade", folder=NEWER)
    assert version(guest).startswith("99.0.0")
    assert "FAIL" not in upgraded
    reader.follow("Roll back", folder=PACKAGES)
    assert version(guest) == former

    reader.follow("Back up")
    submit(guest, "since")
    reader.follow("Restore")
    reader.follow("Restore")
    assert guest.run("sh", "-c", "ls /var/backups/stockworker-replaced-*").splitlines().count("jobs.sqlite3") == 2
    guest.wait_until(partial(is_online, guest), "the dispatcher and the worker are back")
    assert "completed" in guest.run(*COMMAND, "status", "before")
    assert guest.try_run(*COMMAND, "status", "since").returncode == UNKNOWN_JOB
    submit(guest, "since")

    pids = [guest.show(unit, "MainPID") for unit in ("mosquitto", "stockworker-dispatcher", "stockworker@1")]
    serials = certificates(guest)
    assert "reloaded mosquitto" in reader.follow("Renew certificates")
    assert not serials & certificates(guest), "each has a successor"
    submit(guest, "renewed")
    assert pids == [guest.show(unit, "MainPID") for unit in ("mosquitto", "stockworker-dispatcher", "stockworker@1")]

    diagnose(guest)
    looked = reader.follow("When something is wrong")
    assert "FAIL" not in looked
    assert "Active: active (running)" in looked
    assert reader.followed == {section for section in operations_guide.sections() if operations_guide.commands(section)}


def diagnose(guest: Guest) -> None:
    """`stockworker doctor` finds each part of the machine, and names the command that starts a stopped one."""
    guest.run("bash", "-euc", f"apt-get install -y {PACKAGES}/stockworker-doctor_*.deb", timeout_s=300)
    found = diagnosed(guest)
    assert {"host", "broker", "dispatcher", "worker 1"} <= {str(each["part"]) for each in found}
    assert [each for each in found if each["severity"] == "fail"] == []
    guest.run("systemctl", "stop", "stockworker-dispatcher")
    (stopped,) = (each for each in diagnosed(guest) if (each["part"], each["check"]) == ("dispatcher", "unit"))
    (command,) = stopped["next"]
    guest.run("bash", "-euc", command)
    guest.wait_until(partial(is_online, guest), "the dispatcher and the worker are back")


def diagnosed(guest: Guest) -> list[dict[str, Any]]:
    """The findings of `stockworker doctor`."""
    lines = guest.try_run(*COMMAND, "doctor", "--json").stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def start(guest: Guest, reader: Reader) -> None:
    """From packages to a first worker, as the page prints it."""
    reader.follow("Install", folder=PACKAGES)
    started = reader.follow("First worker in five minutes")
    assert "restarted mosquitto" in started
    assert "FAIL" not in started
    assert '"sma_2":[{"day":"2026-01-06","value":12.0}]' in started
    assert guest.run("stockworker", "broker", "setup").startswith("nothing to do\n")


def follow_tutorial(guest: Guest) -> None:
    """From the first worker to a handler of its own, as the tutorial prints it."""
    reader = Reader(guest, operations_guide.TUTORIAL)
    assert "online" in reader.follow("1. Install")
    assert "FAIL" not in reader.follow("2. Write a handler")
    ran = reader.follow("3. Run a job")
    assert '{"words":6,"longest":"not"}' in ran
    assert ran.count("6 words") == 1, "in the systemd journal"
    failed = reader.follow("4. Let it fail")
    assert "exit status 1" in failed
    assert failed.count("ValueError: max()") >= 2
    corrected = reader.follow("5. Correct it")
    assert '{"words":0,"longest":""}' in corrected
    assert "payload.text is missing" in corrected
    reader.follow("6. Test it")
    assert reader.follow("7. Submit from Python").splitlines() == [
        "to be or not to be has 6 words",
        "that is the question has 4 words",
    ]
    assert reader.followed == {*operations_guide.sections(operations_guide.TUTORIAL)} - {"What next"}


def certificates(guest: Guest) -> set[str]:
    """The installed certificates that the page renews."""
    files = ("tls/dispatcher.crt", f"tls/{guest.name}-1.crt")
    found = {(guest.root / "etc" / "stockworker" / file).read_text() for file in files}
    return {*found, (guest.root / "etc/mosquitto/stockworker/broker.crt").read_text()}
