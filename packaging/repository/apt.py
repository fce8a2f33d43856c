"""A repository for apt (https://wiki.debian.org/DebianRepository/Format).

The signed index is the truth. A file that is not in it, or that differs from its checksum, came from another party.
Clients start with InRelease, one file, which is replaced atomically. The pair Release and Release.gpg is left out: two
files can't be replaced atomically.
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
from repository.options import Options
from repository.programs import run
from repository.versions import Package, chosen
from stockworker.adapters.files import read_file

SUITE: Final = "stable"
COMPONENT: Final = "main"
_SUITE: Final = Path("dists", SUITE)
_ARCHITECTURES: Final = ("amd64", "arm64", "armel", "armhf", "i386", "ppc64el", "riscv64", "s390x")


def select(folder: Path, debs: Iterable[Path], signer: Signer, options: Options) -> list[Package]:
    """The packages that the repository in a folder should have: the published ones and these.

    Raises:
        Refused: one is published with other contents, or a published file has changed since.
    """
    former = _former_indexes(folder / _SUITE, signer, options)
    return chosen(_published(folder, former), map(_package, debs), options.keep)


def publish(folder: Path, packages: Sequence[Package], signer: Signer, options: Options) -> None:
    """Make the repository have exactly these packages."""
    suite = folder / _SUITE
    former = _former_indexes(suite, signer, options)
    for package in packages:
        if package.source != folder / package.file:
            place(folder / package.file, package.source.read_bytes())
    indexes = _indexes(suite, packages)
    for index, content in indexes.items():
        place(_by_hash(index, _sha256(content)), content)
    for index, content in indexes.items():
        place(index, content)
    place(suite / "InRelease", signer.clearsign(_release(suite, indexes, options).encode()))

    # A client that has the former InRelease still finds the indexes that it names.
    present = {index: _sha256(content) for index, content in indexes.items()}
    stays = [_by_hash(*index) for index in (*former.items(), *present.items())]
    sweep(suite, [suite / "InRelease", *present, *stays])
    sweep(folder / "pool", (folder / package.file for package in packages))


def _former_indexes(suite: Path, signer: Signer, options: Options) -> dict[Path, str]:
    """The published indexes and their checksums."""
    published = suite / "InRelease"
    if not published.exists():
        return {}
    release = HeaderParser().parsestr(signer.text_of(published).decode())
    if parsedate_to_datetime(release["Date"]).timestamp() > options.date:
        raise Refused(f"{published} has a later date, {release['Date']}: clients would ignore the new one")
    lines = (line.split() for line in release["SHA256"].splitlines() if line)
    return {suite / name: digest for digest, _, name in lines}


def _published(folder: Path, indexes: Mapping[Path, str]) -> Iterator[Package]:
    """The published packages. Most architectures have the same index."""
    distinct = {digest: index for index, digest in indexes.items() if not index.suffix}
    for digest, index in distinct.items():
        for entry in _intact(_by_hash(index, digest), digest).decode().split("\n\n"):
            if entry:
                package = _listed(entry, folder)
                _intact(package.source, package.digest)
                yield package


def _intact(file: Path, digest: str) -> bytes:
    content = read_file(file)
    if content is None or _sha256(content) != digest:
        raise Refused(f"{file} was changed or removed after it was published. Restore the repository from a copy")
    return content


def _package(deb: Path) -> Package:
    control = run("dpkg-deb", "--field", deb).decode().strip()
    fields = HeaderParser().parsestr(control)
    version = fields["Version"].partition(":")[2] or fields["Version"]  # a file's name leaves out the epoch
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
    """The index of each architecture, plain and compressed; packages for all architectures are in each."""
    found: dict[Path, bytes] = {}
    for architecture in _ARCHITECTURES:
        entries = [each.entry for each in packages if each.architecture in {"all", architecture}]
        index = suite / COMPONENT / f"binary-{architecture}" / "Packages"
        found[index] = "".join(f"{entry}\n\n" for entry in entries).encode()
        found[index.with_suffix(".xz")] = lzma.compress(found[index])
    return found


def _by_hash(index: Path, digest: str) -> Path:
    """The path under which an index stays when a newer one takes its name (Acquire-By-Hash)."""
    return index.parent / "by-hash" / "SHA256" / digest


def _release(suite: Path, indexes: Mapping[Path, bytes], options: Options) -> str:
    date = datetime.fromtimestamp(options.date, UTC)
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
    if options.valid_days is not None:
        fields["Valid-Until"] = _time(date + timedelta(days=options.valid_days))
    lines = [f"{name}: {value}" for name, value in fields.items()]
    checksums = [f" {_sha256(each)} {len(each)} {index.relative_to(suite)}" for index, each in indexes.items()]
    return "\n".join([*lines, "SHA256:", *checksums, ""])


def _time(date: datetime) -> str:
    return date.strftime("%a, %d %b %Y %H:%M:%S UTC")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
