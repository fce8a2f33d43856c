"""What a test sees of a fleet: its jobs, versions, services, keys and certificates."""

import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.harness.booted_machine import BootedMachine
from tests.harness.lab import WORKERS, Lab

PAYLOAD = {
    "symbol": "ACME",
    "indicators": [{"name": "sma", "period": 1}],
    "bars": [{"date": "2026-01-05", "open": 3, "high": 3, "low": 3, "close": 3, "volume": 1}],
}


def content(machine: BootedMachine) -> str:
    """The files that administrators and packages put onto the machine, with their times, its packages and units.

    Without the check of the broker: a timer starts it at any time.
    """
    files = "find /etc /usr /opt /srv /root -xdev -type f -printf '%p %s %T@\\n' | sort"
    units = "systemctl list-units --plain --no-legend 'stockworker*' | awk '!/^stockworker-broker-check/ {print $1, $2, $3}'"
    return machine.run("sh", "-c", f"{files}; dpkg-query -W; {units}")


def contents(lab: Lab) -> dict[str, str]:
    """The `content` of all machines."""
    with ThreadPoolExecutor() as threads:
        return dict(zip(lab.machines, threads.map(content, lab.machines.values()), strict=True))


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What the `contents` of a fleet have lost and got, with the name of the machine in front."""
    lines = {
        (name, line, sign)
        for name in before
        for own, other, sign in ((before, after, "-"), (after, before, "+"))
        for line in set(own[name].splitlines()) - set(other[name].splitlines())
    }
    return [f"{name} {sign} {line}" for name, line, sign in sorted(lines)]


def reaches(lab: Lab, source: str, place: str, port: int) -> bool:
    """Whether a program with the address `source` can connect to a machine."""
    connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5, (sys.argv[3], 0))"
    command = lab.network.command("python3", "-c", connect, place, str(port), source)
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def run_on(lab: Lab, worker: str) -> None:
    """Complete a job on one worker: its ID is a tag that only it has."""
    submit = ("stockworker", "submit", "technical_analysis", json.dumps(PAYLOAD), "--tag", f"{worker}-1", "--quiet")
    assert '"value":3.0' in lab.machines["desk"].run(*submit, "--wait-timeout", "120s")


def version(machine: BootedMachine) -> str:
    return machine.run("dpkg-query", "-W", "-f", "${Version}", "stockworker").partition("-")[0]


def versions(lab: Lab) -> dict[str, str]:
    return {name: version(lab.machines[name]) for name in WORKERS}


def drained(lab: Lab) -> list[str]:
    return [worker["worker_id"] for worker in _workers(lab) if worker["drained"]]


def online(lab: Lab) -> list[str]:
    """The workers that the dispatcher sees online."""
    return [worker["worker_id"] for worker in _workers(lab) if worker["online"]]


def check_effect(lab: Lab, playbook: str, output: str) -> None:
    """Check what a playbook was for, with the arguments that docs/fleet.md shows."""
    hub, backups = lab.machines["hub"], "ls /var/backups/stockworker/jobs-*.sqlite3"
    checks: dict[str, Callable[[], object]] = {
        "status": lambda: all(f"{worker}-1" in output for worker in WORKERS),
        "rollout": lambda: {version(machine) for machine in lab.machines.values()} == {"0.2.0"},
        "rollback": lambda: {version(lab.machines[name]) for name in ("hub", *WORKERS)} == {"0.1.0"},
        "drain": lambda: drained(lab) == ["edge-2-1"],
        "undrain": lambda: drained(lab) == [],
        "revoke": lambda: online(lab) == ["edge-1-1", "edge-3-1"],
        "readmit": lambda: online(lab) == list(map("{}-1".format, WORKERS)),
        "remove_machine": lambda: online(lab) == ["edge-1-1", "edge-2-1"],
        "backup": lambda: hub.try_run("sh", "-c", backups).returncode == 0,
    }
    if playbook in checks:
        hub.wait_until(checks[playbook], f"the effect of {playbook}")


def _workers(lab: Lab) -> list[dict[str, Any]]:
    return list(json.loads(lab.machines["desk"].run("stockworker", "stats", "--json"))["workers"])


def process_ids(lab: Lab) -> list[str]:
    units = {"hub": ("mosquitto", "stockworker-dispatcher"), **dict.fromkeys(WORKERS, ("stockworker@1",))}
    return [lab.machines[name].show(unit, "MainPID") for name, found in units.items() for unit in found]


def certificates(lab: Lab) -> set[str]:
    """All certificates in use."""
    return _files(lab, "crt") - {(lab.machines["desk"].root / "etc/stockworker/ca/ca.crt").read_text()}


def keys(lab: Lab) -> set[str]:
    """All private keys in use."""
    return _files(lab, "key")


def _files(lab: Lab, suffix: str) -> set[str]:
    folders = ("etc/stockworker/tls", "etc/mosquitto/stockworker")
    machines = lab.machines.values()
    files = (file for machine in machines for folder in folders for file in (machine.root / folder).glob(f"*.{suffix}"))
    return {file.read_text() for file in files}
