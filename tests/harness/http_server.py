"""Real HTTP servers on the loopback interface: one with prepared answers, and one that sends what it likes."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from typing_extensions import override


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer for one path.

    Attributes:
        claims_bytes: a wrong Content-Length.
        drip: if given, the server sends the body byte by byte until this event is set.
        retry_after: the header of that name.
    """

    body: bytes
    status: int = 200
    content_type: str = "application/octet-stream"
    content_encoding: str = ""
    location: str = ""
    claims_bytes: int | None = None
    drip: threading.Event | None = None
    retry_after: str = ""


class HttpServer:
    """Answers from `answers` by path, or with 404, and records each request in `requests` and `headers`.

    `limited` may give another answer to any request.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
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


class _Request(BaseHTTPRequestHandler):
    def __init__(self, owner: HttpServer, *connection: object) -> None:
        self._owner = owner
        super().__init__(*connection)  # type: ignore[arg-type]  # request, address and server, passed through

    def do_GET(self) -> None:
        self._owner.requests.append(self.path)
        self._owner.headers.append(dict(self.headers))
        prepared = self._owner.answers.get(self.path.partition("?")[0], Answer(b"", status=404))
        answer = self._owner.limited() or prepared
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        length = len(answer.body) if answer.claims_bytes is None else answer.claims_bytes
        self.send_header("Content-Length", str(length))
        if answer.content_encoding:
            self.send_header("Content-Encoding", answer.content_encoding)
        if answer.retry_after:
            self.send_header("Retry-After", answer.retry_after)
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
