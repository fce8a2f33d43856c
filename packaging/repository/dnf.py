"""A repository for dnf: createrepo_c's index, and a signature beside it.

Each package is signed too, and so needs no index to be told from those of others.
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
from repository.programs import run
from repository.terms import Terms
from repository.versions import Package, chosen

_NAMED: Final = re.compile(rb'<location href="(.+?)"')


def select(folder: Path, rpms: Iterable[Path], signer: Signer, keep: int | None) -> list[Package]:
    """What the repository in a folder is to have: what it has, and these packages.

    Raises:
        Refused: one is there already with other contents, or is signed by somebody whom clients do not trust.
    """
    return chosen(_held(folder, signer), (_offered(rpm, signer) for rpm in rpms), keep)


def publish(folder: Path, packages: Sequence[Package], signer: Signer, terms: Terms) -> None:
    """Let the repository have these packages, and no others; sign those that are not."""
    for package in packages:
        if package.source != folder / package.file:
            build_time = int(_asked(package.source, "BUILDTIME")[0])
            place(folder / package.file, _signed(package.source, signer), build_time)
    _publish_index(folder, packages, signer, terms)
    sweep(folder / "packages", (folder / package.file for package in packages))


def _held(folder: Path, signer: Signer) -> Iterator[Package]:
    """The packages that are published."""
    for rpm in sorted(folder.glob("packages/*.rpm")):
        if not signer.has_signed(rpm):
            raise Refused(
                f"{rpm}: no trusted key has signed it as it is. If the key is missing that it was signed with, give it "
                "with --keyring; if not, it was changed since it was published: restore the repository from a copy"
            )
        yield _package(rpm)


def _package(rpm: Path) -> Package:
    """What is in a package stands in its header, which stays the same when it is signed."""
    name, version, architecture, digest = _asked(rpm, "NAME", "EVR", "ARCH", "SHA256HEADER")
    file = f"packages/{name}-{version.rpartition(':')[2]}.{architecture}.rpm"
    return Package(name, version, architecture, file, digest, rpm)


def _asked(rpm: Path, *tags: str) -> list[str]:
    return run("rpm", "-qp", "--queryformat", "".join(f"%{{{tag}}}\n" for tag in tags), rpm).decode().splitlines()


def _offered(rpm: Path, signer: Signer) -> Package:
    if _is_signed(rpm) and not signer.has_signed(rpm):
        raise Refused(f"{rpm}: signed already, by nobody whom clients trust: give one that is not signed")
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


def _publish_index(folder: Path, packages: Sequence[Package], signer: Signer, terms: Terms) -> None:
    """Make the index of these packages, and put it in place: its files first, then what names them."""
    published = folder / "repodata" / "repomd.xml"
    former = _NAMED.findall(published.read_bytes()) if published.exists() else []
    with tempfile.TemporaryDirectory(prefix="repository-") as name:
        made = Path(name)
        chosen = made / "packages"
        chosen.write_text("".join(f"{package.file}\n" for package in packages))
        command = ["createrepo_c", "--quiet", "--no-database", "--general-compress-type=gz", f"--revision={terms.date}"]
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
