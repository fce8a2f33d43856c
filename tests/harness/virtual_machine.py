"""A booted Debian in a virtual machine, with a kernel of its own.

For tests of what a container lacks: cgroup controllers, address filters. It is emulated in software, because nested
virtualization is not available everywhere; it boots in about ten seconds. Its only network is loopback.

Debian's cloud kernel has ext4, NVMe and serial ports built in: it needs no initial RAM disk and no modules.
"""

import json
import os
import select
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from stockworker.adapters import clock
from tests.harness import serial_shell
from tests.harness.booted_machine import CLEAN, PATIENCE_S, BootedMachine
from tests.harness.guest import Overlay, Release, base_root, cached

_KERNEL: Final = "linux-image-cloud-amd64"
_FETCH: Final = f"""
set -e
apt-get update -q
cd /opt
apt-get download -q $(apt-cache depends --important {_KERNEL} | sed -n 's/.*Depends: //p')
dpkg-deb --fsys-tarfile linux-image-*.deb | tar -x --wildcards './boot/vmlinuz-*'
mv boot/vmlinuz-* boot/vmlinuz
"""
_SHELL: Final = "/usr/local/lib/serial_shell.py"
_UNIT: Final = f"""
[Service]
ExecStart=/usr/bin/python3 -I {_SHELL} /dev/ttyS1
"""
_CLOCK: Final = ("-icount", "shift=2")
"""An instruction takes 4 ns of the machine's time, so its clock slows down with the host and no time-out fires early."""

_MEMORY: Final = "1G"
_DISK: Final = "2G"


def kernel(release: Release) -> Path:
    """The kernel of a release; downloaded on first use (a few seconds)."""
    return cached(release, (_KERNEL,), partial(_fetch_kernel, release)) / "vmlinuz"


def _fetch_kernel(release: Release, fresh: Path) -> None:
    work = fresh.with_name(f"{fresh.name}.work")
    with Overlay([base_root(release)], work) as image:
        image.run("sh", "-c", _FETCH)
    (work / "upper" / "opt" / "boot").rename(fresh)
    shutil.rmtree(work)


class VirtualMachine(BootedMachine):
    """A machine that boots when the context is entered, and is removed when it is left."""

    def __init__(self, release: Release, layers: Sequence[Path], folder: Path, name: str) -> None:
        super().__init__(name)
        self._kernel = kernel(release)
        self._layers = layers
        self._folder = folder
        self._disk = folder / "disk"
        self._console = folder / "console"
        self._heard = b""
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._disk.unlink, missing_ok=True)
            self._make_disk()
            self._process = stack.enter_context(self._start())
            stack.callback(self._process.kill)
            self._receive(PATIENCE_S)
            self.wait_until(self.has_booted, f"{self.name} boots")
            self._exits = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def try_run(self, *command: str, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        request = [*CLEAN, "TERM=dumb", *command]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        returncode, printed = json.loads(self._receive(timeout_s))
        return subprocess.CompletedProcess(request, returncode, printed)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        script = 'mkdir -p "$(dirname "$1")" && printf %s "$2" > "$1" && chmod "$3" "$1"'
        self.run("sh", "-c", script, "sh", path, text, f"{mode:o}")

    def _make_disk(self) -> None:
        with Overlay(self._layers, self._folder) as image:
            files = {"etc/hostname": f"{self.name}\n", "etc/systemd/system/serial-shell.service": _UNIT}
            for path, text in files.items():
                (image.root / path).write_text(text)
            shutil.copy(serial_shell.__file__, image.root / _SHELL[1:])
            image.run("systemctl", "add-wants", "multi-user.target", "serial-shell.service")
            make = ["mkfs.ext4", "-q", "-d", str(image.root), str(self._disk), _DISK]
            subprocess.run(make, check=True, capture_output=True, timeout=PATIENCE_S)

    def _start(self) -> "subprocess.Popen[bytes]":
        machine = ["qemu-system-x86_64", "-accel", "tcg", *_CLOCK, "-machine", "q35,usb=off", "-m", _MEMORY]
        machine += ["-nodefaults", "-no-user-config", "-nographic", "-nic", "none", "-no-reboot"]
        boot = ["-kernel", str(self._kernel), "-append", "root=/dev/nvme0n1 rw console=ttyS0 panic=-1"]
        disk = ["-drive", f"file={self._disk},format=raw,if=none,id=disk,cache=unsafe"]
        disk += ["-device", "nvme,drive=disk,serial=disk"]
        lines = ["-serial", f"file:{self._console}", "-serial", "stdio"]
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *machine, *boot, *disk, *lines],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def _receive(self, timeout_s: float) -> bytes:
        """The next line from the serial console.

        Raises:
            TimeoutError: no line arrived in time.
        """
        assert self._process.stdout is not None
        deadline = clock.monotonic() + timeout_s
        while b"\n" not in self._heard:
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - clock.monotonic()))
            more = os.read(self._process.stdout.fileno(), 1 << 16) if readable else b""
            if not more:
                raise TimeoutError(f"{self.name} sends nothing; last on its console:\n{self._said()}")
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    def _said(self) -> str:
        return self._console.read_text(errors="replace")[-2000:] if self._console.exists() else ""
