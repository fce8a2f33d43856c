"""What the units ask of the kernel, on a kernel that can do all of it: a container has no controllers of cgroups."""

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.harness import site
from tests.harness.guest import Overlay
from tests.harness.package_tools import WITH_APT, System
from tests.harness.virtual_machine import VirtualMachine
from tests.packages.conftest import exposure, on

pytestmark = on(*WITH_APT)

WORKER = "stockworker@1.service"
UNITS = ("mosquitto.service", "stockworker-dispatcher.service", WORKER)
ALLOWED, DENIED = "192.0.2.1", "198.51.100.1"
"""Addresses of the machine itself: one that the example of a drop-in allows, and one that it does not."""

MARKET = "/var/lib/stockworker/market"

_CALL = """
import json, socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
    try:
        out.sendto(b"hello", (json.load(sys.stdin), 9))
        answer = "sent"
    except OSError as error:
        answer = type(error).__name__
print(json.dumps(answer))
"""
"""A datagram, because it tells: a connection that is denied is tried again until it times out."""

_LINGER = f"""
import os, time
open("{MARKET}/lingers", "w").close()
while not os.path.exists("{MARKET}/go"):
    time.sleep(0.1)
print('"still here"')
"""
_EAT = """
eaten = bytearray()
while True:
    eaten += b"x" * 2**20
"""
_JOBS = {"call": _CALL, "eat": _EAT, "linger": _LINGER}


@pytest.fixture(scope="module")
def machine(
    system: System, configured: tuple[Path, ...], host: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VirtualMachine]:
    """A machine whose worker may talk to few, and take little memory."""
    folder = tmp_path_factory.mktemp("limits")
    with Overlay(configured, folder / "image") as image:
        prepare(image)
    with VirtualMachine(system.release, (image.upper, *configured), folder / "machine", host) as machine:
        for service in UNITS:
            machine.wait_until(partial(site.is_active, machine, service), f"{service} is active")
        machine.wait_until(lambda: site.online(machine) == 1, "the dispatcher knows the worker")
        for address in (ALLOWED, DENIED):
            machine.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        yield machine


def prepare(image: Overlay) -> None:
    """Set limits, and install jobs that try them."""
    systemd = image.root / "etc/systemd/system"
    example = image.root / "usr/share/doc/stockworker-agent/examples/network.conf"
    for unit in UNITS:
        folder = systemd / f"{unit}.d"
        folder.mkdir(exist_ok=True)
        (folder / "network.conf").write_text(example.read_text())
    (systemd / f"{WORKER}.d" / "memory.conf").write_text("[Service]\nMemoryMax=256M\n")
    for name, text in _JOBS.items():
        (image.root / "opt/jobs" / f"{name}.py").write_text(text)
    handlers = {name: {"command": ["python3", "-I", f"/opt/jobs/{name}.py"]} for name in _JOBS}
    settings = yaml.safe_dump({"job_processor": {"handlers": handlers}})
    (image.root / "etc/stockworker/job_processor.d/limits.yml").write_text(settings)
    image.run("systemctl", "disable", "stockworker@2")


def operate(machine: VirtualMachine, *command: str) -> subprocess.CompletedProcess[str]:
    return machine.try_run("stockworker", "--config", "/root/operator.yml", *command)


@pytest.mark.parametrize("unit", UNITS)
def test_a_service_that_may_reach_its_broker_alone_is_exposed_by_even_less(machine: VirtualMachine, unit: str) -> None:
    assert exposure(machine, unit) <= 1.0


def test_a_job_reaches_what_its_worker_may_and_nothing_else(machine: VirtualMachine) -> None:
    assert site.submit(machine, "call", ALLOWED) == "sent"
    assert site.submit(machine, "call", DENIED) == "PermissionError"
    assert machine.run("sh", "-c", f"echo '\"{DENIED}\"' | python3 /opt/jobs/call.py") == '"sent"\n'


def test_a_job_that_takes_the_memory_of_its_unit_dies_alone(machine: VirtualMachine) -> None:
    before = machine.show(WORKER, "MainPID")
    other = operate(machine, "submit", "linger", "--quiet").stdout.strip()
    machine.wait_until(lambda: machine.try_run("test", "-e", f"{MARKET}/lingers").returncode == 0, "the other job runs")

    failed = operate(machine, "submit", "eat", "--max-crashes", "1", "--wait-timeout", "2m")

    machine.write(f"{MARKET}/go", "")
    operate(machine, "wait", other, "--timeout", "1m")
    assert failed.returncode == 1
    assert "killed by SIGKILL, and not by this worker: out of memory?" in failed.stdout
    assert operate(machine, "result", other).stdout == '"still here"\n'
    assert machine.show(WORKER, "MainPID") == before
    assert "killed by the OOM killer" in machine.journal(WORKER)
    assert f"oom_memcg={machine.show(WORKER, 'ControlGroup')}," in machine.run("dmesg")
