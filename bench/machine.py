"""Facts about this machine and the versions of what was measured."""

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from bench.peers.setup import ROOT
from stockworker.adapters import clock

_SERVERS = {
    "Mosquitto": ["mosquitto", "-h"],
    "nats-server": ["nats-server", "--version"],
    "redis-server": ["redis-server", "--version"],
}
_LIBRARIES = ("nats-py", "pgqueuer", "dramatiq", "huey", "taskiq", "taskiq-aio-pika")
_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)+")


def facts(rounds: int, scale: float) -> dict[str, str]:
    """Name to fact."""
    commit = _output("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    return {
        "Measured": datetime.fromtimestamp(clock.wall(), UTC).strftime("%Y-%m-%d"),
        "Commit": commit.strip() or "unknown",
        "Machine": f"{os.cpu_count()} cores ({_processor()}), {_memory_gib():.0f} GiB",
        "System": f"{platform.platform()}, Python {platform.python_version()}",
        "Servers": ", ".join(f"{name} {_version(command)}" for name, command in _SERVERS.items()),
        "Libraries": ", ".join(f"{name} {version}" for name, version in _locked().items()),
        "Rounds": f"{rounds}" if scale == 1.0 else f"{rounds}, with {scale:g} times the usual number of jobs",
    }


def _processor() -> str:
    names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    return names[0] if names else platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3


def _version(command: list[str]) -> str:
    program = shutil.which(command[0]) or shutil.which(command[0], path="/usr/sbin")
    found = _VERSION.search(_output(program, *command[1:])) if program else None
    return found[0] if found else "not installed"


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _locked() -> dict[str, str]:
    """The versions of the libraries in the lock."""
    lock = (ROOT / "requirements" / "peers.lock").read_text(encoding="utf-8")
    found = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, flags=re.MULTILINE))
    return {name: found[name] for name in _LIBRARIES}
