"""Signing keys, and repositories as `make repo` creates them."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_LONG_AGO: Final = ("--faked-system-time", "20200101T000000")


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key in a folder of gpg, with `private.asc` and `public.asc`."""

    home: Path
    fingerprint: str

    @property
    def public(self) -> Path:
        return self.home / "public.asc"

    @property
    def private(self) -> Path:
        return self.home / "private.asc"

    def sign(self, file: Path) -> None:
        """Write an armored signature beside a file."""
        _gpg(self.home, "--armor", "--yes", "--detach-sign", str(file))


def make_key(home: Path, *, expired: bool = False) -> Key:
    """Create a key. The `private.asc` of an expired key lacks its expiry date, so that it can still sign."""
    time = _LONG_AGO if expired else ()
    home.mkdir(mode=0o700)
    _gpg(home, *time, "--passphrase", "", "--quick-generate-key", home.name, "rsa3072", "sign", "never")
    fingerprint = next(
        line.split(":")[9] for line in _gpg(home, "--with-colons", "--list-keys").splitlines() if line.startswith("fpr")
    )
    key = Key(home, fingerprint)
    key.private.write_text(_gpg(home, "--armor", "--export-secret-keys"))
    if expired:
        _gpg(home, *time, "--quick-set-expire", fingerprint, "1y")
    key.public.write_text(_gpg(home, "--armor", "--export"))
    return key


def start_publishing(
    packages: Path, folder: Path, key: str, *options: str | Path, **environment: str
) -> "subprocess.Popen[str]":
    """Start what `make repo` runs."""
    settings = {
        **os.environ,
        "PATH": f"{ROOT / '.venv-packaging' / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT / 'packaging'}:{ROOT / 'agent'}",
        **environment,
    }
    command = [sys.executable, "-m", "repository", "--packages", packages, "--to", folder, "--key", key, *options]
    return subprocess.Popen(
        command, env=settings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def try_publish(
    packages: Path, folder: Path, key: str, *options: str | Path, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run what `make repo` runs; return its exit status and output."""
    with start_publishing(packages, folder, key, *options, **environment) as process:
        said, complained = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, said, complained)


def publish(packages: Path, folder: Path, key: Key, *options: str | Path, **environment: str) -> Path:
    """Publish packages, which must succeed; return the folder."""
    done = try_publish(packages, folder, str(key.private), *options, **environment)
    assert done.returncode == 0, done.stderr
    return folder


def _gpg(home: Path, *options: str) -> str:
    done = subprocess.run(
        ["gpg", "--batch", "--quiet", "--homedir", home, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
    return done.stdout
