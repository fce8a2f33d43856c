"""Checks of the files of a broker, on its machine: certificate, key, revocation list and access control list."""

from collections.abc import Iterator
from pathlib import Path

from stockworker.adapters import clock
from stockworker.adapters.tls import server_context
from stockworker.broker.acl import acl
from stockworker.broker.host import ACL, FOLDER, BrokerHost
from stockworker.broker.identity import CA, CERTIFICATE, CRL, FILES, KEY
from stockworker.cli.local_checks import validity
from stockworker.errors import ConfigError
from stockworker.pki.access_list import users_of
from stockworker.pki.inspection import inspect, is_issued_by, revocations_until
from stockworker.pki.registry import CertificateKind
from stockworker.terminal.findings import Finding, fail, ok, warn
from stockworker.trusted_files import read_trusted

_SETUP = "'stockworker broker setup'"


def check_broker(host: BrokerHost) -> Iterator[Finding]:
    """Check the files that `stockworker broker setup` puts in place."""
    try:
        missing = [host.place(FOLDER / name) for name in FILES if host.read(FOLDER / name) is None]
        if missing:
            yield fail("broker files", f"{', '.join(map(str, missing))} is missing. Put it in place with {_SETUP}")
            return
        yield from _check_certificate(host.place(FOLDER / CERTIFICATE), host)
        yield _check_list(host.place(FOLDER / CRL))
        yield _check_rights((host.read(ACL) or b"").decode(errors="replace"), host.place(ACL))
    except ConfigError as error:
        yield fail("broker files", str(error))


def _check_certificate(file: Path, host: BrokerHost) -> Iterator[Finding]:
    server_context(file, host.place(FOLDER / KEY))
    chain = inspect(file)
    renew = "'stockworker broker setup --renew'"
    names = ", ".join(sorted(chain[0].hosts))
    yield validity("broker files", f"{file} for {names}", chain[0], clock.utc_now(), renew)
    if not is_issued_by(file, host.place(FOLDER / CA)):
        text = f"{file} was issued by {chain[-1].issuer}, which is not the authority in {CA} beside it"
        yield fail("broker files", f"{text}. Clients refuse this broker. Issue a new one with {renew}")


def _check_list(file: Path) -> Finding:
    until = revocations_until(read_trusted(file), file)
    if clock.utc_now() > until:
        text = f"{file} expired on {until:%Y-%m-%d}, so Mosquitto rejects every client"
        return fail(
            "broker files", f"{text}. Copy the authority's current list there, or run {_SETUP} beside the authority"
        )
    return ok("broker files", f"{file} is valid until {until:%Y-%m-%d}")


def _check_rights(text: str, file: Path) -> Finding:
    """Compare the access control list with the one of this version for the same names."""
    users = users_of(text)
    names = {kind: [name for name, role in users.items() if role == kind] for kind in CertificateKind}
    kinds = CertificateKind
    wanted = acl(names[kinds.DISPATCHER], names[kinds.OPERATOR], names[kinds.CLIENT])
    lines = set(text.splitlines())
    missing = [line for line in wanted.splitlines() if line and not line.startswith("#") and line not in lines]
    if missing:
        shown = f"{len(missing)} rights are missing in {file}, the first one is: {missing[0]}"
        return warn("broker files", f"{shown}. Add them with {_SETUP}")
    return ok("broker files", f"{file} has the rights of {len(users)} names and of all workers")
