"""``python -m repository --packages dist --to dist/repo --key FINGERPRINT``: publish the packages that `make packages` built."""

import argparse
import fcntl
import os
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from builder.publisher import publisher
from repository import apt, dnf
from repository.errors import Refused
from repository.folder import place, refuse_links
from repository.keys import Signer, opened
from repository.options import Options
from repository.programs import run
from stockworker.adapters import clock
from stockworker.adapters.files import make_folder, open_folder, read_file

KEYRING: Final = "stockworker-archive-keyring"

SOURCES: Final = """\
Types: deb
URIs: {url}/apt
Suites: {suite}
Components: {component}
Signed-By: /usr/share/keyrings/stockworker-archive-keyring.asc
"""
REPO: Final = """\
[stockworker]
name=stockworker
baseurl={url}/dnf
gpgcheck=1
repo_gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-stockworker
"""


def main() -> None:
    """Run as a command."""
    arguments = _parser().parse_args()
    # SIGTERM cleans up too: there may be a copy of the private key.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        _publish(arguments)
    except Refused as error:
        sys.exit(f"nothing is published: {error}")
    except OSError as error:
        sys.exit(f"nothing is published: {error.filename}: {error.strerror}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="repository", description="Publish packages in signed apt and dnf repositories."
    )
    parser.add_argument("--packages", type=Path, required=True, help="folder with the .debs and .rpms to add")
    parser.add_argument("--to", type=Path, required=True, help="folder of the repositories, for a web server to serve")
    parser.add_argument("--key", help="signing key: a fingerprint in gpg's keyring, or a file with the private key")
    parser.add_argument(
        "--keyring", type=Path, help="file with all public keys that clients trust (default: only that of --key)"
    )
    parser.add_argument("--url", help="URL of the folder for clients (default: from packaging/publisher.toml)")
    parser.add_argument("--keep", type=_number, help="number of versions of each package to keep (default: all)")
    parser.add_argument(
        "--valid-days", type=_number, help="days until apt rejects the index as outdated (default: no limit)"
    )
    return parser


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _publish(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.to
    built = [sorted(arguments.packages.glob(f"*.{suffix}")) for suffix in ("deb", "rpm")]
    if not all(built):
        raise Refused(f"{arguments.packages} has no packages. Run 'make packages'")
    date = int(os.environ.get("SOURCE_DATE_EPOCH", clock.wall()))
    options = Options(date, arguments.valid_days, arguments.keep)
    url = (arguments.url or publisher().repository).rstrip("/")
    make_folder(folder, 0o755)
    with (
        opened(arguments.key, arguments.keyring) as signer,
        tempfile.TemporaryDirectory(prefix="repository-") as name,
        open_folder(folder) as published,
    ):
        fcntl.flock(published, fcntl.LOCK_EX)
        refuse_links(folder)
        new_key = _make_keyring(folder, signer, date, Path(name))
        debs = apt.select(folder / "apt", [*built[0], *new_key.glob("*.deb")], signer, options)
        rpms = dnf.select(folder / "dnf", [*built[1], *new_key.glob("*.rpm")], signer, options.keep)
        apt.publish(folder / "apt", debs, signer, options)
        dnf.publish(folder / "dnf", rpms, signer, options)
        place(folder / f"{KEYRING}.asc", signer.public)
    place(folder / "stockworker.sources", SOURCES.format(url=url, suite=apt.SUITE, component=apt.COMPONENT).encode())
    place(folder / "stockworker.repo", REPO.format(url=url).encode())
    for package in (*debs, *rpms):
        print(f"{package.architecture:<8}  {package.name} {package.version}")
    print(f"in {folder}, signed by {signer.fingerprint}")


def _make_keyring(folder: Path, signer: Signer, date: int, out: Path) -> Path:
    """Build the package of the trusted keys if they differ from the published ones; return its folder."""
    published = folder / f"{KEYRING}.asc"
    if read_file(published) != signer.public:
        keys = out / "keys.asc"
        keys.write_bytes(signer.public)
        # Later than any version before it, even if an earlier repository was lost.
        version = datetime.fromtimestamp(date, UTC).strftime("%Y%m%d.%H%M%S")
        command = ("--out", out / "built", "--keyring", keys, "--version", version)
        run(sys.executable, "-m", "builder", *command, environment={"SOURCE_DATE_EPOCH": str(date)})
    return out / "built"


if __name__ == "__main__":
    main()
