"""``python -m tests.ansible up|down``: a lab that stays until it is taken down, for people to try the playbooks on."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.harness.lab import MACHINES, Lab, address
from tests.harness.publishing import ROOT, make_key
from tests.harness.waiting import wait_until

STATE: Final = Path("/run/stockworker-lab")
_LONG_S: Final = 1800.0
_ENTER: Final = """\
The lab runs: {machines}.

  . {folder}/enter                          # a shell function `lab` that runs commands in its network
  lab ansible-playbook stockworker.edge.site
  lab ansible-playbook stockworker.edge.status
  lab ssh desk                              # then: sudo stockworker stats

`make lab-down` removes it.
"""
_FUNCTION: Final = """\
lab() {{
    nsenter --net=/run/netns/{network} env {environment} "$@"
}}
"""
_SSH: Final = """\
Host *
    User admin
    IdentityFile {key}
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
"""


def up() -> None:
    """Start the lab in a process of its own, and wait until it is ready."""
    if STATE.exists():
        sys.exit("the lab runs already: make lab-down removes it")
    log = Path(tempfile.mkdtemp(prefix="stockworker-lab-", dir="/var/tmp"))
    with (log / "log").open("w") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.ansible", "keep", str(log)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    wait_until(lambda: STATE.exists() or keeper.poll() is not None, "the lab runs", _LONG_S)
    if keeper.poll() is not None:
        sys.exit((log / "log").read_text())
    print(_ENTER.format(machines=", ".join(MACHINES), folder=STATE))


def keep(folder: Path) -> None:
    """Run the lab until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with Lab(folder / "lab", ROOT / "dist", make_key(folder / "key")) as lab:
            _write_state(lab)
            try:
                while True:
                    signal.pause()
            finally:
                shutil.rmtree(STATE)
    finally:
        shutil.rmtree(folder)


def _write_state(lab: Lab) -> None:
    """How to enter the lab; the folder appears complete."""
    fresh = STATE.with_name(f"{STATE.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    hosts = "\n".join(f"Host {name}\n    HostName {address(name)}" for name in MACHINES)
    (fresh / "ssh_config").write_text(f"{hosts}\n{_SSH.format(key=lab.ssh_key)}")
    bin_folder = fresh / "bin"
    bin_folder.mkdir()
    (bin_folder / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {STATE}/ssh_config "$@"\n')
    (bin_folder / "ssh").chmod(0o755)
    settings = {**lab.environment(), "ANSIBLE_INVENTORY": str(lab.inventory), "ANSIBLE_SSH_EXECUTABLE": "/usr/bin/ssh"}
    settings["PATH"] = f"{STATE}/bin:{settings['PATH']}"
    environment = " ".join(f"{name}='{value}'" for name, value in settings.items())
    (fresh / "enter").write_text(_FUNCTION.format(network=lab.network.name, environment=environment))
    (fresh / "pid").write_text(str(os.getpid()))
    fresh.rename(STATE)


def down() -> None:
    """Remove the lab."""
    if not STATE.exists():
        sys.exit("no lab runs")
    keeper = int((STATE / "pid").read_text())
    os.kill(keeper, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{keeper}").exists(), "the lab is removed", _LONG_S)


match sys.argv[1:]:
    case ["up"]:
        up()
    case ["down"]:
        down()
    case ["keep", place]:
        keep(Path(place))
    case _:
        sys.exit("usage: python -m tests.ansible up|down")
