"""One machine with all packages: broker, dispatcher, two workers and a client, set up as an administrator would."""

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.harness.booted_machine import BootedMachine
from tests.harness.guest import Overlay

WORKERS = ("stockworker@1", "stockworker@2")
SERVICES = ("mosquitto", "stockworker-dispatcher", *WORKERS)
_TLS = "/etc/stockworker/tls"

SETTINGS: dict[str, Any] = {
    "handlers": {
        "data_import": {"settings": {"import_folders": ["/srv/import"]}},
        "price_update": {"settings": {"provider": "http://127.0.0.1:8000/{symbol}.json"}},
        "probe": {"command": ["python3", "-I", "/opt/jobs/probe.py"], "limits": {"memory": "256M", "cpu": "10s"}},
        "greet": {"python": "greetings:greet"},
        "hold": {"python": "greetings:hold"},
        "scatter": {"python": "scattering:scatter"},
        "scatter_command": {"command": ["python3", "-I", "/opt/jobs/scattering.py"]},
    },
    "worker": {"handler_paths": ["/opt/jobs"], "drain_timeout": 2, "stop_grace": "100ms"},
}
"""Configuration of the services: handlers, and short waits for tests."""

_PROBE = """
import json, os, subprocess, sys, urllib.request

def tried(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"

wanted = json.load(sys.stdin)
print(json.dumps({
    "writes": {path: tried(lambda: open(path + "/probe", "w").close()) for path in wanted["write"]},
    "reads": {path: tried(lambda: open(path).close()) for path in wanted["read"]},
    "starts a program": subprocess.run(["true"]).returncode,
    "capabilities": [line for line in open("/proc/self/status") if line.startswith("CapEff")][0].split()[1],
}))
"""
_SCATTERING = """
import json, os, signal, subprocess, sys, time

def scatter(job, context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(["sh", "-c", "sleep 4711 & exec setsid sleep 4711"], start_new_session=True, **nowhere)
    for own_session in (True, False):
        subprocess.Popen(["sleep", "4711"], start_new_session=own_session, **nowhere)
    if stays(job):
        time.sleep(4711)

def stays(job):
    return json.load(sys.stdin) if job is None else job.payload

if __name__ == "__main__":
    scatter(None, None)
    print("null")
"""
_GREETINGS = """
import os, time

def greet(job, context):
    context.log.info("greeting %s", job.payload)
    return f"hello, {job.payload}"

def hold(job, context):
    while not os.path.exists("/opt/jobs/go-on"):
        time.sleep(0.05)
    return job.payload
"""
_BAR = {"date": "2013-03-04", "open": 427.8, "high": 428.2, "low": 419.0, "close": 420.05, "volume": 145}


def set_up(
    machine: Overlay, host: str, settings: dict[str, Any] | None = None, workers: Sequence[str] = ("1", "2")
) -> None:
    """Create certificates and configuration for `host` as in docs/pki.md, and enable its services."""
    etc = machine.root / "etc"
    machine.run("stockworker", "pki", "init")
    kinds = dict.fromkeys((f"{host}-{name}" for name in workers), "worker")
    _certify(machine, {"dispatcher": "dispatcher", "operator": "operator"} | kinds)
    for name in workers:
        (etc / "stockworker" / "instances" / f"{name}.yml").write_text(instance(f"{host}-{name}"))
    _write_yaml(etc / "stockworker/job_processor.d/site.yml", {"tls": _identity("dispatcher"), **(settings or {})})
    _write_yaml(machine.root / "root" / "operator.yml", {"tls": _identity("operator")})
    machine.run("stockworker", "broker", "setup", "--host", "localhost")
    for path, text in {
        "opt/jobs/probe.py": _PROBE,
        "opt/jobs/scattering.py": _SCATTERING,
        "opt/jobs/greetings.py": _GREETINGS,
        "srv/import/aapl.json": json.dumps([_BAR]),
        "srv/http/MSFT.json": json.dumps([_BAR]),
    }.items():
        file = machine.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    machine.run(
        "systemctl", "enable", "mosquitto", "stockworker-dispatcher", *(f"stockworker@{name}" for name in workers)
    )


def start(guest: BootedMachine) -> None:
    """Wait until all services are active and the dispatcher knows both workers."""
    for service in SERVICES:
        guest.wait_until(partial(is_active, guest, service), f"{service} is active")
    guest.wait_until(lambda: online(guest) == 2, "the dispatcher knows both workers")


def is_active(guest: BootedMachine, service: str) -> bool:
    """Whether systemd reports a service as active."""
    return guest.show(service, "ActiveState") == "active"


def is_listening(guest: BootedMachine, port: int) -> bool:
    """Whether a process accepts connections on the guest's loopback."""
    return f":{port} " in guest.run("ss", "-ltnH")


def instance(name: str, **sections: Any) -> str:
    """The configuration file of one worker, with a job type of the same name that only it runs."""
    own = {"tls": _identity(name), "handlers": {name: {"command": ["echo", "null"]}}}
    text: str = yaml.safe_dump({"job_processor": own | sections})
    return text


def online(guest: BootedMachine) -> int:
    """The number of workers that the dispatcher reports as online."""
    done = guest.try_run("stockworker", "--config", "/root/operator.yml", "stats", "--json")
    return sum(worker["online"] for worker in json.loads(done.stdout)["workers"]) if done.returncode == 0 else 0


def submit(guest: BootedMachine, job_type: str, payload: Any) -> Any:
    """Run a job; return its result."""
    command = ["submit", job_type, json.dumps(payload), "--wait-timeout", "90s", "--quiet"]
    return json.loads(guest.run("stockworker", "--config", "/root/operator.yml", *command))


def _certify(machine: Overlay, kinds: dict[str, str]) -> None:
    """Issue certificates and install them."""
    authority, tls = machine.root / "etc/stockworker/ca", machine.root / _TLS[1:]
    shutil.copy(authority / "ca.crt", tls)
    for name, kind in kinds.items():
        machine.run("stockworker", "pki", "issue", kind, name)
        for suffix in (".crt", ".key"):
            shutil.copy2(authority / "issued" / f"{name}{suffix}", tls)


def _identity(name: str) -> dict[str, str]:
    return {"ca_file": f"{_TLS}/ca.crt", "cert_file": f"{_TLS}/{name}.crt", "key_file": f"{_TLS}/{name}.key"}


def _write_yaml(file: Path, settings: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump({"job_processor": settings}))
