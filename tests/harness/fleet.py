"""A whole system on loopback: a real broker with TLS, a dispatcher and workers, each a process of its own."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from stockworker.adapters import clock
from stockworker.broker.acl import acl
from stockworker.broker.configuration import Profile
from stockworker.client import Client, link_settings
from stockworker.config import load
from stockworker.protocol.ids import ClientId, JobId, full_id
from tests.harness.broker import SITE, Broker
from tests.harness.proxy import Proxy
from tests.harness.service_manager import ServiceManager
from tests.harness.waiting import wait_until

TIMEOUT_S = 30.0
HANDLERS = Path(__file__).resolve().parent
"""Where workers import handlers from: ``job_handlers:echo``."""


def python_handlers(*names: str) -> dict[str, Any]:
    """The configuration of job types that functions of the same names in `tests.harness.job_handlers` run."""
    return {name: {"python": f"job_handlers:{name}"} for name in names}


class ServiceFailed(Exception):
    """A service did not start, log or exit as expected; the text ends with its log."""


class Service:
    """One service: its current process, and its log over all restarts."""

    def __init__(self, name: str, command: Sequence[str], log_file: Path) -> None:
        self.name = name
        self.command = command
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None
        self.manager: ServiceManager | None = None
        """The service manager that starts and watches it, if any."""

    @property
    def log(self) -> str:
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServiceFailed(f"{self.name} does not run")
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        if self.alive:
            raise ServiceFailed(f"{self.name} runs already")
        environment = None if self.manager is None else os.environ | self.manager.environment
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def events(self, event: str) -> list[dict[str, Any]]:
        """The log lines with one event of `stockworker.logs.events`."""
        whole = self.log.rpartition("\n")[0]  # the last line may be incomplete
        lines = (json.loads(line) for line in whole.splitlines() if line.startswith("{"))
        return [line for line in lines if line.get("event") == event]

    def await_event(self, event: str, times: int = 1, **fields: object) -> dict[str, Any]:
        """Wait until an event with these fields has been logged `times` times; return the last one."""

        def logged() -> list[dict[str, Any]]:
            return [line for line in self.events(event) if fields.items() <= line.items()]

        try:
            wait_until(lambda: len(logged()) >= times, f"{self.name} logs {event} {fields} {times} times", TIMEOUT_S)
        except TimeoutError as error:
            raise ServiceFailed(f"{error}:\n{self.log[-4000:]}") from None
        return logged()[-1]

    def await_log(self, text: str, times: int = 1) -> None:
        """Wait until the log contains a text `times` times."""
        deadline = clock.monotonic() + TIMEOUT_S
        while self.log.count(text) < times:
            if clock.monotonic() > deadline or not self.alive:
                raise ServiceFailed(f"{self.name} has not logged {text!r} {times} times:\n{self.log[-4000:]}")
            time.sleep(0.01)

    def kill(self) -> int:
        """Send SIGKILL to this process, not to its children; return the exit status."""
        return self._end(signal.SIGKILL)

    def stop(self, timeout_s: float = TIMEOUT_S) -> int:
        """Send SIGTERM; return the exit status."""
        return self._end(signal.SIGTERM, timeout_s)

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        """Wait until the process exits by itself; return the exit status."""
        process, self._process = self._process, None
        return 0 if process is None else self._await_end(process, "was to end", timeout_s)

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def _end(self, number: signal.Signals, timeout_s: float = TIMEOUT_S) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return self._await_end(process, f"ignored {number.name}", timeout_s)

    def _await_end(self, process: subprocess.Popen[bytes], problem: str, timeout_s: float) -> int:
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServiceFailed(f"{self.name} {problem}:\n{self.log[-4000:]}") from None


def owned(job_id: str, owner: str = "client") -> str:
    """The full ID of a job as services log and store it: that of a client called `client`, unless it names its owner."""
    return full_id(JobId(job_id), ClientId(owner))


class Fleet:
    """Broker, dispatcher and workers in one folder; all are stopped when the context is left.

    Args:
        folder: keeps all files of the fleet; no other part of a test may use it.
        workers: the number of workers.
        settings: added to the configuration of every participant, below ``job_processor``.
        personal: returns what to add to the configuration of one participant, given its name.
        operators: the names with the rights of an operator.
        clients: the names that may submit.
        port: the broker's; a free one unless given.
        proxied: each participant reaches the broker through its own proxy, see `proxies`.
        keepalive_s: the keepalive of MQTT; the default of the configuration unless given.
        profile: the kind of broker. With `Profile.BRIDGE` workers and clients use that broker, called `site`, and
            the dispatcher the central one.
        passwords: participants authenticate by a password instead of a certificate.
        watchdog_s: each service has a `manager` that expects a ping within this time; no manager unless given.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 2,
        settings: Mapping[str, Any] | None = None,
        personal: Callable[[str], Mapping[str, Any]] = lambda _identity: {},
        operators: Sequence[str] = ("operator",),
        clients: Sequence[str] = ("client",),
        port: int | None = None,
        proxied: bool = False,
        keepalive_s: float | None = None,
        profile: Profile = Profile.PRODUCTION,
        passwords: bool = False,
        watchdog_s: float | None = None,
        broker_changes: dict[str, str | None] | None = None,
    ) -> None:
        self.folder = folder
        self.proxies: dict[str, Proxy] = {}
        self._proxied = proxied
        self._connection = {} if keepalive_s is None else {"keepalive": keepalive_s}
        self._settings = dict(settings or {})
        self._personal = personal
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "broker").mkdir(exist_ok=True)
        bridged = profile is Profile.BRIDGE
        self.encrypted = profile is not Profile.DEVELOPMENT
        self.broker = Broker(
            folder / "broker",
            acl=acl(operators=operators, clients=clients, bridges={SITE: ()} if bridged else {}),
            changes=broker_changes,
            port=port,
            profile=Profile.WAN if bridged else profile,
            passwords=passwords,
        )
        self._passwords = passwords
        self.site = (
            Broker(folder / "site", acl=acl(clients=clients), profile=profile, central=self.broker)
            if bridged
            else self.broker
        )
        self.market_data = folder / "market.sqlite3"
        (folder / "dispatcher").mkdir(exist_ok=True)
        self.job_store = folder / "dispatcher" / "jobs.sqlite3"
        self.dispatcher = self._service("dispatcher", "dispatcher", "dispatcher")
        self.workers = [
            self._service(f"worker-{number}", f"host-{number}", "worker", "--instance", str(number))
            for number in range(1, workers + 1)
        ]
        self._watchdog_s = watchdog_s
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        self._exits.enter_context(self.broker)
        try:
            if self.site is not self.broker:
                self._exits.enter_context(self.site)
            for service, identity in self._identities.items():
                self.config_file(identity)
                if self._watchdog_s is not None:
                    service.manager = self._exits.enter_context(ServiceManager(self._watchdog_s))
                self._exits.callback(service.kill)
                service.start()
            for service in self._identities:
                service.await_log("connected to the broker")
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def client(self, name: str = "client", **options: Any) -> Client:
        """A client with a certificate of its own."""
        config = load(self.config_file(name))
        return Client(link_settings(config, name), ClientId(name), **({"encryption": config.encryption} | options))

    def command(self, identity: str, *words: str) -> Service:
        """A command of a participant that has a certificate, not yet started; its log is its output."""
        self.config_file(identity)
        return self._service(identity, identity, *words)

    @property
    def services(self) -> dict[str, Service]:
        """Dispatcher and workers by their identities."""
        return {identity: service for service, identity in self._identities.items()}

    def config_file(self, identity: str) -> Path:
        """The configuration of one participant, written when first asked for."""
        path = self.folder / f"{identity}.yml"
        if not path.exists():
            sections: dict[str, dict[str, Any]] = {
                "queue": {
                    "backend": "mqtt",
                    "mqtt": {
                        "host": "localhost" if self.encrypted else self.broker.host,
                        "port": self._port(identity),
                        **self._connection,
                    },
                },
                "worker": {
                    "id": identity,
                    "journal": str(self.journal(identity)),
                    "handler_paths": [str(HANDLERS)],
                },
                "dispatcher": {"store": str(self.job_store)},
                "market_data": {"location": str(self.market_data)},
                "client": {"id": identity},
                "log": {"format": "json"},
            }
            if self._passwords:
                sections["tls"] = {"ca_file": str(self.broker.ca_file)}
                own = {"username": identity, "password_file": str(self.broker.password(identity))}
                sections["queue"]["mqtt"].update(own)
            elif self.encrypted:
                broker = self._broker_of(identity)
                credentials = broker.identity(identity)
                sections["tls"] = {
                    "ca_file": str(broker.ca_file),
                    "cert_file": str(credentials.certificate),
                    "key_file": str(credentials.key),
                }
            for added in (self._settings, self._personal(identity)):
                for name, section in added.items():
                    sections[name] = {**sections.get(name, {}), **section}
            path.write_text(yaml.safe_dump({"job_processor": sections}))
            path.chmod(0o600)
        return path

    def journal(self, identity: str) -> Path:
        """The journal of one worker."""
        (self.folder / identity).mkdir(exist_ok=True)
        return self.folder / identity / "journal.sqlite3"

    def reconfigure(self, identity: str, section: str, **keys: object) -> None:
        """Change keys of one section in the configuration of one participant; the caller must make it reload."""
        path = self.config_file(identity)
        document = yaml.safe_load(path.read_text())
        document["job_processor"].setdefault(section, {}).update(keys)
        path.write_text(yaml.safe_dump(document))

    def stored(self, query: str, *values: object) -> list[Any]:
        """The rows of a query of the job store's file."""
        with closing(sqlite3.connect(self.job_store)) as connection:
            return connection.execute(query, values).fetchall()

    def outcomes(self, job_id: str) -> list[str]:
        """The outcomes of the attempts at a job, from the job store; see `owned`."""
        rows = self.stored("SELECT outcome FROM attempt WHERE job_id = ? ORDER BY number", owned(job_id))
        return [outcome for (outcome,) in rows]

    def _port(self, identity: str) -> int:
        if not self._proxied:
            return self._broker_of(identity).port
        self.proxies[identity] = self._exits.enter_context(Proxy(self.broker.port))
        return self.proxies[identity].port

    def _broker_of(self, identity: str) -> Broker:
        return self.broker if identity == "dispatcher" else self.site

    @property
    def _identities(self) -> dict[Service, str]:
        names = [f"host-{number}" for number in range(1, len(self.workers) + 1)]
        return {self.dispatcher: "dispatcher", **dict(zip(self.workers, names, strict=True))}

    def _service(self, name: str, identity: str, *command: str) -> Service:
        config = self.folder / f"{identity}.yml"
        program = [sys.executable, "-m", "stockworker", "--config", str(config), *command]
        return Service(name, program, self.folder / f"{name}.log")
