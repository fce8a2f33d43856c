"""``stockworker pki token``, ``serve`` and ``join``: new machines get their certificates over the network."""

import argparse
import asyncio
import os
import signal
from contextlib import suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from stockworker.adapters import clock
from stockworker.adapters.systemd import Notifier
from stockworker.config.loading import default_worker_id
from stockworker.pki.arguments import (
    KEYS,
    add_authority,
    add_authority_and_output,
    add_broker,
    add_days,
    add_key_type,
    add_output,
    authority_folder,
    broker_of,
    now,
    passphrase_of,
)
from stockworker.pki.authority import AuthorityFolder
from stockworker.pki.certificates import LEAF_LIFETIME
from stockworker.pki.join_client import Invitation, JoiningMachine, join
from stockworker.pki.join_protocol import PORT
from stockworker.pki.join_server import JoinServer
from stockworker.pki.join_token import TokenFile, TokenRecord
from stockworker.pki.worker_setup import FOLDER, BrokerAddress
from stockworker.terminal.arguments import from_now, identifier, whole_number
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.given import STANDARD_INPUT, first_line
from stockworker.terminal.output import note, print_json, print_line, print_lines
from stockworker.terminal.tables import table, terminal_width
from stockworker.trusted_files import read_trusted

_LONGEST_VALID: Final = timedelta(days=7)
_MOST_AT_ONCE: Final = 1000
_LONGEST_INVITATION: Final = 1024
_ACTIONS: Final = ("create", "list", "revoke")


# --- commands ---------------------------------------------------------------------------------------------------------


def token(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki token``."""
    parser.description = (
        "Create, list or revoke join tokens. A join token lets one new machine get the certificate of one worker from "
        "`stockworker pki serve`, with `stockworker pki join`. It is valid once, for a short time, and for worker IDs that "
        "match a pattern. It is a secret; the authority stores only its hash."
    )
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=f"one of {', '.join(_ACTIONS)}")
    parser.add_argument("id", nargs="?", metavar="ID", help="with revoke: the first part of the token")
    parser.add_argument(
        "--name", metavar="PATTERN", help="with create: worker IDs that it is for; * matches any characters"
    )
    parser.add_argument(
        "--valid",
        type=from_now,
        metavar="DURATION",
        default=3600.0,
        help=f"with create: how long it is valid, up to {_LONGEST_VALID.days}d (default: 1h)",
    )
    parser.add_argument(
        "--count",
        type=whole_number(1, _MOST_AT_ONCE),
        metavar="COUNT",
        default=1,
        help="with create: number of tokens, one per line (default: 1)",
    )
    parser.add_argument(
        "--server",
        metavar="HOST[:PORT]",
        help=f"with create: where `stockworker pki serve` runs (default: this machine, port {PORT})",
    )
    add_authority_and_output(parser)
    parser.set_defaults(run=_token)


def serve(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki serve``."""
    parser.description = (
        "Sign the requests of new machines that have a join token, until the command is interrupted. It runs on the "
        "machine of the authority, over TLS with a certificate of the authority. It prints a line for each attempt. As a "
        "service, it is stockworker-join.service, which is off by default."
    )
    parser.add_argument(
        "--host",
        action="append",
        metavar="HOST",
        help="name or address under which new machines reach this one; may be repeated (default: its host name)",
    )
    parser.add_argument("--listen", metavar="ADDRESS", help="address to listen at (default: all)")
    parser.add_argument(
        "--port", type=whole_number(1, 65535), metavar="PORT", default=PORT, help=f"port to listen at (default: {PORT})"
    )
    add_broker(parser)
    add_days(parser, LEAF_LIFETIME)
    add_authority(parser)
    parser.set_defaults(run=_serve)


def join_fleet(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki join``."""
    parser.description = (
        "Make a key for a worker on this machine, get its certificate for a join token, and write both with the worker's "
        "configuration. The worker's ID is HOST-INSTANCE, with the host name of this machine. Nothing is sent to a server "
        "that is not the authority of the token."
    )
    parser.add_argument(
        "invitation",
        metavar="TOKEN@HOST:PORT",
        help="as `stockworker pki token create` printed it; - reads standard input",
    )
    parser.add_argument(
        "--instance", type=identifier, default="1", metavar="NAME", help="instance of the worker (default: 1)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(FOLDER),
        metavar="FOLDER",
        help=f"folder of the configuration (default: {FOLDER})",
    )
    add_key_type(parser)
    add_output(parser)
    parser.set_defaults(run=_join)


# --- runs -------------------------------------------------------------------------------------------------------------


def _token(arguments: argparse.Namespace) -> int:
    if (arguments.action == "revoke") != (arguments.id is not None):
        raise UsageError("ID must be given for revoke, and only for it")
    if (arguments.action == "create") != (arguments.name is not None):
        raise UsageError("--name PATTERN must be given for create, and only for it")
    authority = authority_folder(arguments)
    tokens = TokenFile(authority.folder)
    with authority.locked():
        if arguments.action == "create":
            _create(arguments, authority, tokens)
        elif arguments.action == "revoke":
            tokens.revoke(arguments.id)
        else:
            _list(arguments, tokens.records())
    return Exit.OK


def _create(arguments: argparse.Namespace, authority: AuthorityFolder, tokens: TokenFile) -> None:
    valid = timedelta(seconds=arguments.valid)
    if valid > _LONGEST_VALID:
        raise UsageError(
            f"--valid must be at most {_LONGEST_VALID.days}d: a join token that is valid without need is a risk"
        )
    place = _server(arguments)
    certificate = x509.load_pem_x509_certificate(read_trusted(authority.folder / "ca.crt"))
    until = now() + valid
    for made in tokens.create(certificate, arguments.name, now(), valid, arguments.count):
        if arguments.json:
            print_json({"id": made.id, "invitation": f"{made}@{place}", "until": until.timestamp()})
        else:
            print_line(f"{made}@{place}")
    if not arguments.quiet:
        note(
            f"until {until:%Y-%m-%d %H:%M} UTC, on one new machine for each line: stockworker pki join TOKEN@HOST:PORT"
        )


def _server(arguments: argparse.Namespace) -> BrokerAddress:
    try:
        server = BrokerAddress.parse(arguments.server or os.uname().nodename)
    except ValueError as error:
        raise UsageError(f"--server: {error}") from None
    return BrokerAddress(server.host, server.port or PORT)


def _list(arguments: argparse.Namespace, records: list[TokenRecord]) -> None:
    if arguments.json:
        for each in records:
            print_json(_fields(each))
        return
    rows = [
        (each.id, each.pattern, f"{each.until:%Y-%m-%d %H:%M}", each.state(now()), each.used_by) for each in records
    ]
    print_lines(table(("ID", "NAME", "UNTIL (UTC)", "STATE", "WORKER"), rows, terminal_width()))


def _fields(record: TokenRecord) -> dict[str, Any]:
    fields = {
        "id": record.id,
        "pattern": record.pattern,
        "created_at": record.created_at.timestamp(),
        "until": record.until.timestamp(),
        "state": record.state(now()),
    }
    if record.used_by is not None and record.used_at is not None:
        fields |= {"used_by": record.used_by, "used_at": record.used_at.timestamp()}
    return fields


def _serve(arguments: argparse.Namespace) -> int:
    hosts = tuple(dict.fromkeys(arguments.host or (os.uname().nodename,)))
    try:
        for host in hosts:
            BrokerAddress(host)
    except ValueError as error:
        raise UsageError(f"--host: {error}") from None
    broker = broker_of(arguments, authority_folder(arguments))
    ask = cache(passphrase_of(arguments))  # asked for at the start, and not again

    def authority() -> AuthorityFolder:
        return authority_folder(arguments, ask)

    server = JoinServer(authority, hosts, broker, timedelta(days=arguments.days), _report)
    with suppress(KeyboardInterrupt):
        asyncio.run(_until_stopped(server, arguments.listen, arguments.port))
    return Exit.OK


async def _until_stopped(server: JoinServer, address: str | None, port: int) -> None:
    stopped, notifier = asyncio.Event(), Notifier()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    listening = await server.start(address, port)
    note(f"waiting for new machines, at port {port}; stop with Ctrl-C")
    notifier.ready(f"waiting for new machines, at port {port}")
    alive_every_s = None if notifier.watchdog_s is None else notifier.watchdog_s / 3
    async with listening:
        while not stopped.is_set():
            notifier.alive()
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), alive_every_s)


def _report(line: str) -> None:
    note(f"{clock.utc_now():%Y-%m-%d %H:%M:%S} {line}")


def _join(arguments: argparse.Namespace) -> int:
    invitation, name = _invitation(arguments), default_worker_id(arguments.instance)
    machine = JoiningMachine(arguments.folder, name, arguments.instance)
    machine.check()
    machine.install(asyncio.run(join(invitation, machine, name, KEYS[arguments.key_type])))
    files = {
        "authority": machine.authority,
        "certificate": machine.certificate,
        "key": machine.key,
        "configuration": machine.configuration,
    }
    if arguments.json:
        print_json({"name": name, **{each: str(file) for each, file in files.items()}})
    else:
        print_lines(map(str, files.values()))
    if not arguments.quiet:
        note(f"next: systemctl enable --now stockworker@{arguments.instance}")
        note(f"then: stockworker check --instance {arguments.instance}")
    return Exit.OK


def _invitation(arguments: argparse.Namespace) -> Invitation:
    written = arguments.invitation
    if written == STANDARD_INPUT:
        written = first_line(written, _LONGEST_INVITATION).decode(errors="replace")
    try:
        return Invitation.parse(written)
    except ValueError as error:
        raise UsageError(f"TOKEN@HOST:PORT: {error}") from None
