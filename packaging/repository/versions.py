"""The choice of the versions of a package that a repository keeps."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cmp_to_key
from itertools import chain
from pathlib import Path

from repository.errors import Refused
from repository.programs import attempt


@dataclass(frozen=True, slots=True)
class Package:
    """One version of a package.

    Attributes:
        name: of the package.
        version: with its revision.
        architecture: `all`, `noarch` or one of a machine.
        file: path below the folder of its repository.
        digest: of its content, in hexadecimal digits.
        source: its current path.
        entry: its paragraph in the index of apt.
    """

    name: str
    version: str
    architecture: str
    file: str
    digest: str
    source: Path
    entry: str = ""


def chosen(published: Iterable[Package], offered: Iterable[Package], keep: int | None) -> list[Package]:
    """The packages that a repository should have: the newest `keep` versions of each, or all.

    Raises:
        Refused: an offered package is published with other contents. Clients that have those would keep them.
    """
    packages = {package.file: package for package in published}
    for package in offered:
        if packages.setdefault(package.file, package).digest != package.digest:
            raise Refused(
                f"{package.source}: {package.name} {package.version} is published with other contents. Raise the version"
            )
    groups: defaultdict[tuple[str, str], list[Package]] = defaultdict(list)
    for package in packages.values():
        groups[package.name, package.architecture].append(package)
    kept = (sorted(group, key=_AGE)[-keep if keep else None :] for group in groups.values())
    return sorted(chain.from_iterable(kept), key=lambda package: package.file)


def _compare(one: Package, other: Package) -> int:
    """Compare as dpkg does. rpm agrees for all versions that are valid for both a .deb and a .rpm."""
    earlier = attempt("dpkg", "--compare-versions", one.version, "lt", other.version).returncode == 0
    return -1 if earlier else int(one.version != other.version)


_AGE = cmp_to_key(_compare)
