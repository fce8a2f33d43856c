"""Limits of the units on a kernel that supports all of them: a container has no cgroup controllers."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.harness import site
from tests.harness.guest import Overlay
from tests.harness.package_tools import WITH_APT, System
from tests.harness.virtual_machine import VirtualMachine
from tests.packages.conftest import exposure, on

pytestmark = on(WITH_APT[0])  # an emulated processor is slow, and the limits are those of the kernel

WORKER = "stockworker@1.service"
UNITS = ("mosquitto.service", "stockworker-dispatcher.service", WORKER)
ALLOWED, DENIED = "192.0.2.1", "198.51.100.1"
"""Addresses of the machine: one that the example drop-in allows, and one that it denies."""

ONCE = ("--max-crashes", "1", "--wait-timeout", "2m")
MARKET = "/var/lib/stockworker/market"
_TRIALS = f"""
import os, socket, time
kept = bytearray()

def call(job, context):
    return [answer(address) for address in job.payload]

def answer(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        try:  # a datagram, because its error is immediate: the kernel retries a denied connection until it times out
            out.sendto(b"hello", (address, 9))
        except OSError as error:
            return type(error).__name__
    return "sent"

def linger(job, context):
    open("{MARKET}/lingers", "w").close()
    while not os.path.exists("{MARKET}/go"):
        time.sleep(0.1)
    return "still here"

def hoard(job, context):
    while len(kept) < 128 * 2**20:
        kept.extend(b"x" * 2**20)

def eat(job, context):
    while True:
        kept.extend(b"x" * 2**20)

def share(job, context):
    for _ in range(8):
        if os.fork() == 0:
            os.setsid()
            eaten = b"x" * 2**24
            time.sleep(1000)
    time.sleep(1000)

def spin(job, context):
    own = open("/proc/self/cgroup").read().strip().removeprefix("0::")
    while "nr_throttled 0\\n" in open(f"/sys/fs/cgroup{{own}}/cpu.stat").read():
        pass
    return "slowed down"

if __name__ == "__main__":
    eat(None, None)
"""
_LITTLE = {"memory": "64M"}
GREEDY = {
    "eat_little": {"python": "trials:eat", "limits": _LITTLE},
    "eat_little_by_command": {"command": ["python3", "-I", "/opt/jobs/trials.py"], "limits": _LITTLE},
    "share_little": {"python": "trials:share", "limits": _LITTLE},
}
HANDLERS = {
    **{name: {"python": f"trials:{name}"} for name in ("call", "linger", "hoard", "eat")},
    **GREEDY,
    "call_with_little": {"python": "trials:call", "limits": _LITTLE},
    "spin": {"python": "trials:spin", "limits": {"processors": 0.2}},
}


@pytest.fixture(scope="module")
def machine(
    system: System, configured: tuple[Path, ...], host: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VirtualMachine]:
    """A machine whose worker may reach few addresses, and use little memory."""
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
    """Set limits, and install jobs that reach them."""
    systemd = image.root / "etc/systemd/system"
    example = image.root / "usr/share/doc/stockworker-agent/examples/network.conf"
    for unit in UNITS:
        folder = systemd / f"{unit}.d"
        folder.mkdir(exist_ok=True)
        (folder / "network.conf").write_text(example.read_text())
    (systemd / f"{WORKER}.d" / "memory.conf").write_text("[Service]\nMemoryMax=320M\n")
    (image.root / "opt/jobs/trials.py").write_text(_TRIALS)
    settings = json.dumps({"job_processor": {"handlers": HANDLERS}})
    (image.root / "etc/stockworker/job_processor.d/limits.yml").write_text(settings)
    image.run("systemctl", "disable", "stockworker@2")


@pytest.mark.parametrize("unit", UNITS)
def test_restricting_addresses_lowers_the_exposure_of_a_service_in_a_vm(machine: VirtualMachine, unit: str) -> None:
    assert exposure(machine, unit) <= 1.0


def test_a_job_reaches_only_the_addresses_of_its_worker(machine: VirtualMachine) -> None:
    assert site.submit(machine, "call", [ALLOWED, DENIED]) == ["sent", "PermissionError"]


def test_a_job_that_uses_the_memory_of_its_unit_is_killed_alone(machine: VirtualMachine) -> None:
    before = machine.show(WORKER, "MainPID")
    other = operate(machine, "submit", "linger", "--quiet").stdout.strip()
    machine.wait_until(lambda: machine.try_run("test", "-e", f"{MARKET}/lingers").returncode == 0, "the other job runs")

    failed = operate(machine, "submit", "eat", *ONCE)

    machine.write(f"{MARKET}/go", "")
    assert operate(machine, "result", other, "--wait").stdout == '"still here"\n'
    assert "killed by the kernel: the machine, or this worker as a whole, was out of memory" in failed.stdout
    assert "killed by the OOM killer" in machine.journal(WORKER)
    assert f"oom_memcg={machine.show(WORKER, 'ControlGroup')}," in machine.run("dmesg")
    assert machine.show(WORKER, "MainPID") == before


def test_a_job_over_its_memory_limit_is_killed_with_the_reason(machine: VirtualMachine) -> None:
    before = machine.show(WORKER, "MainPID")
    machine.write("/root/jobs.jsonl", "\n".join(json.dumps({"type": name}) for name in GREEDY))

    failed = operate(machine, "submit", "--batch", "/root/jobs.jsonl", *ONCE)

    said = machine.journal(WORKER)
    for name in GREEDY:
        reason = f"killed by the kernel: it needed more memory than handlers.{name}.limits.memory, 64M"
        assert reason in failed.stdout
        assert f'reason="{reason}"' in said
    machine.wait_until(lambda: group_sizes(machine) <= {1}, "nothing is left of them")
    assert machine.show(WORKER, "MainPID") == before


def test_a_job_is_not_killed_for_memory_of_an_earlier_job(machine: VirtualMachine) -> None:
    site.submit(machine, "hoard", None)
    done = operate(machine, "submit", "call_with_little", "[]", *ONCE)
    assert done.returncode == 0, done.stdout


def test_a_job_is_throttled_to_its_processors(machine: VirtualMachine) -> None:
    assert site.submit(machine, "spin", None) == "slowed down"


def operate(machine: VirtualMachine, *command: str) -> subprocess.CompletedProcess[str]:
    return machine.try_run("stockworker", "--config", "/root/operator.yml", *command)


def group_sizes(machine: VirtualMachine) -> set[int]:
    """The number of processes in the control groups of the worker's children."""
    groups = f"/sys/fs/cgroup{machine.show(WORKER, 'ControlGroup')}/handler-*/cgroup.procs"
    counted = machine.try_run(
        "sh", "-c", f"for group in {groups}; do wc -l <$group; done"
    ).stdout  # some may have exited
    return {int(line) for line in counted.splitlines() if line.isdecimal()}
