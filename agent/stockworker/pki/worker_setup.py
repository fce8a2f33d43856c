"""What a machine needs to run a worker: its certificate, the authority's, its key, and a piece of configuration."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final

from stockworker.adapters.files import PUBLIC, SECRET
from stockworker.errors import CertificateRefused
from stockworker.pki.certificates import Subject
from stockworker.protocol.frozen import dataclass

FOLDER: Final = PurePosixPath("/etc/stockworker")
AUTHORITY: Final = "tls/ca.crt"
_LAST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where workers find the broker. `port` is None for the default.

    Raises:
        ValueError: the host is neither a host name nor an IP address, or the port is not one.
    """

    host: str
    port: int | None = None

    def __post_init__(self) -> None:
        Subject(self.host, (self.host,))
        if self.port is not None and not 0 < self.port <= _LAST_PORT:
            raise ValueError(f"{self.port} is not a port")

    @classmethod
    def parse(cls, written: str) -> "BrokerAddress":
        """Read `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`. Errors are those of the class."""
        host, colon, port = written.rpartition(":")
        if host.startswith("[") or host.count(":") == 0:
            if colon and not port.isdecimal():
                raise ValueError(f"{port[:20]!r} is not a port")
            if colon:
                return cls(host.strip("[]"), int(port[:6]))
        return cls(written.strip("[]"))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host and self.port else self.host
        return f"{host}:{self.port}" if self.port else host


@dataclass(frozen=True, slots=True)
class EnrolledWorker:
    """The certificate of a worker, and its key if that is known here; both PEM."""

    name: str
    certificate_pem: bytes
    key_pem: bytes | None = field(default=None, repr=False)


def machine_and_instance(name: str) -> tuple[str, str]:
    """The host name and the instance in the default ID of a worker.

    Raises:
        CertificateRefused: the ID is not of that form.
    """
    machine, dash, instance = name.rpartition("-")
    if not machine or not dash or not instance:
        raise CertificateRefused(
            f"{name!r} is not a worker ID of the form HOST-INSTANCE, such as edge-7-1, so its unit is unknown"
        )
    return machine, instance


def configuration_file(instance: str) -> str:
    """The file for the configuration of one worker, below the folder of the configuration."""
    return f"instances/{instance}.yml"


def configuration(name: str, broker: BrokerAddress, folder: PurePosixPath = FOLDER) -> str:
    """The configuration of one worker: the broker's address, and the files of its certificate.

    Strings are quoted as in JSON, so that none of them is read as a number or a list.
    """
    port = "" if broker.port is None else f"      port: {broker.port}\n"
    tls = folder / "tls"
    return (
        "job_processor:\n"
        "  queue:\n"
        "    mqtt:\n"
        f"      host: {json.dumps(broker.host)}\n"
        f"{port}"
        "  tls:\n"
        f"    ca_file: {json.dumps(str(folder / AUTHORITY))}\n"
        f"    cert_file: {json.dumps(str(tls / f'{name}.crt'))}\n"
        f"    key_file: {json.dumps(str(tls / f'{name}.key'))}\n"
    )


def archives(
    workers: Iterable[EnrolledWorker], authority_pem: bytes, broker: BrokerAddress, made_at: datetime
) -> Mapping[str, bytes]:
    """A tar archive for each machine, by its host name. It is unpacked at `/` by root.

    Raises:
        CertificateRefused: the ID of a worker does not have the name of its machine.
    """
    machines: dict[str, dict[str, EnrolledWorker]] = {}
    for worker in workers:
        machine, instance = machine_and_instance(worker.name)
        machines.setdefault(machine, {})[instance] = worker
    return {
        machine: _archive(machine, instances, authority_pem, broker, made_at) for machine, instances in machines.items()
    }


def _archive(
    machine: str,
    instances: Mapping[str, EnrolledWorker],
    authority_pem: bytes,
    broker: BrokerAddress,
    made_at: datetime,
) -> bytes:
    files: dict[str, tuple[bytes, int]] = {AUTHORITY: (authority_pem, PUBLIC)}
    for instance, worker in instances.items():
        files[f"tls/{worker.name}.crt"] = worker.certificate_pem, PUBLIC
        if worker.key_pem is not None:
            files[f"tls/{worker.name}.key"] = worker.key_pem, SECRET
        files[configuration_file(instance)] = configuration(worker.name, broker).encode(), PUBLIC
    files[f"tls/{machine}.txt"] = _instructions(machine, instances).encode(), PUBLIC
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(str((FOLDER / name).relative_to("/")))
            entry.size, entry.mode, entry.mtime = len(content), mode, made_at.timestamp()
            entry.uname = entry.gname = "root"
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _instructions(machine: str, instances: Mapping[str, EnrolledWorker]) -> str:
    units = " ".join(f"stockworker@{instance}" for instance in instances)
    checks = "".join(f"    stockworker check --instance {instance}\n" for instance in instances)
    with_key = any(worker.key_pem is not None for worker in instances.values())
    end = "Then delete the archive: it has private keys.\n" if with_key else ""
    return (
        f"For the machine {machine}, whose host name (uname -n) must be that. As root, after the package\n"
        "stockworker-agent is installed:\n\n"
        f"    tar -xpf {machine}.tar -C /\n"
        f"    systemctl enable --now {units}\n"
        f"{checks}\n"
        f"{end}"
    )
