"""Real HTTP servers on the loopback interface: one with prepared answers, and one that sends what it likes."""

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from typing_extensions import override

from stockworker.adapters import clock


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer for one path.

    Attributes:
        claims_bytes: a wrong Content-Length.
        has_length: whether there is a Content-Length; without it, the end of the connection ends the body.
        drip: if given, the server sends the body byte by byte until this event is set.
        retry_after: the header of that name.
        etag: the validator; a request that names it gets 304.
        modified: `Last-Modified`, in the same way.
    """

    body: bytes
    status: int = 200
    content_type: str = "application/octet-stream"
    content_encoding: str = ""
    location: str = ""
    claims_bytes: int | None = None
    has_length: bool = True
    drip: threading.Event | None = None
    retry_after: str = ""
    etag: str = ""
    modified: str = ""

    def to(self, headers: Mapping[str, str]) -> "Answer":
        """This answer, or 304 if the request has its validator."""
        pairs = ((self.etag, "If-None-Match"), (self.modified, "If-Modified-Since"))
        known = any(own and headers.get(name) == own for own, name in pairs)
        return replace(self, status=304, body=b"") if known else self


class HttpServer:
    """Answers from `answers` by path, with a query or without, or with 404, and records each request in `requests` and
    `headers`, and what was posted in `bodies`.

    `limited` may give another answer to any request.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.limited: Callable[[], Answer | None] = lambda: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Request, self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def port(self) -> int:
        return self._server.server_port

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Limiter:
    """Lets `most` requests through in each period of the provider, and refuses the others with Retry-After."""

    def __init__(self, most: int, period_s: float, retry_after: str) -> None:
        self.most, self.period_s, self.retry_after = most, period_s, retry_after
        self.begun: list[float] = []
        self.refused = 0

    def __call__(self) -> Answer | None:
        now = clock.monotonic()
        self.begun = [each for each in self.begun if each > now - self.period_s]
        if len(self.begun) >= self.most:
            self.refused += 1
            return Answer(b"", status=429, retry_after=self.retry_after)
        self.begun.append(now)
        return None


class _Request(BaseHTTPRequestHandler):
    def __init__(self, owner: HttpServer, *connection: object) -> None:
        self._owner = owner
        super().__init__(*connection)  # type: ignore[arg-type]  # request, address and server, passed through

    def do_POST(self) -> None:
        self._owner.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.do_GET()

    def do_GET(self) -> None:
        self._owner.requests.append(self.path)
        self._owner.headers.append(dict(self.headers))
        plain = self.path.partition("?")[0]
        prepared = self._owner.answers.get(self.path) or self._owner.answers.get(plain, Answer(b"", status=404))
        answer = (self._owner.limited() or prepared).to(dict(self.headers))
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        length = len(answer.body) if answer.claims_bytes is None else answer.claims_bytes
        if answer.has_length:
            self.send_header("Content-Length", str(length))
        if answer.content_encoding:
            self.send_header("Content-Encoding", answer.content_encoding)
        if answer.retry_after:
            self.send_header("Retry-After", answer.retry_after)
        for name, validator in (("ETag", answer.etag), ("Last-Modified", answer.modified)):
            if validator:
                self.send_header(name, validator)
        if answer.location:
            self.send_header("Location", answer.location)
        self.end_headers()
        if answer.drip is None:
            self.wfile.write(answer.body)
            return
        for byte in answer.body:
            if answer.drip.wait(0.01):
                return
            self.wfile.write(bytes([byte]))

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the tests read `requests`."""


class RogueServer:
    """Reads a request from each connection, and sends what `script` does; `sent` counts its bytes."""

    def __init__(self, script: "Callable[[RogueServer], None]") -> None:
        self.sent = 0
        self.stopped = threading.Event()
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve)

    def send(self, content: bytes) -> None:
        assert self._connection is not None
        self._connection.sendall(content)
        self.sent += len(content)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while not self.stopped.is_set():
            with suppress(OSError):  # the peer hung up, or the test is over
                self._connection, _ = self._listener.accept()
                with self._connection:
                    self._connection.recv(65_536)
                    self._script(self)
