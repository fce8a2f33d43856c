"""Fetch over HTTP, bounded in time and size, and only from the named hosts."""

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Collection
from contextlib import closing
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from stockworker import __version__
from stockworker.adapters import clock, compression
from stockworker.errors import StockworkerError

_CHUNK_BYTES: Final = 65_536
_MAX_REDIRECTS: Final = 5
_MOVED: Final = {301, 302, 303, 307, 308}  # RFC 9110, section 15.4
_TRY_AGAIN: Final = {408, 425, 429}  # time-out, too early, too many requests: RFC 9110, RFC 8470, RFC 6585

_CLOUD_METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"))
)
"""Addresses at which clouds give credentials to any process of a machine: AWS over IPv6, Alibaba, Azure and Oracle. Most
others use the link-local 169.254.169.254."""


class FetchError(StockworkerError):
    """The fetch failed. The text names the address without its query, which may contain a key."""

    def __init__(self, url: str, reason: str, *, retryable: bool) -> None:
        super().__init__(f"{_shown(url)}: {reason}")
        self.retryable = retryable


class HostUnreachable(FetchError):
    """There was no answer, or an incomplete one. A later attempt may succeed."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason, retryable=True)


class HttpStatus(FetchError):
    """The server answered with an error; `retryable` if the server is at fault, or asks for a later attempt."""

    def __init__(self, url: str, status: int) -> None:
        phrase = http.client.responses.get(status, "unknown status")
        super().__init__(url, f"answered {status} {phrase}", retryable=status >= 500 or status in _TRY_AGAIN)  # noqa: PLR2004 (5xx is the server's fault: RFC 9110, section 15.6)
        self.status = status


class AddressRefused(FetchError):
    """The fetch is not allowed: a wrong scheme or host, an invalid address, or too large an answer."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason, retryable=False)


class ForeignHost(AddressRefused):
    """The address, or the target of a redirect, is on a host that is not allowed."""


def fetch(url: str, *, timeout_s: float, limit_bytes: int, hosts: Collection[str]) -> bytes:
    """Get the body of `url`. Follows redirects, but never from HTTPS to HTTP, and ignores proxies in the environment.

    Args:
        url: an http or https address.
        timeout_s: limit for the connection, for each wait, and for the whole answer.
        limit_bytes: largest size of the body, packed or unpacked.
        hosts: names and addresses, in lower case, that are allowed, for redirects too. A name that resolves to a
            link-local address, or to one with a cloud's credentials, is refused: list the address itself.

    Raises:
        HostUnreachable: no answer, or an incomplete one.
        HttpStatus: an answer other than 2xx.
        ForeignHost: the host is not in `hosts`, or resolves to an address that must be listed itself.
        AddressRefused: the address or the size is not allowed.
    """
    deadline = clock.monotonic() + timeout_s
    secure_only = False
    for _ in range(_MAX_REDIRECTS + 1):
        parts = _checked(url, hosts, secure_only=secure_only)
        try:
            with closing(_Connection(parts, timeout_s)) as connection, connection.ask(parts) as answer:
                if answer.status not in _MOVED:
                    return _read(url, answer, deadline, limit_bytes)
                url = urljoin(url, answer.headers.get("Location", ""))
        except _HiddenAddress as error:
            raise ForeignHost(url, str(error)) from error
        except ValueError as error:  # UnicodeError from a host name, InvalidURL
            raise AddressRefused(url, f"no valid address: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            raise HostUnreachable(url, f"can't be reached: {str(error) or type(error).__name__}") from error
        secure_only = parts.scheme == "https"
    raise AddressRefused(url, f"more than {_MAX_REDIRECTS} redirects")


def _checked(url: str, hosts: Collection[str], *, secure_only: bool) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise AddressRefused(url, f"no valid address: {error}") from error
    if not url.isascii() or not url.isprintable() or " " in url or not host:
        raise AddressRefused(url, "no valid address: percent-encode what is not plain ASCII")
    if parts.scheme not in {"http", "https"}:
        raise AddressRefused(url, "only http and https are fetched")
    if secure_only and parts.scheme == "http":
        raise AddressRefused(url, "redirected from https to http")
    if parts.username is not None:
        raise AddressRefused(url, "a user name in the address is not supported")
    if host not in hosts:
        raise ForeignHost(url, f"the host {host} is not allowed")
    return parts


class _HiddenAddress(Exception):
    """A name resolves to an address that must be listed itself."""


class _Connection(http.client.HTTPConnection):
    """A connection to one host, over TLS for https. It checks each address of a name before it connects."""

    def __init__(self, parts: SplitResult, timeout_s: float) -> None:
        self._secure = parts.scheme == "https"
        self.default_port = http.client.HTTPS_PORT if self._secure else http.client.HTTP_PORT
        super().__init__(parts.hostname or "", parts.port or self.default_port, timeout=timeout_s)
        self._timeout_s = timeout_s

    def connect(self) -> None:
        plain = self._dial()
        context = ssl.create_default_context() if self._secure else None
        self.sock = plain if context is None else context.wrap_socket(plain, server_hostname=self.host)

    def ask(self, parts: SplitResult) -> http.client.HTTPResponse:
        target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        headers = {"User-Agent": f"stockworker/{__version__}", "Accept-Encoding": "gzip", "Connection": "close"}
        self.request("GET", target, headers=headers)
        return self.getresponse()

    def _dial(self) -> socket.socket:
        failure: OSError | None = None
        for *_, address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            found = str(address[0])
            if found != self.host and _hands_out_credentials(found):
                raise _HiddenAddress(f"the host {self.host} leads to {found}, which must be listed itself")
            try:
                return socket.create_connection((found, self.port), self._timeout_s)
            except OSError as error:
                failure = error
        raise failure or OSError("the host has no address")


def _hands_out_credentials(address: str) -> bool:
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.is_link_local or found in _CLOUD_METADATA


def _read(url: str, answer: http.client.HTTPResponse, deadline: float, limit_bytes: int) -> bytes:
    if not 200 <= answer.status < 300:  # noqa: PLR2004 (2xx is success: RFC 9110, section 15.3)
        raise HttpStatus(url, answer.status)
    body = bytearray()
    while chunk := answer.read1(_CHUNK_BYTES):
        body += chunk
        if len(body) > limit_bytes:
            raise AddressRefused(url, f"larger than {limit_bytes:,} bytes")
        if clock.monotonic() > deadline:
            raise HostUnreachable(url, f"too slow: {len(body):,} bytes so far")
    if answer.length:  # read1 does not distinguish an incomplete answer from a complete one
        raise HostUnreachable(url, f"broke off {answer.length:,} bytes before the end")
    return _decoded(url, bytes(body), answer.headers.get("Content-Encoding", ""), limit_bytes)


def _decoded(url: str, body: bytes, encoding: str, limit_bytes: int) -> bytes:
    if encoding.lower() in {"", "identity"}:
        return body
    if encoding.lower() not in {"gzip", "x-gzip"}:
        raise AddressRefused(url, f"answered in the encoding {encoding}, which was not requested")
    try:
        return compression.unpack(body, limit_bytes)
    except compression.Damaged as error:
        raise HostUnreachable(url, str(error)) from error
    except compression.TooLarge as error:
        raise AddressRefused(url, str(error)) from error


def _shown(url: str) -> str:
    """Leave out the parts that may be secret: user, password, query."""
    address = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"[:200]
