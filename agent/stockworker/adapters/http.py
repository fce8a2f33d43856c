"""Fetch and send over HTTP, bounded in time and size, and only from and to the named hosts."""

# A server may be hostile, or none of HTTP's. So one deadline covers everything from the connection to the last byte of
# the last redirect, and every byte is counted: those before the body, whether in headers or in any number of interim
# answers, and those around the parts of a chunked body. No error text shows what a server sends, except the address of a
# redirect: a job could otherwise ask any service and read its greeting.

import http.client
import io
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from stockworker import __version__
from stockworker.adapters import clock, compression
from stockworker.adapters.http_hosts import STANDARD_PORTS, Hosts
from stockworker.errors import StockworkerError
from stockworker.protocol.frozen import dataclass

_CHUNK_BYTES: Final = 65_536
_MOST_HEAD_BYTES: Final = 65_536
_MOST_REDIRECTS: Final = 5
_LONGEST_VALIDATOR: Final = 1_000
_MOVED: Final = {301, 302, 303, 307, 308}  # RFC 9110, section 15.4
_TRY_AGAIN: Final = {408, 425, 429}  # time-out, too early, too many requests: RFC 9110, RFC 8470, RFC 6585


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

    def __init__(self, url: str, status: int, retry_after_s: float | None = None) -> None:
        phrase = http.client.responses.get(status, "unknown status")
        super().__init__(url, f"answered {status} {phrase}", retryable=status >= 500 or status in _TRY_AGAIN)  # noqa: PLR2004 (5xx is the server's fault: RFC 9110, section 15.6)
        self.status = status
        self.retry_after_s = retry_after_s


class AddressRefused(FetchError):
    """The fetch is not allowed: a wrong scheme or host, an invalid address, or too large an answer."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason, retryable=False)


class ForeignHost(AddressRefused):
    """The address, or the target of a redirect, is on a host or port that is not allowed."""


class PrivateAddress(AddressRefused):
    """The name of an allowed host leads to an address that is not public, and not allowed."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer.

    Attributes:
        body: its content.
        charset: the encoding of its text, if the server has named one.
        etag: its validator (RFC 9110, section 8.8.3); empty without one.
        modified: its `Last-Modified`; empty without one.
        whole: whether it is known to be complete. Without a length, an answer that breaks off looks like another one.
    """

    body: bytes
    charset: str | None
    etag: str = ""
    modified: str = ""
    whole: bool = True


def fetch(
    url: str, *, timeout_s: float, limit_bytes: int, hosts: Hosts, headers: Mapping[str, str] | None = None
) -> Fetched:
    """Get the body of `url`. Follows redirects, but never from HTTPS to HTTP, and ignores proxies in the environment.

    Args:
        url: an http or https address.
        timeout_s: limit for everything together, redirects included. Only a slow resolver may add its own time-out.
        limit_bytes: largest size of the body, packed or unpacked.
        hosts: what may be asked, by redirects too.
        headers: more headers of the request, in printable ASCII. Redirects to another host or port don't get them.

    Raises:
        HostUnreachable: no answer, or an incomplete one.
        HttpStatus: an answer other than 2xx.
        ForeignHost: the host or the port is not allowed.
        PrivateAddress: the name of the host leads to an address that is not public, and not allowed.
        AddressRefused: the address or the size is not allowed.
    """
    deadline = clock.monotonic() + timeout_s
    secure_only, origin = False, ""
    for _ in range(_MOST_REDIRECTS + 1):
        parts = _checked(url, hosts, secure_only=secure_only)
        with closing(_connect(url, parts, hosts, deadline)) as connection:
            origin = origin or parts.netloc
            own = headers or {} if parts.netloc == origin else {}
            answer = _ask(url, parts, connection, deadline, own)
            if answer.status not in _MOVED:
                return _fetched(url, answer, limit_bytes)
            target = answer.headers.get("Location", "")
        try:
            url = urljoin(url, target)
        except ValueError:
            raise AddressRefused(url, "redirected to something that is not a valid address") from None
        secure_only = parts.scheme == "https"
    raise AddressRefused(url, f"more than {_MOST_REDIRECTS} redirects")


def post(url: str, body: bytes, *, timeout_s: float, hosts: Hosts) -> None:
    """Send JSON to `url`, and ignore the content of the answer. Follows no redirect.

    Arguments and errors are those of `fetch`.
    """
    deadline = clock.monotonic() + timeout_s
    parts = _checked(url, hosts, secure_only=False)
    with closing(_connect(url, parts, hosts, deadline)) as connection:
        answer = _ask(url, parts, connection, deadline, {"Content-Type": "application/json"}, body)
        _check_status(url, answer)


def _checked(url: str, hosts: Hosts, *, secure_only: bool) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise AddressRefused(url, f"no valid address: {error}") from error
    if not url.isascii() or not url.isprintable() or " " in url or not host:
        raise AddressRefused(url, "no valid address: percent-encode what is not plain ASCII")
    if parts.scheme not in STANDARD_PORTS:
        raise AddressRefused(url, "only http and https are fetched")
    if secure_only and parts.scheme == "http":
        raise AddressRefused(url, "redirected from https to http")
    if parts.username is not None:
        raise AddressRefused(url, "a user name in the address is not supported")
    refusal = hosts.refusal(host, STANDARD_PORTS[parts.scheme] if port is None else port)
    if refusal is not None:
        raise ForeignHost(url, refusal)
    return parts


def _connect(url: str, parts: SplitResult, hosts: Hosts, deadline: float) -> socket.socket:
    """Connect to an address of the host, over TLS for https. All its addresses are checked, and none is looked up again."""
    host, port = parts.hostname or "", parts.port or STANDARD_PORTS[parts.scheme]
    try:
        found = [str(address[0]) for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except UnicodeError as error:
        raise AddressRefused(url, f"no valid address: {error}") from error
    except OSError as error:
        raise HostUnreachable(url, f"can't be reached: {error}") from error
    for address in found:
        if not hosts.may_lead_to(host, address):
            raise PrivateAddress(url, f"the host {host} leads to {address}, which is not a public address")
    failure = OSError("the host has no address")
    for address in found:
        try:
            return _open(address, port, host if parts.scheme == "https" else None, deadline)
        except OSError as error:
            failure = error
    raise HostUnreachable(url, f"can't be reached: {str(failure) or type(failure).__name__}") from failure


def _open(address: str, port: int, tls_name: str | None, deadline: float) -> socket.socket:
    plain = socket.create_connection((address, port), _remaining(deadline))
    if tls_name is None:
        return plain
    try:
        context = ssl.create_default_context()
        context.hostname_checks_common_name = False
        plain.settimeout(_remaining(deadline))
        return context.wrap_socket(plain, server_hostname=tls_name)
    except BaseException:
        plain.close()
        raise


def _ask(
    url: str,
    parts: SplitResult,
    connection: socket.socket,
    deadline: float,
    headers: Mapping[str, str],
    body: bytes | None = None,
) -> "_Answer":
    """Send the request, and read the status and the headers of the answer."""
    request = _request(parts, headers, body)
    try:
        connection.settimeout(_remaining(deadline))
        connection.sendall(request)
        answer = _Answer(_Arrivals(connection, deadline, _MOST_HEAD_BYTES))
        answer.begin()
    except TimeoutError as error:
        raise HostUnreachable(url, "can't be reached: timed out before its answer began") from error
    except _TooMuch as error:
        raise AddressRefused(url, f"answered with more than {_MOST_HEAD_BYTES:,} bytes before the body") from error
    except http.client.RemoteDisconnected as error:
        raise HostUnreachable(url, "closed the connection without an answer") from error
    except (http.client.HTTPException, ValueError):
        raise HostUnreachable(url, "answered with something that is not HTTP") from None
    except OSError as error:
        raise HostUnreachable(url, f"can't be reached: {str(error) or type(error).__name__}") from error
    return answer


def _request(parts: SplitResult, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """The bytes of a request: with a body, a POST."""
    target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    sent = {
        "Host": parts.netloc,
        "User-Agent": f"stockworker/{__version__}",
        **headers,
        **({} if body is None else {"Content-Length": str(len(body))}),
        "Accept-Encoding": "gzip",
        "Connection": "close",
    }
    first = f"{'GET' if body is None else 'POST'} {target} HTTP/1.1"
    lines = (first, *(f"{name}: {value}" for name, value in sent.items()))
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii") + (body or b"")


def _remaining(deadline: float) -> float:
    """Seconds until the deadline.

    Raises:
        TimeoutError: it has passed.
    """
    remaining = deadline - clock.monotonic()
    if remaining <= 0:
        raise TimeoutError("timed out")
    return remaining


class _TooMuch(Exception):
    """The server has sent more bytes than are allowed."""


class _Arrivals(io.RawIOBase):
    """What the server sends: until the deadline, and at most `most` bytes."""

    def __init__(self, connection: socket.socket, deadline: float, most: int) -> None:
        self._connection = connection
        self._deadline = deadline
        self.most = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.most <= 0:
            raise _TooMuch
        self._connection.settimeout(_remaining(self._deadline))
        count = self._connection.recv_into(memoryview(buffer)[: self.most])
        self.most -= count
        return count

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Be the socket of an `http.client.HTTPResponse`."""
        return io.BufferedReader(self)


class _Answer(http.client.HTTPResponse):
    """An answer, whose body may be read once its head was."""

    def __init__(self, arrivals: _Arrivals) -> None:
        super().__init__(arrivals, method="GET")  # type: ignore[arg-type]  # of a socket, it uses makefile alone
        self.arrivals = arrivals


def _check_status(url: str, answer: _Answer) -> None:
    if not 200 <= answer.status < 300:  # noqa: PLR2004 (2xx is success: RFC 9110, section 15.3)
        raise HttpStatus(url, answer.status, _retry_after_s(answer.headers.get("Retry-After", "")))


def _read(url: str, answer: _Answer, limit_bytes: int) -> bytes:
    _check_status(url, answer)
    # A chunked body is at most as long again by its framing, if its server is serious: eight bytes for each chunk.
    answer.arrivals.most = 2 * limit_bytes + _MOST_HEAD_BYTES
    body = bytearray()
    try:
        while chunk := answer.read1(_CHUNK_BYTES):
            body += chunk
            if len(body) > limit_bytes:
                raise AddressRefused(url, f"larger than {limit_bytes:,} bytes")
    except TimeoutError as error:
        raise HostUnreachable(url, f"too slow: {len(body):,} bytes so far") from error
    except _TooMuch as error:
        raise AddressRefused(url, f"larger than {limit_bytes:,} bytes, with the framing of its chunks") from error
    except (OSError, http.client.HTTPException, ValueError, OverflowError):  # the last: a chunk of 2^63 bytes
        raise HostUnreachable(url, f"broke off after {len(body):,} bytes") from None
    if answer.length:  # read1 does not distinguish an incomplete answer from a complete one
        raise HostUnreachable(url, f"broke off {answer.length:,} bytes before the end")
    return _decoded(url, bytes(body), answer.headers.get("Content-Encoding", ""), limit_bytes)


def _fetched(url: str, answer: _Answer, limit_bytes: int) -> Fetched:
    etag, modified = (_validator(answer, name) for name in ("ETag", "Last-Modified"))
    charset, whole = answer.headers.get_content_charset(), _has_length(answer)
    return Fetched(_read(url, answer, limit_bytes), charset, etag, modified, whole)


def _has_length(answer: _Answer) -> bool:
    """Whether the end of the body shows that it is complete: by its length, its last chunk, or the end of gzip data."""
    return answer.chunked or answer.length is not None or "Content-Encoding" in answer.headers


def _validator(answer: _Answer, name: str) -> str:
    """A header that a later request may send back; empty if it is missing, or nothing that a request may contain."""
    text = answer.headers.get(name, "")
    return text if text.isascii() and text.isprintable() and len(text) <= _LONGEST_VALIDATOR else ""


def _retry_after_s(text: str) -> float | None:
    """The seconds that a server asks to wait: RFC 9110, section 10.2.3."""
    if text.isascii() and text.isdigit() and len(text) < 10:  # noqa: PLR2004 (more digits are longer than a century)
        return float(text)
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - clock.wall())
    return None


def _decoded(url: str, body: bytes, encoding: str, limit_bytes: int) -> bytes:
    if encoding.lower() in {"", "identity"}:
        return body
    if encoding.lower() not in {"gzip", "x-gzip"}:
        raise AddressRefused(url, "answered in an encoding that was not requested; only gzip is")
    try:
        return compression.unpack_gzip(body, limit_bytes)
    except compression.Damaged as error:
        raise HostUnreachable(url, str(error)) from error
    except compression.TooLarge as error:
        raise AddressRefused(url, str(error)) from error


def _shown(url: str) -> str:
    """Leave out the parts that may be secret: user, password, query."""
    address = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    shown = f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"[:200]
    return ascii(shown)[1:-1]  # a redirect may hold anything
