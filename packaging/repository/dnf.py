"""A repository for dnf: createrepo_c's index, and a signature beside it.

Each package is signed too, so that it can be verified without the index.
"""

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from repository.errors import Refused
from repository.folder import place, sweep
from repository.keys import Signer
from repository.options import Options
from repository.programs import run
from repository.versions import Package, chosen
from stockworker.adapters.files import read_file

_NAMED: Final = re.compile(rb'<location href="(.+?)"')


def select(folder: Path, rpms: Iterable[Path], signer: Signer, keep: int | None) -> list[Package]:
    """The packages that the repository in a folder should have: the published ones and these.

    Raises:
        Refused: one is published with other contents, or clients do not trust the key that signed it.
    """
    return chosen(_published(folder, signer), (_offered(rpm, signer) for rpm in rpms), keep)


def publish(folder: Path, packages: Sequence[Package], signer: Signer, options: Options) -> None:
    """Make the repository have exactly these packages; sign the unsigned ones."""
    for package in packages:
        if package.source != folder / package.file:
            build_time = int(_asked(package.source, "BUILDTIME")[0])
            place(folder / package.file, _signed(package.source, signer), build_time)
    _publish_index(folder, packages, signer, options)
    sweep(folder / "packages", (folder / package.file for package in packages))


def _published(folder: Path, signer: Signer) -> Iterator[Package]:
    """The published packages."""
    for rpm in sorted(folder.glob("packages/*.rpm")):
        if not signer.has_signed(rpm):
            raise Refused(
                f"{rpm}: no trusted key has signed this content. If the key that signed it is missing, add it with "
                "--keyring. Else the file was changed after it was published: restore the repository from a copy"
            )
        yield _package(rpm)


def _package(rpm: Path) -> Package:
    """Read the header of a package, which has checksums of its content. A signature does not change the header."""
    name, version, architecture, digest = _asked(rpm, "NAME", "EVR", "ARCH", "SHA256HEADER")
    file = f"packages/{name}-{version.rpartition(':')[2]}.{architecture}.rpm"
    return Package(name, version, architecture, file, digest, rpm)


def _asked(rpm: Path, *tags: str) -> list[str]:
    return run("rpm", "-qp", "--queryformat", "".join(f"%{{{tag}}}\n" for tag in tags), rpm).decode().splitlines()


def _offered(rpm: Path, signer: Signer) -> Package:
    if _is_signed(rpm) and not signer.has_signed(rpm):
        raise Refused(f"{rpm} is already signed, with a key that clients do not trust. Pass an unsigned one")
    return _package(rpm)


def _is_signed(rpm: Path) -> bool:
    return set(_asked(rpm, "RSAHEADER:pgpsig", "DSAHEADER:pgpsig")) != {"(none)"}


def _signed(rpm: Path, signer: Signer) -> bytes:
    if _is_signed(rpm):
        return rpm.read_bytes()
    with tempfile.TemporaryDirectory(prefix="repository-") as name:
        copy = Path(shutil.copy(rpm, name))
        signer.sign_rpm(copy)
        return copy.read_bytes()


def _publish_index(folder: Path, packages: Sequence[Package], signer: Signer, options: Options) -> None:
    """Make the index of these packages and put it in place: its files first, then the list that names them."""
    published = folder / "repodata" / "repomd.xml"
    former = _NAMED.findall(read_file(published) or b"")
    with tempfile.TemporaryDirectory(prefix="repository-") as name:
        made = Path(name)
        chosen = made / "packages"
        chosen.write_text("".join(f"{package.file}\n" for package in packages))
        command = [
            "createrepo_c",
            "--quiet",
            "--no-database",
            "--general-compress-type=gz",
            f"--revision={options.date}",
        ]
        command += ["--set-timestamp-to-revision", f"--pkglist={chosen}", f"--outputdir={made}", str(folder)]
        run(*command)
        index = (made / "repodata" / "repomd.xml").read_bytes()
        present = _NAMED.findall(index)
        for file in present:
            place(folder / file.decode(), (made / file.decode()).read_bytes())
    signature = published.with_name("repomd.xml.asc")
    place(signature, signer.signature(index))
    place(published, index)
    sweep(published.parent, [published, signature, *(folder / file.decode() for file in (*former, *present))])
