"""``stockworker check``."""

import argparse
import asyncio
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from stockworker.cli.identity import Participant, identify
from stockworker.cli.local_checks import check_configuration, check_folder, check_handlers, check_tls
from stockworker.cli.notification_check import try_notification
from stockworker.cli.old_backend import check_old_backend
from stockworker.cli.probe import probe
from stockworker.cli.sealing_checks import check_encryption
from stockworker.client import link_settings
from stockworker.config import DEFAULT_PATH, Config, client_path, load
from stockworker.protocol.topics import Role
from stockworker.terminal.colour import add_colour, paint
from stockworker.terminal.config_option import add_config
from stockworker.terminal.exits import Exit
from stockworker.terminal.findings import Finding, Severity, warn
from stockworker.terminal.output import print_json, print_lines
from stockworker.terminal.tables import COLOURS, terminal_width

Check = Callable[[Config, Participant], Iterable[Finding]]
"""A check of a participant whose configuration is valid."""

_LEAST_ROOM: Final = 20
"""Characters of a line that are worth a column of its own."""


def check(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker check``."""
    parser.description = (
        "Check the setup of this machine: the configuration, the files that it names, and the certificates. Then connect "
        "to the broker with the identity of the certificate or user name, look for the dispatcher, and test the access "
        "rights. Prints one line per check: ok, warn or FAIL, with a remedy. Changes nothing."
    )
    add_config(
        parser, read="that of the services; without --instance and --role, and with --role client, that of commands"
    )
    parser.add_argument("--instance", help="check the configuration of this worker instance (default: 1)")
    parser.add_argument(
        "--role",
        choices=tuple(map(str, (Role.WORKER, Role.DISPATCHER, Role.CLIENT))),
        help="role to check, if this machine has several (default: the role of the certificate; worker with --instance)",
    )
    parser.add_argument("--offline", action="store_true", help="do not connect to the broker")
    parser.add_argument(
        "--notify",
        action="store_true",
        help="also send a test notification, as configured in the section `notifications`",
    )
    add_colour(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    failed = False
    for finding in _findings(arguments):
        failed = failed or finding.severity is Severity.FAIL
        if arguments.json:
            print_json(fields(finding))
        else:
            print_lines(lines(finding, terminal_width()))
    return Exit.FAILED if failed else Exit.OK


def fields(finding: Finding) -> dict[str, str]:
    """A finding as JSON."""
    severity = finding.severity.lower()
    return {"severity": severity, "verdict": severity, "check": finding.subject, "text": finding.text}


def lines(finding: Finding, width: int | None) -> Iterator[str]:
    """A finding in as many lines as it takes, with its text in a column of its own."""
    begin = f"{finding.severity:<4}  {finding.subject:<13}  "
    room = None if width is None else width - len(begin)
    texts = [finding.text] if room is None or room < _LEAST_ROOM else textwrap.wrap(finding.text, room)
    for number, text in enumerate(texts or [""]):
        severity = (0, len(finding.severity), COLOURS.get(finding.severity))
        yield f"{'':<{len(begin)}}{text}" if number else paint(f"{begin}{text}", [severity])


def _findings(arguments: argparse.Namespace) -> Iterator[Finding]:
    path, instance, role = arguments.config, arguments.instance, arguments.role
    if path is None and instance is None and role in {None, Role.CLIENT}:
        path = client_path()
    wanted = Role(role) if role else (Role.WORKER if instance else None)
    connect = _nothing if arguments.offline else _probe
    yield from examine(path, instance, wanted, own_checks, connect)
    if arguments.notify:
        yield try_notification(path)


def _nothing(_config: Config, _who: Participant) -> Iterator[Finding]:
    yield from ()


def _probe(config: Config, who: Participant) -> Iterator[Finding]:
    yield from asyncio.run(probe(link_settings(config, who.name), who)).findings


def examine(
    path: Path | None, instance: str | None, wanted: Role | None, own: Check, connect: Check
) -> Iterator[Finding]:
    """Check the setup of one participant.

    Args:
        path: its configuration.
        instance: of a worker.
        wanted: its role; None takes that of its certificate.
        own: what to check on this machine, beside its configuration, certificates and keys.
        connect: what to check at the broker, if all files allow a connection.
    """
    broken = False
    for finding in check_configuration(path, instance, str(path or DEFAULT_PATH)):
        broken = broken or finding.severity is Severity.FAIL
        yield finding
    if broken:
        old = check_old_backend(path)
        if old is not None:
            yield old
        return
    config = load(path, instance)
    who = identify(config, wanted)
    if isinstance(who, Finding):
        yield who
    elif config.queue.mqtt.username not in {None, who.name} and (config.tls is None or config.tls.cert_file is None):
        yield _shared_user(config.queue.mqtt.username, who)
    for finding in check_tls(config.tls):
        broken = broken or finding.severity is Severity.FAIL
        yield finding
    if isinstance(who, Participant):
        yield from check_encryption(config, who)
        yield from own(config, who)
        if not broken:
            yield from connect(config, who)


def _shared_user(username: str | None, who: Participant) -> Finding:
    text = f"queue.mqtt.username is {username!r}, and the ID of this {who.role} is {who.name!r}"
    return warn(
        "identity",
        f"{text}. If others use this user name too, each of them can act as {who.name!r}. Give each ID its own user name",
    )


def own_checks(config: Config, who: Participant) -> Iterator[Finding]:
    """Check what a service needs on its machine."""
    if who.role is Role.WORKER:
        yield from check_handlers(config)
        yield check_folder("worker.journal", config.worker.journal)
    elif who.role is Role.DISPATCHER:
        yield check_folder("dispatcher.store", config.dispatcher.store)
