"""Fetching from a real HTTP server on the loopback interface."""

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from stockworker.adapters.http import (
    AddressRefused,
    FetchError,
    ForeignHost,
    HostUnreachable,
    HttpStatus,
    PrivateAddress,
    fetch,
)
from stockworker.adapters.http_hosts import Hosts, read_host
from tests.harness.http_server import Answer, HttpServer


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as running:
        yield running


def allowed(*hosts: str) -> Hosts:
    return Hosts(map(read_host, hosts))


def get(url: str, limit_bytes: int = 1_000_000, timeout_s: float = 10, hosts: Hosts | None = None) -> bytes:
    """Fetch; the host of the address is allowed unless the test is about that."""
    return fetch(
        url,
        timeout_s=timeout_s,
        limit_bytes=limit_bytes,
        hosts=allowed(urlsplit(url).netloc) if hosts is None else hosts,
    ).body


def test_a_body_arrives_with_its_type(server: HttpServer) -> None:
    server.answers["/bars"] = Answer(b"[1, 2]", content_type="Application/JSON; charset=utf-8")
    assert get(server.url("/bars?since=2013-03-01")) == b"[1, 2]"
    assert server.requests == ["/bars?since=2013-03-01"]


def test_a_packed_body_is_unpacked(server: HttpServer) -> None:
    packed = gzip.compress(b"first,") + gzip.compress(b"second")
    server.answers["/bars"] = Answer(packed, content_encoding="gzip")
    assert get(server.url("/bars")) == b"first,second"


def test_a_bomb_is_refused_before_it_is_unpacked(server: HttpServer) -> None:
    server.answers["/bars"] = Answer(gzip.compress(bytes(10_000_000)), content_encoding="gzip")
    with pytest.raises(AddressRefused, match="larger than 1,000,000 bytes when unpacked"):
        get(server.url("/bars"))


def test_too_large_an_answer_is_refused(server: HttpServer) -> None:
    server.answers["/bars"] = Answer(bytes(1001))
    assert len(get(server.url("/bars"), limit_bytes=1001)) == 1001
    with pytest.raises(AddressRefused, match="larger than 1,000 bytes"):
        get(server.url("/bars"), limit_bytes=1000)


@pytest.mark.parametrize("body", [b"\x1f\x8bnothing", gzip.compress(bytes(1000), mtime=0)[:-9], b"plain"])
def test_damaged_packed_data_may_work_later(server: HttpServer, body: bytes) -> None:
    server.answers["/bars"] = Answer(body, content_encoding="gzip")
    with pytest.raises(HostUnreachable, match="gzip data"):
        get(server.url("/bars"))


@pytest.mark.parametrize(
    ("status", "retryable"), [(400, False), (404, False), (408, True), (429, True), (500, True), (503, True)]
)
def test_a_status_says_whether_to_try_again(server: HttpServer, status: int, *, retryable: bool) -> None:
    server.answers["/bars"] = Answer(b"", status=status)
    with pytest.raises(HttpStatus, match=f"answered {status} ") as raised:
        get(server.url("/bars"))
    assert (raised.value.status, raised.value.retryable) == (status, retryable)


def test_an_error_does_not_give_away_the_query(server: HttpServer) -> None:
    with pytest.raises(HttpStatus) as raised:
        get(server.url("/bars?key=secret"))
    assert str(raised.value) == f"{server.url('/bars')}: answered 404 Not Found"


def test_nobody_listens() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(HostUnreachable, match="Connection refused"):
        get(f"http://127.0.0.1:{port}/")


def test_a_silent_server_is_given_up() -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as silent,
        pytest.raises(HostUnreachable, match="timed out"),
    ):
        get(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.1)


def test_a_server_that_drips_is_given_up(server: HttpServer) -> None:
    released = threading.Event()
    server.answers["/bars"] = Answer(bytes(1000), drip=released)
    try:
        with pytest.raises(HostUnreachable, match=r"too slow: \d+ bytes so far"):
            get(server.url("/bars"), timeout_s=0.3)
    finally:
        released.set()


def test_an_answer_that_breaks_off_may_work_later(server: HttpServer) -> None:
    server.answers["/bars"] = Answer(b"half", claims_bytes=8)
    with pytest.raises(HostUnreachable, match="broke off 4 bytes before the end"):
        get(server.url("/bars"))


def test_a_redirect_is_followed(server: HttpServer) -> None:
    server.answers["/old"] = Answer(b"", status=302, location="/new?x=1")
    server.answers["/new"] = Answer(b"here")
    assert get(server.url("/old")) == b"here"


def test_a_circle_of_redirects_ends(server: HttpServer) -> None:
    server.answers["/"] = Answer(b"", status=307, location="/")
    with pytest.raises(AddressRefused, match="more than 5 redirects"):
        get(server.url("/"))


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/", "//"])
def test_a_redirect_out_of_http_is_refused(server: HttpServer, location: str) -> None:
    server.answers["/"] = Answer(b"", status=301, location=location)
    with pytest.raises(AddressRefused):
        get(server.url("/"))


def test_a_redirect_to_a_host_that_is_not_allowed_is_refused(server: HttpServer) -> None:
    server.answers["/"] = Answer(b"", status=301, location=f"http://localhost:{server.port}/new")
    with pytest.raises(ForeignHost, match="the host localhost is not allowed"):
        get(server.url("/"), hosts=allowed(f"127.0.0.1:{server.port}"))
    assert server.requests == ["/"]


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fd00:ec2::254", "127.0.0.1", "10.1.2.3", "64:ff9b::a9fe:a9fe", "::ffff:10.1.2.3"]
)
def test_a_name_that_leads_to_where_clouds_keep_credentials_is_refused(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 80)) for each in ("8.8.8.8", address)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: answer)
    monkeypatch.setattr(socket, "create_connection", lambda *_args, **_named: pytest.fail("it was dialled"))
    with pytest.raises(
        PrivateAddress, match=f"the host data.example leads to {address}, which is not a public address"
    ):
        get("http://data.example/")


def test_such_an_address_is_asked_if_it_is_listed_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def dial(address: tuple[str, int], *_args: object) -> socket.socket:
        raise ConnectionRefusedError(f"dialled {address[0]}")

    monkeypatch.setattr(socket, "create_connection", dial)
    with pytest.raises(HostUnreachable, match=r"dialled 169\.254\.169\.254"):
        get("http://169.254.169.254/")


def test_proxies_of_the_environment_are_ignored(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.answers["/"] = Answer(b"direct")
    assert get(server.url("/")) == b"direct"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bars.csv",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://",
        "http:///path",
        "http://[::1",
        "http://127.0.0.1:port/",
        "http://127.0.0.1:99999/",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nX: y",
        "http://127.0.0.1/é",
        "http://" + "a" * 64 + ".example/",
        "http://a..example/",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused) as raised:
        get(url, timeout_s=1, hosts=allowed("127.0.0.1"))
    assert "secret" not in str(raised.value)
    assert isinstance(raised.value, FetchError)
