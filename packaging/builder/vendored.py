"""The pure-Python libraries that distributions lack: fetched by hash, and packed beside the code."""

import email
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.recipes import FROM_DISTRIBUTION


@dataclass(frozen=True, slots=True)
class Library:
    """One library.

    Attributes:
        name: on PyPI, and the name of its only Python package.
        version: the one that was fetched.
        license: SPDX identifier.
        license_text: with the copyright holders.
        sha256: of the fetched archive.
        files: content by path below the folder of the code.
    """

    name: str
    version: str
    license: str
    license_text: str
    sha256: str
    files: dict[str, bytes]

    @property
    def copyright(self) -> str:
        """The year and the holder."""
        return re.search(r"^Copyright \(c\) (.+)$", self.license_text, re.MULTILINE)[1]  # type: ignore[index] # fails the build if it is missing


def names(pyproject: Path) -> list[str]:
    """The dependencies that no distribution has."""
    wanted = tomllib.loads(pyproject.read_text())["project"]["dependencies"]
    found = [re.match(r"[A-Za-z0-9_.-]+", each)[0] for each in wanted]  # type: ignore[index] # a dependency has a name
    return sorted(name for name in found if name not in FROM_DISTRIBUTION)


def fetch(wanted: list[str], lock: Path, folder: Path) -> list[Library]:
    """Download the versions that `lock` pins into `folder`."""
    requirements = folder / "vendored.txt"
    requirements.write_text("".join(_pinned(lock, name) for name in wanted))
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--require-hashes", "--dest", folder, "--requirement", requirements], check=True)
    requirements.unlink()
    return sorted((_unpack(archive) for archive in folder.iterdir()), key=lambda library: library.name)


def _pinned(lock: Path, name: str) -> str:
    """The lines of the lock file about one library, with their hashes."""
    found = re.search(rf"^{re.escape(name)}==.*\n(?:    .*\n)+", lock.read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{lock}: {name} is not pinned. Run 'make lock'")
    return found[0]


def _unpack(archive: Path) -> Library:
    content = dict(_members(archive))
    metadata = email.message_from_bytes(next(body for name, body in content.items() if _is_metadata(name)))
    name = metadata["Name"]
    text = next(body for path, body in content.items() if Path(path).name.startswith("LICENSE")).decode()
    if "MIT License" not in text or "Permission is hereby granted" not in text:
        raise SystemExit(f"{archive.name} is not under the MIT licence. Add its licence to builder/vendored.py")
    # Only the package of the library's own name: gmqtt's wheel would also install `examples` and `tests`.
    files = {path: body for path, body in content.items() if path.startswith(f"{name}/") and path.endswith(".py")}
    return Library(name, metadata["Version"], "MIT", text, hashlib.sha256(archive.read_bytes()).hexdigest(), files)


def _is_metadata(path: str) -> bool:
    return path == "PKG-INFO" or path.endswith(".dist-info/METADATA")


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(io.BytesIO(archive.read_bytes())) as wheel:
            for name in wheel.namelist():
                if not name.endswith("/"):
                    yield name, wheel.read(name)
        return
    with tarfile.open(archive) as source:  # all files are in one folder, which is named after the version
        for member in source:
            if (file := source.extractfile(member)) is not None:
                yield member.name.partition("/")[2], file.read()
