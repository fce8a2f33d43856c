"""All kinds of sources, and the packages of their libraries. A kind is imported when it is first used."""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Final

from stockworker.errors import ConfigError
from stockworker.migration.address import SourceAddress
from stockworker.migration.mapping import SourceMapping
from stockworker.migration.source import Container, Source
from stockworker.protocol.frozen import dataclass


@dataclass(frozen=True, slots=True)
class SourceLibrary:
    """A library of a kind of source: its module, and its packages."""

    module: str
    deb: str
    rpm: str
    pip: str


LIBRARIES: Final[Mapping[str, SourceLibrary | None]] = {
    "sqlite": None,
    "postgresql": SourceLibrary("psycopg", "python3-psycopg", "python3-psycopg3", "psycopg[binary]"),
    "mysql": SourceLibrary("pymysql", "python3-pymysql", "python3-PyMySQL", "PyMySQL"),
    "redis": SourceLibrary("redis", "python3-redis", "python3-redis", "redis"),
    "amqp": SourceLibrary("pika", "python3-pika", "python3-pika", "pika"),
    "mqtt": None,
}
"""The kinds: each is a module of this package with `open_source` and `survey`."""


def open_source(address: SourceAddress, mapping: SourceMapping, *, read_only: bool) -> Source:
    """Open an old queue.

    Args:
        address: where it is.
        mapping: what its records mean.
        read_only: nothing will be claimed; no record is locked.

    Raises:
        ConfigError: the mapping does not fit to this kind of source, or its library is not installed.
        SourceFailed: it can't be opened.
    """
    source: Source = _module(address).open_source(address, mapping, read_only=read_only)
    return source


def survey(address: SourceAddress) -> list[Container]:
    """What an old queue contains, to propose a mapping.

    Raises:
        ConfigError: its library is not installed.
        SourceFailed: it can't be opened.
    """
    found: list[Container] = _module(address).survey(address)
    return found


def _module(address: SourceAddress) -> ModuleType:
    library = LIBRARIES[address.kind]
    try:
        if library is not None:
            import_module(library.module)
        return import_module(f"stockworker.migration.{address.kind}")
    except ModuleNotFoundError as error:
        if library is None or error.name != library.module:
            raise
        raise ConfigError(
            f"SOURCE: {address.scheme}:// needs the Python library {library.module}, which is not installed. Install it with "
            f"'apt install {library.deb}', 'dnf install {library.rpm}' or 'pip install {library.pip}'"
        ) from None
