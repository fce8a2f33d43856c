"""A real Mosquitto on loopback, with the configuration that is shipped and a throw-away certificate authority.

The main configuration file is like that of a distribution, and includes the shipped one, as on a real machine. PATH
decides which Mosquitto runs.
"""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from stockworker.adapters import clock
from stockworker.adapters.tls import TlsFiles, client_context
from stockworker.broker.configuration import Bridge, Files, Profile, broker_config
from stockworker.pki.certificates import LEAF_LIFETIME, Authority, Revocation, Subject, read_certificate

SITE = "site-1"
"""The name that the broker of a site has at the central broker."""

OPEN_ACL = "pattern readwrite #\n"
_HOST = "127.0.0.1"
_TIMEOUT_S = 20.0
_STARTED = " running\n"
_RELOADING = ": Reloading config."


class BrokerFailed(Exception):
    """Mosquitto did not start or did not stop; the text ends with its log."""


@dataclass(frozen=True, slots=True)
class Credentials:
    certificate: Path
    key: Path


class Broker:
    """One broker: started when the context is entered, killed when it is left.

    Args:
        folder: keeps all files of the broker; no other part of a test may use it.
        acl: the text of the ACL file.
        changes: options of the configuration to replace, by name, or to remove (None).
        names: the names in the broker's certificate.
        port: a free one unless given.
        profile: the kind of broker that `stockworker broker` configures.
        central: the broker to which the broker of a site forwards.
        passwords: clients authenticate by user name and password instead of a certificate.
    """

    def __init__(
        self,
        folder: Path,
        acl: str = OPEN_ACL,
        changes: dict[str, str | None] | None = None,
        names: Sequence[str] = ("localhost", _HOST),
        port: int | None = None,
        *,
        profile: Profile = Profile.PRODUCTION,
        central: "Broker | None" = None,
        passwords: bool = False,
    ) -> None:
        self.host = _HOST
        self.port = port or free_port()
        self.authority = Authority.create("Throw-away fleet", _now())
        self._folder = folder
        self._acl = acl
        self._changes = changes or {}
        self._names = names
        self._profile = profile
        self._central = central
        self._passwords = folder / "passwords" if passwords else None
        self._process: subprocess.Popen[bytes] | None = None
        self._revoked: list[Revocation] = []

    def __enter__(self) -> Self:
        for name in ("conf.d", "data", "pki"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self.ca_file.write_bytes(self.authority.certificate_pem)
        self.renew()
        self.crl_file.write_bytes(self.authority.revocation_list((), _now()))
        if self._passwords is not None:
            self._passwords.touch(mode=0o600)
        self._configure()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def ca_file(self) -> Path:
        return self._folder / "pki" / "ca.crt"

    @property
    def crl_file(self) -> Path:
        return self._folder / "pki" / "crl.pem"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise BrokerFailed("not running")
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything that the broker has logged since the context was entered, over all restarts."""
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    @property
    def version(self) -> tuple[int, ...]:
        """Major and minor version, read from the log."""
        logged = re.search(r"mosquitto version (\d+)\.(\d+)", self.log)
        if logged is None:
            raise BrokerFailed(f"Mosquitto has not logged its version:\n{self.log}")
        return tuple(map(int, logged.groups()))

    def identity(self, name: str) -> Credentials:
        """A client certificate for the common name, and its key; the same ones each time."""
        credentials = Credentials(self._folder / "pki" / f"{name}.crt", self._folder / "pki" / f"{name}.key")
        if not credentials.key.exists():
            self.authority.issue(Subject(name), _now()).save(self._folder / "pki", name)
        return credentials

    def password(self, name: str) -> Path:
        """A file with the password of a user, registered at the broker; the same file each time."""
        file = self._folder / "pki" / f"{name}.password"
        if not file.exists():
            self.set_password(name, f"password of {name}")
        return file

    def set_password(self, name: str, password: str) -> None:
        """Set the password of a user at the broker and in the user's file."""
        file = self._folder / "pki" / f"{name}.password"
        file.write_text(f"{password}\n")
        file.chmod(0o600)
        subprocess.run(["mosquitto_passwd", "-b", str(self._passwords), name, password], check=True)
        if self._process is not None:
            self.reload()

    def renew(self, lifetime: timedelta = LEAF_LIFETIME) -> None:
        """Give the broker a new certificate and key; it reads them when it reloads."""
        self.authority.issue(Subject(self._names[0], tuple(self._names)), _now(), lifetime).save(
            self._folder / "pki", "broker"
        )

    def reissue(self, name: str, lifetime: timedelta = LEAF_LIFETIME) -> None:
        """Replace the certificate and key of a client."""
        self.authority.issue(Subject(name), _now(), lifetime).save(self._folder / "pki", name)

    def revoke(self, name: str) -> None:
        """Put the certificate of a client on the revocation list."""
        serial, _ = read_certificate(self.identity(name).certificate)
        self._revoked.append(Revocation(serial, _now()))
        self.crl_file.write_bytes(self.authority.revocation_list(self._revoked, _now(), self.crl_file.read_bytes()))

    def tls(self, name: str) -> TlsFiles:
        credentials = self.identity(name)
        return TlsFiles(self.ca_file, credentials.certificate, credentials.key)

    def client_context(self, name: str) -> ssl.SSLContext:
        credentials = self.identity(name)
        return client_context(self.ca_file, credentials.certificate, credentials.key)

    def start(self) -> None:
        """Start, on the same port and data each time; return when the broker accepts connections."""
        if self._process is not None:
            raise BrokerFailed("already running")
        starts = self.log.count(_STARTED)
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [_executable(), "-c", str(self._folder / "mosquitto.conf")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # Ctrl-C on the terminal must not reach it: services still unregister through it
            )
        self._await_ready(self._process, starts)

    def stop(self) -> None:
        """Stop with SIGTERM: the broker persists its data."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Stop with SIGKILL: the broker persists nothing."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Keep the connections open and do nothing until `resume`, like a machine that has vanished."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def reload(self) -> None:
        """Reload certificate, key, ACL and password file, as `systemctl reload` does; return when the reload has begun."""
        before = self.log.count(_RELOADING)
        self._signal(signal.SIGHUP)
        deadline = clock.monotonic() + _TIMEOUT_S
        while self.log.count(_RELOADING) == before:  # Mosquitto accepts no connection until the reload ends
            if clock.monotonic() > deadline:
                raise BrokerFailed(f"Mosquitto does not reload:\n{self.log}")
            time.sleep(0.01)

    def replace_acl(self, text: str) -> None:
        """Replace the access control list, and reload."""
        (self._folder / "acl").write_text(text)
        self.reload()

    def wipe(self) -> None:
        """Delete what a stopped broker has persisted."""
        if self._process is not None:
            raise BrokerFailed("stop or kill the broker before deleting its data: it writes the data when it exits")
        for file in (self._folder / "data").iterdir():
            file.unlink()

    @property
    def _log_file(self) -> Path:
        return self._folder / "broker.log"

    def _configure(self) -> None:
        pki = self._folder / "pki"
        acl_file = self._folder / "acl"
        acl_file.write_text(self._acl)
        acl_file.chmod(0o600)
        paths = Files(
            acl=str(acl_file),
            ca=str(self.ca_file),
            cert=str(pki / "broker.crt"),
            key=str(pki / "broker.key"),
            crl=str(self.crl_file),
            passwords=None if self._passwords is None else str(self._passwords),
        )
        rendered = broker_config(self._profile, f"{self.port} {_HOST}", paths, self._bridge())
        (self._folder / "conf.d" / "stockworker.conf").write_text(_changed(rendered, self._changes))
        # The template logs to stdout, for the journal; into a file Mosquitto writes that only when a buffer is full.
        main = [
            "log_dest stderr",
            f"persistence_location {self._folder / 'data'}",
            f"include_dir {self._folder / 'conf.d'}",
        ]
        if os.geteuid() == 0:
            # Otherwise it becomes the user mosquitto, which can't enter a private temporary folder.
            main.insert(0, "user root")
        (self._folder / "mosquitto.conf").write_text("\n".join(main) + "\n")

    def _bridge(self) -> Bridge | None:
        if self._central is None:
            return None
        shown = self._central.identity(SITE)
        return Bridge(
            name=SITE,
            central=f"localhost:{self._central.port}",
            client_id=f"{SITE}-secret",
            ca=str(self._central.ca_file),
            cert=str(shown.certificate),
            key=str(shown.key),
        )

    def _await_ready(self, process: subprocess.Popen[bytes], starts: int) -> None:
        # It opens its port before it has read its certificates and before it handles signals.
        deadline = clock.monotonic() + _TIMEOUT_S
        while self.log.count(_STARTED) == starts:
            if process.poll() is not None or clock.monotonic() > deadline:
                self.kill()
                raise BrokerFailed(f"Mosquitto does not accept connections on {self.port}:\n{self.log}")
            time.sleep(0.01)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise BrokerFailed("not running")
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            process.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise BrokerFailed(f"Mosquitto ignored {number.name} for {_TIMEOUT_S} s:\n{self.log}") from None


def _changed(rendered: str, changes: dict[str, str | None]) -> str:
    kept = [line for line in rendered.splitlines() if line.partition(" ")[0] not in changes]
    replaced = [f"{name} {value}" for name, value in changes.items() if value is not None]
    # First, because options after `listener` belong to the listener.
    return "\n".join([*replaced, *kept]) + "\n"


def _executable() -> str:
    """Debian installs it in /usr/sbin, which is not in an ordinary user's PATH."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise BrokerFailed("mosquitto is not installed: apt install mosquitto")
    return found


def free_port() -> int:
    """A port of this machine at which nothing listens now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _now() -> datetime:
    return datetime.fromtimestamp(clock.wall(), UTC)
