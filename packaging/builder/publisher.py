"""The publisher of the packages, from packaging/publisher.toml."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FILE: Final = Path(__file__).resolve().parents[1] / "publisher.toml"


@dataclass(frozen=True, slots=True)
class Publisher:
    """The publisher.

    Attributes:
        maintainer: name and address, as in RFC 5322.
        homepage: of the project.
        repository: URL of the folder with the repositories.
    """

    maintainer: str
    homepage: str
    repository: str


def publisher() -> Publisher:
    """Read the file."""
    return Publisher(**tomllib.loads(_FILE.read_text()))
