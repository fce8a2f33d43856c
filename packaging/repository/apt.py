"""A repository for apt (https://wiki.debian.org/DebianRepository/Format).

The signed index is the truth: what is not in it, or not as it says, was put there by somebody else. Clients begin with
InRelease, one file that is replaced at once; there is no Release with a signature beside it, since two files can't be.
"""

import hashlib
import lzma
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.parser import HeaderParser
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from repository.errors import Refused
from repository.folder import place, sweep
from repository.keys import Signer
from repository.programs import run
from repository.terms import Terms
from repository.versions import Package, chosen

SUITE: Final = "stable"
COMPONENT: Final = "main"
_SUITE: Final = Path("dists", SUITE)
_ARCHITECTURES: Final = ("amd64", "arm64", "armel", "armhf", "i386", "ppc64el", "riscv64", "s390x")


def select(folder: Path, debs: Iterable[Path], signer: Signer, terms: Terms) -> list[Package]:
    """What the repository in a folder is to have: what it has, and these packages.

    Raises:
        Refused: one is there already with other contents, or what is there is not as it was published.
    """
    former = _former_indexes(folder / _SUITE, signer, terms)
    return chosen(_held(folder, former), map(_package, debs), terms.keep)


def publish(folder: Path, packages: Sequence[Package], signer: Signer, terms: Terms) -> None:
    """Let the repository have these packages, and no others."""
    suite = folder / _SUITE
    former = _former_indexes(suite, signer, terms)
    for package in packages:
        if package.source != folder / package.file:
            place(folder / package.file, package.source.read_bytes())
    indexes = _indexes(suite, packages)
    for index, content in indexes.items():
        place(_by_hash(index, _sha256(content)), content)
    for index, content in indexes.items():
        place(index, content)
    place(suite / "InRelease", signer.clearsign(_release(suite, indexes, terms).encode()))

    # Whoever has the former InRelease finds the indexes that it names.
    present = {index: _sha256(content) for index, content in indexes.items()}
    stays = [_by_hash(*index) for index in (*former.items(), *present.items())]
    sweep(suite, [suite / "InRelease", *present, *stays])
    sweep(folder / "pool", (folder / package.file for package in packages))


def _former_indexes(suite: Path, signer: Signer, terms: Terms) -> dict[Path, str]:
    """The indexes that are published, and their checksums."""
    published = suite / "InRelease"
    if not published.exists():
        return {}
    release = HeaderParser().parsestr(signer.text_of(published).decode())
    if parsedate_to_datetime(release["Date"]).timestamp() > terms.date:
        raise Refused(f"{published}: its date is later, {release['Date']}: clients would ignore what is published now")
    lines = (line.split() for line in release["SHA256"].splitlines() if line)
    return {suite / name: digest for digest, _, name in lines}


def _held(folder: Path, indexes: Mapping[Path, str]) -> Iterator[Package]:
    """The packages that are published; most indexes of architectures are the same."""
    distinct = {digest: index for index, digest in indexes.items() if not index.suffix}
    for digest, index in distinct.items():
        for entry in _intact(_by_hash(index, digest), digest).decode().split("\n\n"):
            if entry:
                package = _listed(entry, folder)
                _intact(package.source, package.digest)
                yield package


def _intact(file: Path, digest: str) -> bytes:
    content = file.read_bytes() if file.exists() else b""
    if _sha256(content) != digest:
        raise Refused(f"{file}: was changed or removed since it was published: restore the repository from a copy")
    return content


def _package(deb: Path) -> Package:
    control = run("dpkg-deb", "--field", deb).decode().strip()
    fields = HeaderParser().parsestr(control)
    version = fields["Version"].partition(":")[2] or fields["Version"]  # an epoch is not in a file's name
    file = f"pool/{fields['Package']}/{fields['Package']}_{version}_{fields['Architecture']}.deb"
    content = deb.read_bytes()
    entry = f"{control}\nFilename: {file}\nSize: {len(content)}\nSHA256: {_sha256(content)}"
    return replace(_listed(entry, Path()), source=deb)


def _listed(entry: str, folder: Path) -> Package:
    fields = HeaderParser().parsestr(entry)
    file = fields["Filename"]
    names = (fields["Package"], fields["Version"], fields["Architecture"])
    return Package(*names, file, fields["SHA256"], folder / file, entry)


def _indexes(suite: Path, packages: Sequence[Package]) -> dict[Path, bytes]:
    """The index of each architecture, plain and compressed; packages for all of them are in each."""
    found: dict[Path, bytes] = {}
    for architecture in _ARCHITECTURES:
        entries = [each.entry for each in packages if each.architecture in {"all", architecture}]
        index = suite / COMPONENT / f"binary-{architecture}" / "Packages"
        found[index] = "".join(f"{entry}\n\n" for entry in entries).encode()
        found[index.with_suffix(".xz")] = lzma.compress(found[index])
    return found


def _by_hash(index: Path, digest: str) -> Path:
    """Where an index stays while a newer one takes its name (Acquire-By-Hash)."""
    return index.parent / "by-hash" / "SHA256" / digest


def _release(suite: Path, indexes: Mapping[Path, bytes], terms: Terms) -> str:
    date = datetime.fromtimestamp(terms.date, UTC)
    fields = {
        "Origin": "stockworker",
        "Label": "stockworker",
        "Suite": SUITE,
        "Codename": SUITE,
        "Date": _time(date),
        "Acquire-By-Hash": "yes",
        "Architectures": " ".join(_ARCHITECTURES),
        "Components": COMPONENT,
    }
    if terms.valid_days is not None:
        fields["Valid-Until"] = _time(date + timedelta(days=terms.valid_days))
    lines = [f"{name}: {value}" for name, value in fields.items()]
    checksums = [f" {_sha256(each)} {len(each)} {index.relative_to(suite)}" for index, each in indexes.items()]
    return "\n".join([*lines, "SHA256:", *checksums, ""])


def _time(date: datetime) -> str:
    return date.strftime("%a, %d %b %Y %H:%M:%S UTC")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
