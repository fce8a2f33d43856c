"""The address of an old queue: a URL, whose password nothing shows. Pure."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from stockworker.errors import ConfigError
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.suggestion import suggestion

SCHEMES: Final[Mapping[str, str]] = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "redis": "redis",
    "rediss": "redis",
    "valkey": "redis",
    "valkeys": "redis",
    "unix": "redis",
    "amqp": "amqp",
    "amqps": "amqp",
    "mqtt": "mqtt",
    "mqtts": "mqtt",
}
"""The scheme of a URL → the module that reads such a source."""

_HIDDEN: Final = re.compile(r"(?i)([?&](?:ssl)?(?:password|passwd|pwd)=)[^&]*")


@dataclass(frozen=True, slots=True)
class SourceAddress:
    """A URL in parts.

    Attributes:
        kind: the module that reads it.
        url: the URL itself, with its password.
        shown: the URL without its password.
        options: the parameters after `?`.
    """

    kind: str
    scheme: str
    url: str
    shown: str
    host: str | None
    port: int | None
    user: str | None
    path: str
    options: Mapping[str, str]
    password: str | None = None

    def __repr__(self) -> str:
        """Without the password: an error report may contain it."""
        return f"SourceAddress({self.shown!r})"


def redacted(url: str) -> str:
    """A URL without its password, for people. Any text is allowed: an invalid URL may contain a password, too."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url.rpartition("@")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0] if "@" not in rest else rest.rpartition("@")[0]
    if "@" in rest:
        user = authority.partition(":")[0]
        rest = f"{user}@{rest.rpartition('@')[2]}"
    return _HIDDEN.sub(r"\1***", f"{scheme}://{rest}")


def parse_address(url: str) -> SourceAddress:
    """Read a URL.

    Raises:
        ConfigError: it is not one of a source. The text contains no password.
    """
    shown = redacted(url)
    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower()
    if not separator:
        raise ConfigError(
            f"SOURCE: {shown[:80]!r} is not a URL; write it as one, such as sqlite:///var/lib/app/jobs.db"
        )
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ConfigError(
            f"SOURCE: {scheme[:40]!r} is not the scheme of a source{suggestion(scheme, SCHEMES)}; it is one of {known}"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(
            f"SOURCE: {shown} is not a valid URL; check its host and port, and write : / ? # @ in a password as %3A %2F %3F "
            "%23 %40"
        ) from None
    return SourceAddress(
        kind=SCHEMES[scheme],
        scheme=scheme,
        url=url,
        shown=shown,
        host=parts.hostname,
        port=port,
        user=None if parts.username is None else unquote(parts.username),
        path=unquote(parts.path),
        options=dict(parse_qsl(parts.query, keep_blank_values=True)),
        password=None if parts.password is None else unquote(parts.password),
    )
