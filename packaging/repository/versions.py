"""Which versions of a package a repository holds."""

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
        architecture: `all` or `noarch`, or of a machine.
        file: path below the folder of its repository.
        digest: of what is in it, in hexadecimal digits.
        source: where it is now.
        entry: what the index says of it.
    """

    name: str
    version: str
    architecture: str
    file: str
    digest: str
    source: Path
    entry: str = ""


def chosen(held: Iterable[Package], offered: Iterable[Package], keep: int | None) -> list[Package]:
    """What a repository is to have: the newest `keep` versions of each package, or all of them.

    Raises:
        Refused: an offered package is held already with other contents: clients have those, and would keep them.
    """
    packages = {package.file: package for package in held}
    for package in offered:
        if packages.setdefault(package.file, package).digest != package.digest:
            raise Refused(
                f"{package.source}: {package.name} {package.version} is published with other contents: raise the version"
            )
    groups: defaultdict[tuple[str, str], list[Package]] = defaultdict(list)
    for package in packages.values():
        groups[package.name, package.architecture].append(package)
    kept = (sorted(group, key=_AGE)[-keep if keep else None :] for group in groups.values())
    return sorted(chain.from_iterable(kept), key=lambda package: package.file)


def _compare(one: Package, other: Package) -> int:
    """As dpkg does, and rpm does not differ on versions that a .deb and a .rpm can both have."""
    earlier = attempt("dpkg", "--compare-versions", one.version, "lt", other.version).returncode == 0
    return -1 if earlier else int(one.version != other.version)


_AGE = cmp_to_key(_compare)
