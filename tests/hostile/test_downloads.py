"""The attacker runs a server that a worker may ask, or the name service of its name, and a submitter chooses what is asked."""

import socket
from collections.abc import Callable

import pytest

from stockworker.adapters.http import AddressRefused, FetchError, ForeignHost, HostUnreachable, PrivateAddress, fetch
from stockworker.adapters.http_hosts import Hosts, read_host, read_network
from tests.harness.http_server import Answer, HttpServer, RogueServer

LIMIT_BYTES = 100_000
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BANNERS = {
    "ssh": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    "redis": b"-ERR unknown command 'GET'\r\n",
    "smtp": b"220 mail.example ESMTP 4711\r\n",
    "almost http": b"HTTP/1.1 4711 secret\r\n\r\n",
    "another protocol": b"HTTP/4711 200 secret\r\n\r\n",
    "binary": bytes(range(256)) * 300,
}


def get(url: str, *hosts: str, timeout_s: float = 20) -> bytes:
    """Fetch from a listed server; without `hosts`, the one of the address is listed."""
    listed = hosts or (url.removeprefix("http://").partition("/")[0],)
    return fetch(url, timeout_s=timeout_s, limit_bytes=LIMIT_BYTES, hosts=Hosts(map(read_host, listed))).body


def endlessly(first: bytes, again: bytes) -> Callable[[RogueServer], None]:
    def script(server: RogueServer) -> None:
        server.send(first)
        while not server.stopped.is_set():
            server.send(again)

    return script


def dripping(first: bytes, again: bytes) -> Callable[[RogueServer], None]:
    def script(server: RogueServer) -> None:
        server.send(first)
        while not server.stopped.wait(0.02):
            server.send(again)

    return script


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\n", b"X: y\r\n"),
        (HEAD + b"X: ", b"y" * 60_000 + b"\r\nX: "),
        (HEAD, b"X: y\r\n" * 10),
        (b"", b"y" * 10),
    ],
    ids=["100 Continue", "100 Continue with headers", "headers of 100 Continue", "long headers", "headers", "no line"],
)
def test_what_comes_before_a_body_is_bounded(first: bytes, again: bytes) -> None:
    with RogueServer(endlessly(first, again)) as server, pytest.raises(FetchError):
        get(server.url)
    assert server.sent < 20_000_000  # what the sockets on both sides buffer, and no more


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"", b"H"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (HEAD, b"X"),
        (HEAD + b"Content-Length: 90000\r\n\r\n", b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED + b"1;", b"x"),
        (CHUNKED + b"0\r\n", b"X: y\r\n"),
    ],
    ids=["status", "100 Continue", "header", "body", "chunks", "extension", "trailer"],
)
def test_one_deadline_is_over_all_that_a_server_drips(first: bytes, again: bytes) -> None:
    with RogueServer(dripping(first, again)) as server, pytest.raises(HostUnreachable, match=r"timed out|too slow"):
        get(server.url, timeout_s=0.3)


def test_one_deadline_is_over_all_redirects() -> None:
    def script(server: RogueServer) -> None:
        server.send(b"HTTP/1.1 302 Found\r\nLocation: /\r\n")
        if not server.stopped.wait(0.15):
            server.send(b"\r\n")

    with RogueServer(script) as server, pytest.raises(HostUnreachable, match="timed out"):
        get(server.url, timeout_s=0.4)


def test_the_framing_of_chunks_is_bounded() -> None:
    chunk = b"1;" + b"x" * 50_000 + b"\r\ny\r\n"
    with (
        RogueServer(endlessly(CHUNKED, chunk)) as server,
        pytest.raises(AddressRefused, match="the framing of its chunks"),
    ):
        get(server.url)
    assert server.sent < 20_000_000


@pytest.mark.parametrize("banner", BANNERS.values(), ids=BANNERS)
def test_no_error_shows_what_another_service_sends(banner: bytes) -> None:
    with RogueServer(lambda server: server.send(banner)) as server, pytest.raises(FetchError) as raised:
        get(server.url)
    shown = str(raised.value).removeprefix(server.url)
    assert shown in {
        ": answered with something that is not HTTP",
        ": answered with more than 65,536 bytes before the body",
    }


def test_only_listed_ports_are_asked() -> None:
    with HttpServer() as server, RogueServer(lambda _: pytest.fail("it was asked")) as other:
        port = server.port
        server.answers["/moved"] = Answer(b"", status=302, location=other.url)
        for url in (server.url("/"), server.url("/moved"), f"http://127.0.0.1:{port + 1}/"):
            for listed in ("127.0.0.1", f"127.0.0.1:{port}"):
                if (url, listed) != (server.url("/"), f"127.0.0.1:{port}"):
                    with pytest.raises(ForeignHost, match=r"port \d+ of the host 127\.0\.0\.1 is not allowed"):
                        get(url, listed)
        assert set(server.requests) == {"/moved"}


class NameService:
    """Gives the addresses of a name, another set each time; `dialled` has those that were connected to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: tuple[str, ...]) -> None:
        self.dialled: list[str] = []
        self._answers = iter(answers)
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)
        monkeypatch.setattr(socket, "create_connection", self._connect)

    def _look_up(self, _host: str, port: int, **_named: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(self._answers)]

    def _connect(self, address: tuple[str, int], *_: object) -> socket.socket:
        self.dialled.append(address[0])
        raise ConnectionRefusedError("refused")


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "fe80::1%lo", "fd20:ce::254", "::169.254.169.254"])
def test_a_name_may_not_lead_to_this_machine_or_beside_it(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    names = NameService(monkeypatch, ("8.8.8.8", address))
    with pytest.raises(PrivateAddress):
        get("http://data.example/", "data.example")
    assert names.dialled == []


def test_the_checked_address_is_the_one_that_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    names = NameService(monkeypatch, ("8.8.8.8", "9.9.9.9"), ("127.0.0.1",))
    with pytest.raises(HostUnreachable, match="can't be reached: refused"):
        get("http://data.example/", "data.example")
    assert names.dialled == ["8.8.8.8", "9.9.9.9"]


def test_a_private_address_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = NameService(monkeypatch, ("10.1.2.3",))
    hosts = Hosts([read_host("data.example")], [read_network("10.1.0.0/16")])
    with pytest.raises(HostUnreachable):
        fetch("http://data.example/", timeout_s=20, limit_bytes=LIMIT_BYTES, hosts=hosts)
    assert names.dialled == ["10.1.2.3"]
