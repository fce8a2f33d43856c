"""Mosquitto's command-line tools: `mosquitto_pub`, and `mosquitto_sub` with its output."""

import subprocess
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.harness.broker import Broker
from tests.harness.waiting import wait_until

_TIMEOUT_S = 30.0


def options(broker: Broker, name: str) -> list[str]:
    """The options for the broker and the client certificate."""
    identity = broker.identity(name)
    files = ["--cafile", str(broker.ca_file), "--cert", str(identity.certificate), "--key", str(identity.key)]
    return ["-h", broker.host, "-p", str(broker.port), *files]


def publish(broker: Broker, name: str, topic: str, message: str | bytes, *more: str) -> None:
    """Publish with QoS 1; return when the broker has acknowledged."""
    body = message.encode() if isinstance(message, str) else message
    command = ["mosquitto_pub", *options(broker, name), "-V", "5", "-q", "1", "-t", topic, "-s", *more]
    subprocess.run(command, input=body, check=True, timeout=_TIMEOUT_S)


class Watcher:
    """`mosquitto_sub -v` while the context lasts; `lines` is its output so far."""

    def __init__(self, broker: Broker, name: str, topic: str) -> None:
        # -d prints when the subscription is granted; stdbuf makes it print immediately. No topic contains a blank.
        command = ["mosquitto_sub", *options(broker, name), "-V", "5", "-q", "1", "-v", "-d", "-t", topic]
        self._command = ["stdbuf", "-oL", *command]
        self._debug: list[str] = []
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            wait_until(lambda: any(line.startswith("Subscribed") for line in self._debug), " ".join(self._command))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def wait_for(self, *starts: str) -> None:
        """Wait until each of the given beginnings occurs."""
        wait_until(lambda: all(self.found(start) for start in starts), f"lines {starts} among {self.lines[-20:]}")

    def found(self, start: str) -> Sequence[str]:
        """The lines with this beginning."""
        return [line for line in self.lines if line.startswith(start)]

    def _stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            kept = self._debug if line.startswith(("Client ", "Subscribed")) else self.lines
            kept.append(line.removesuffix("\n"))
