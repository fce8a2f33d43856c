"""``stockworker doctor``: what is wrong on this host, and what to type next."""

import argparse
import asyncio
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from stockworker import __version__
from stockworker.adapters import host_state
from stockworker.broker.host import BrokerHost
from stockworker.cli.broker_checks import check_broker
from stockworker.cli.check import Check, examine, fields, lines, own_checks
from stockworker.cli.identity import Participant
from stockworker.cli.probe import probe
from stockworker.client import link_settings
from stockworker.config import DEFAULT_PATH, Config, client_path
from stockworker.doctor import bundle, probes
from stockworker.doctor.facts import ClockFacts, DiskFacts, UnitFacts, VersionFacts
from stockworker.doctor.judgement import judge_clock, judge_disk, judge_name, judge_versions
from stockworker.doctor.roles import Part, PartRole, parts
from stockworker.doctor.units import judge_unit
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.topics import Role
from stockworker.shell.space_watch import JOURNAL_LEAST_BYTES
from stockworker.terminal.colour import add_colour
from stockworker.terminal.config_option import add_config
from stockworker.terminal.exits import Exit
from stockworker.terminal.findings import Finding, Severity, fail, warn
from stockworker.terminal.output import note, print_json, print_line, print_lines
from stockworker.terminal.tables import terminal_width

WEB_CONFIG: Final = Path("/etc/stockworker/web.yml")
_BROKER_DATA: Final = Path("/var/lib/mosquitto")
_BROKER_LEAST_BYTES: Final = 64 * 1024**2
_COMMAND: Final = re.compile(
    r"['`]((?:stockworker|systemctl|journalctl|getent|cat|df|chmod|chown|mkdir|apt|dnf) [^'`]+|timedatectl[^'`]*)['`]"
)
"""A command to type, in quotes, in the text of a finding."""


def doctor(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker doctor``."""
    parser.description = (
        "Find out what is wrong on this machine, and what to type next. Run it as root. It finds the parts of the fleet on "
        "this machine: workers, dispatcher, broker, web page and the commands of this user. It examines their units, limits "
        "and sandboxes, configuration, certificates, keys, handlers, disks, DNS, clocks and versions. It tests the rights at "
        "the broker topic by topic. It changes nothing. 'stockworker check' is the quick form."
    )
    add_config(
        parser, read="that of each part; with this option, only the participant of this configuration is examined"
    )
    parser.add_argument("--instance", help="examine only this worker instance")
    parser.add_argument("--role", choices=tuple(map(str, PartRole)), help="examine only parts with this role")
    parser.add_argument("--offline", action="store_true", help="do not connect to the broker")
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="FILE",
        help="also write an archive for support (tar.gz): findings, versions, configuration, units and logs, without keys, "
        "passwords and data of jobs",
    )
    add_colour(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.set_defaults(run=_run)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A finding about a part of this host."""

    part: str
    finding: Finding

    @property
    def commands(self) -> list[str]:
        """What to type next."""
        return [] if self.finding.severity is Severity.OK else _COMMAND.findall(self.finding.text)


def _run(arguments: argparse.Namespace) -> int:
    found: list[Diagnosis] = []
    for diagnosis in _diagnose(arguments):
        if arguments.json:
            print_json(_fields(diagnosis))
        else:
            _print(diagnosis, None if not found else found[-1].part)
        found.append(diagnosis)
    if arguments.bundle is not None:
        _write_bundle(arguments, found)
    failures = sum(each.finding.severity is Severity.FAIL for each in found)
    warnings = sum(each.finding.severity is Severity.WARN for each in found)
    if not arguments.json:
        print_line(f"{failures} failures, {warnings} warnings" if failures or warnings else "no problem found")
    return Exit.FAILED if failures else Exit.OK


def _fields(diagnosis: Diagnosis) -> dict[str, object]:
    own = {name: value for name, value in fields(diagnosis.finding).items() if name != "verdict"}
    return {"part": diagnosis.part, **own, "next": diagnosis.commands}


def _print(diagnosis: Diagnosis, former: str | None) -> None:
    if diagnosis.part != former:
        print_line(f"{diagnosis.part}:")
    print_lines(lines(diagnosis.finding, terminal_width()))
    print_lines(f"      next: {command}" for command in diagnosis.commands)


# --- what to examine --------------------------------------------------------------------------------------------------


def _diagnose(arguments: argparse.Namespace) -> Iterator[Diagnosis]:
    connect = _nothing if arguments.offline else _connect
    if arguments.config is not None:
        role = {PartRole.WORKER: Role.WORKER, PartRole.DISPATCHER: Role.DISPATCHER}.get(arguments.role)
        wanted = Role.WORKER if arguments.instance else role
        for finding in _participant(arguments.config, arguments.instance, wanted, connect):
            yield Diagnosis(str(arguments.config), finding)
        return
    yield from (Diagnosis("host", finding) for finding in _host())
    examined = _chosen(arguments)
    if not examined:
        text = "no part of a fleet was found here. docs/operations.md shows how to set one up"
        yield Diagnosis("host", fail("parts", f"{text}. Or name its configuration (--config)"))
    for part in examined:
        yield from (Diagnosis(str(part), finding) for finding in _unit(part))
        yield from (Diagnosis(str(part), finding) for finding in _examined(part, connect))


def _chosen(arguments: argparse.Namespace) -> list[Part]:
    found = parts(probes.traces())
    return [
        part
        for part in found
        if arguments.role in {None, str(part.role)} and arguments.instance in {None, part.instance}
    ]


def _host() -> Iterator[Finding]:
    if os.geteuid() != 0:
        yield warn("user", "this command does not run as root, so it can't read all files. Run it as root")
    yield from judge_clock(ClockFacts(host_state.clock_is_synchronized()))


def _unit(part: Part) -> Iterator[Finding]:
    if part.unit is not None and (facts := probes.unit_facts(part.unit)) is not None:
        yield from judge_unit(facts)


def _examined(part: Part, connect: Check) -> Iterator[Finding]:
    match part.role:
        case PartRole.BROKER:
            yield from check_broker(BrokerHost(Path("/")))
            yield from _disk(probes.disk_facts("the data of Mosquitto", _BROKER_DATA, _BROKER_LEAST_BYTES))
            yield from judge_versions(VersionFacts(__version__, broker=host_state.mosquitto_version()))
        case PartRole.WORKER:
            yield from _participant(None, part.instance, Role.WORKER, connect)
        case PartRole.DISPATCHER:
            yield from _participant(None, None, Role.DISPATCHER, connect)
        case PartRole.WEB:
            yield from _participant(WEB_CONFIG, None, Role.CLIENT, connect)
        case PartRole.CLIENT:
            yield from _participant(client_path(), None, Role.CLIENT, connect)


# --- one participant --------------------------------------------------------------------------------------------------


def _participant(path: Path | None, instance: str | None, wanted: Role | None, connect: Check) -> Iterator[Finding]:
    if path is None and not DEFAULT_PATH.exists() and instance is None:
        yield fail("configuration", f"{DEFAULT_PATH} does not exist. docs/operations.md shows how to write it")
        return
    yield from examine(path, instance, wanted, _own, connect)


def _own(config: Config, who: Participant) -> Iterator[Finding]:
    """What `check` examines on this machine, and the disk."""
    yield from own_checks(config, who)
    match who.role:
        case Role.WORKER:
            folder, least = config.worker.journal.parent, JOURNAL_LEAST_BYTES
            yield from _disk(probes.disk_facts("worker.journal", folder, least))
        case Role.DISPATCHER:
            folder, least = config.dispatcher.store.parent, config.dispatcher.limits.free_space_bytes
            yield from _disk(probes.disk_facts("dispatcher.store", folder, least))
        case _:
            pass


def _disk(facts: DiskFacts | None) -> Iterator[Finding]:
    if facts is not None:
        yield judge_disk(facts)


def _nothing(_config: Config, _who: Participant) -> Iterator[Finding]:
    yield from ()


def _connect(config: Config, who: Participant) -> Iterator[Finding]:
    """Connect to the broker as this participant: its name, rights, clock and version."""
    mqtt = config.queue.mqtt
    named = judge_name(probes.name_facts(mqtt.host, mqtt.port))
    yield named
    if named.severity is Severity.FAIL:
        return
    probed = asyncio.run(probe(link_settings(config, who.name), who, each_topic=True))
    yield from probed.findings
    yield from judge_clock(ClockFacts(ahead_s=probed.ahead_s))
    yield from judge_versions(VersionFacts(__version__, probed.version, workers=probed.workers))


# --- the archive for support ------------------------------------------------------------------------------------------


def _write_bundle(arguments: argparse.Namespace, found: list[Diagnosis]) -> None:
    own = client_path()
    given = [arguments.config] if arguments.config else [DEFAULT_PATH, WEB_CONFIG, *([] if own is None else [own])]
    contents = {
        "findings.jsonl": "".join(f"{json.dumps(_fields(each))}\n" for each in found),
        "versions.txt": bundle.versions(),
        **bundle.configurations(probes.configuration_files(given)),
        **bundle.units(_units(arguments)),
    }
    bundle.write_bundle(arguments.bundle, contents)
    note(f"wrote {arguments.bundle}. Keys, passwords and data of jobs were removed; look through it before you send it")


def _units(arguments: argparse.Namespace) -> Iterator[UnitFacts]:
    for part in () if arguments.config else _chosen(arguments):
        if part.unit is not None and (facts := probes.unit_facts(part.unit)) is not None:
            yield facts
