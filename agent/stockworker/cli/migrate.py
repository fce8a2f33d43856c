"""``stockworker migrate``: jobs from an old queue to the dispatcher, and back."""

import argparse
import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from stockworker.adapters import clock
from stockworker.cli.connection import converse
from stockworker.client import Client
from stockworker.config.kinds import number
from stockworker.config.secrets import read_secret
from stockworker.errors import ConfigError
from stockworker.migration.address import SourceAddress, parse_address
from stockworker.migration.back import Comparison, MovedJobs
from stockworker.migration.decoding import MigratedJob, Refused, decode
from stockworker.migration.mapping import SourceMapping
from stockworker.migration.mapping_file import preset_names, read_mapping
from stockworker.migration.preview import Preview
from stockworker.migration.proposal import propose
from stockworker.migration.report import MigrationReport
from stockworker.migration.run import AllRejected, Migration, MoveProgress, Totals
from stockworker.migration.source import PAGE, Position, Source, Standing
from stockworker.migration.sources import open_source, survey
from stockworker.terminal.arguments import add_client_options, argument, timeout
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import StatusLine, complain, note, print_document, print_json, print_line, print_lines
from stockworker.terminal.tables import short_duration, table, terminal_width

_MOST_SHOWN: Final = 10
_FOLLOW_S: Final = 1.0
_REPORT: Final = Path("stockworker-migration.jsonl")


def migrate(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker migrate``."""
    parser.description = (
        "Move the waiting jobs of an old queue to the dispatcher. A record leaves the old queue after the dispatcher has "
        "stored its job on disk. Stop the command at any moment and run it again: no job is lost, and none runs twice. "
        "A mapping or a preset describes the old queue; begin with --inspect and --dry-run."
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="URL of the old queue (postgresql://, mysql://, mariadb://, sqlite://, redis://, amqp://, mqtt://), @FILE for a file whose first line is "
        "the URL, or env:NAME for an environment variable; a password in the command line is visible to other users",
    )
    parser.add_argument(
        "--password-file", type=Path, metavar="FILE", help="file whose first line is the password of the old queue"
    )
    mapping = parser.add_argument_group("what the old queue means")
    mapping.add_argument("--mapping", type=Path, metavar="FILE", help="mapping file; --inspect proposes one")
    mapping.add_argument("--preset", metavar="NAME", help=f"a common layout: {', '.join(preset_names())}")
    mapping.add_argument(
        "--from", dest="container", metavar="NAME", help="table, key or queue, in place of the mapping's"
    )
    modes = parser.add_argument_group("instead of moving jobs until none waits").add_mutually_exclusive_group()
    modes.add_argument("--inspect", action="store_true", help="propose a mapping from the names and values found there")
    modes.add_argument(
        "--dry-run", action="store_true", help="show what would be moved, by type and priority, and what could not be"
    )
    modes.add_argument(
        "--verify", action="store_true", help="compare both sides: the dispatcher must know each moved job"
    )
    modes.add_argument(
        "--back",
        action="store_true",
        help="return the jobs that no worker has had to the old queue; requires operator rights",
    )
    modes.add_argument(
        "--follow",
        "--bridge",
        dest="follow",
        action="store_true",
        help="keep moving new jobs while old producers write, until the command is stopped",
    )
    parser.add_argument("--rate", type=argument(number(0.1, 1e6)), metavar="N", help="move at most N jobs in a second")
    parser.add_argument(
        "--report",
        type=Path,
        default=_REPORT,
        metavar="FILE",
        help=f"append a JSON line for each record: moved, refused, rejected, returned (default: {_REPORT})",
    )
    parser.add_argument(
        "--interval",
        type=timeout,
        default=_FOLLOW_S,
        metavar="DURATION",
        help="with --follow: how often to look for new jobs (default: 1s)",
    )
    add_client_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    address = _address(arguments)
    if arguments.inspect:
        return _inspect(arguments, address)
    if arguments.mapping is None and arguments.preset is None:
        raise UsageError("describe the old queue with --mapping FILE or --preset NAME; --inspect proposes a mapping")
    mapping = read_mapping(arguments.mapping, arguments.preset, arguments.container)
    read_only = arguments.dry_run or arguments.verify
    with closing(open_source(address, mapping, read_only=read_only)) as source:
        if arguments.dry_run:
            return _dry_run(arguments, source, mapping)
        with closing(MigrationReport(arguments.report, source.identity)) as report:
            if arguments.verify:
                return _verify(arguments, source, mapping, report)
            if arguments.back:
                return _back(arguments, source, mapping, report)
            return _move(arguments, source, mapping, report)


def _address(arguments: argparse.Namespace) -> SourceAddress:
    """The address of the source, with its password."""
    address = parse_address(_url(arguments.source))
    if arguments.password_file is not None:
        return replace(address, password=read_secret("--password-file", arguments.password_file))
    if address.password and not arguments.source.startswith(("@", "env:")):
        _say(arguments, _VISIBLE)
    return address


_VISIBLE: Final = (
    "other users of this machine can see the password in the command line; pass the URL as @FILE or env:NAME, or the password "
    "with --password-file FILE"
)


def _url(written: str) -> str:
    """The URL of the source, which may be in a file or in the environment."""
    if written.startswith("@"):
        return read_secret("SOURCE", Path(written[1:]))
    if written.startswith("env:"):
        name = written.removeprefix("env:")
        if not os.environ.get(name):
            raise ConfigError(f"SOURCE: the environment variable {name} is not set; set it to the URL of the old queue")
        return os.environ[name]
    return written


# --- look -------------------------------------------------------------------------------------------------------------


def _inspect(arguments: argparse.Namespace, address: SourceAddress) -> int:
    containers = survey(address)
    if arguments.container is not None:
        containers = [each for each in containers if each.name == arguments.container]
    presets = {name: read_mapping(None, name) for name in preset_names()}
    proposals = propose(containers, presets)
    if not proposals:
        found = ", ".join(f"{each.name} ({each.size})" for each in containers[:_MOST_SHOWN]) or "nothing"
        complain(
            f"{address.shown}: nothing there looks like a queue: {found}. Write a mapping file, and name the fields"
        )
        return Exit.FAILED
    best = proposals[0]
    for text in best.notes:
        note(f"{best.container.name}: {text}")
    others = [each.container.name for each in proposals[1:_MOST_SHOWN]]
    if others:
        note(f"other candidates: {', '.join(others)}; see one with --from NAME")
    print_document(best.text)
    return Exit.OK


def _dry_run(arguments: argparse.Namespace, source: Source, mapping: SourceMapping) -> int:
    preview = Preview()
    for each in _decoded(source, mapping):
        preview.add(each)
        if arguments.json and isinstance(each, Refused):  # now: there may be millions
            print_json({"record": each.record_id or str(each.token), "reason": each.reason})
    if arguments.json:
        for kind, priority, count, sample in preview.kinds():
            print_json({"type": kind, "priority": priority, "jobs": count, "sample": sample})
    else:
        _show(preview)
    counted = f"{source.shown}: {', '.join(_counted(source))}"
    _say(arguments, f"{counted}; {preview.jobs} jobs can be moved, {preview.refused} can't")
    return Exit.FAILED if preview.refused else Exit.OK


def _decoded(source: Source, mapping: SourceMapping) -> Iterator[MigratedJob | Refused]:
    """Everything that waits, as jobs."""
    now = clock.wall()
    after: Position | None = None
    while True:
        page = source.page(Standing.PENDING, after, PAGE)
        yield from (decode(found, mapping, source.identity, now) for found in page.found)
        after = page.after
        if after is None:
            return


def _show(preview: Preview) -> None:
    rows = list(preview.kinds())
    print_lines(table(("TYPE", "PRIORITY", "JOBS", "SAMPLE"), rows, terminal_width()) if rows else ["no jobs wait"])
    if preview.others:
        print_line(f"and {preview.others} jobs of further types")
    refused = preview.samples(_MOST_SHOWN)
    print_lines(f"record {each.record_id or each.token} can't be moved: {each.reason}" for each in refused)
    if preview.refused > len(refused):
        print_line(f"and {preview.refused - len(refused)} more; --json lists all")


def _counted(source: Source) -> Iterator[str]:
    return (f"{count} {standing}" for standing, count in source.counts().items())


# --- move -------------------------------------------------------------------------------------------------------------


def _move(arguments: argparse.Namespace, source: Source, mapping: SourceMapping, report: MigrationReport) -> int:
    line = StatusLine(quiet=arguments.quiet)

    def show(progress: MoveProgress) -> None:
        line.show(progress_text(progress))

    async def talk(client: Client) -> int:
        moving = Migration(source, mapping, client, report, rate=arguments.rate, progress=show)
        with _stopped_by_signals(moving):
            try:
                await moving.run(arguments.interval if arguments.follow else None)
            except AllRejected as error:
                complain(str(error))
            finally:
                line.clear()
                _summarize(arguments, moving.totals)
        if moving.stopped and not arguments.follow:
            _say(arguments, "stopped after a page; run the same command again to continue")
            return Exit.INTERRUPTED
        return Exit.FAILED if moving.totals.refused or moving.totals.rejected else Exit.OK

    return converse(arguments, talk, notices=False)


def progress_text(progress: MoveProgress) -> str:
    """The line on the terminal: what has moved, and how long the rest takes."""
    eta = "" if progress.eta_s is None else f", {short_duration(progress.eta_s)} left"
    done, left = progress.totals.moved, progress.totals.left
    return f"{done} of {done + left} jobs moved, {progress.rate:.0f} a second{eta}"


def _summarize(arguments: argparse.Namespace, totals: Totals) -> None:
    if arguments.json:
        print_json(
            {"moved": totals.moved, "known": totals.known, "refused": totals.refused, "rejected": totals.rejected}
        )
        return
    print_line(
        f"{totals.moved} jobs moved ({totals.known} of them were known), {totals.refused} refused, {totals.rejected} rejected"
    )
    if totals.refused or totals.rejected:
        _say(arguments, f"refused and rejected records are still in the old queue; {arguments.report} has the reasons")


@contextmanager
def _stopped_by_signals(moving: Migration) -> Iterator[None]:
    """The first SIGINT or SIGTERM finishes the page; the second one ends the command."""
    loop = asyncio.get_running_loop()
    numbers = signal.SIGINT, signal.SIGTERM

    def stop() -> None:
        for each in numbers:
            loop.remove_signal_handler(each)
        moving.stop()

    for each in numbers:
        loop.add_signal_handler(each, stop)
    try:
        yield
    finally:
        for each in numbers:
            loop.remove_signal_handler(each)


# --- compare and return -----------------------------------------------------------------------------------------------


def _verify(arguments: argparse.Namespace, source: Source, mapping: SourceMapping, report: MigrationReport) -> int:
    async def talk(client: Client) -> Comparison:
        return await MovedJobs(source, mapping, client, report).compare()

    found = converse(arguments, talk, notices=False)
    claimed = found.counts.get(Standing.CLAIMED, 0) + found.counts.get(Standing.RETURNING, 0)
    if arguments.json:
        states = {str(state): count for state, count in found.states.items()}
        print_json(
            {
                "source": {str(key): value for key, value in found.counts.items()},
                "moved": found.moved,
                "dispatcher": states,
                "unknown": list(found.unknown),
            }
        )
    else:
        print_line(f"old queue: {', '.join(f'{count} {standing}' for standing, count in found.counts.items())}")
        known = ", ".join(f"{count} {state}" for state, count in sorted(found.states.items())) or "none"
        print_line(f"dispatcher: {found.moved} moved jobs: {known}, {len(found.unknown)} unknown")
    if claimed:
        complain(f"{claimed} records are between the two sides; run the migration, or --back, to its end")
    if found.unknown:
        listed = ", ".join(found.unknown[:_MOST_SHOWN])
        complain(
            f"the dispatcher does not know the jobs of {len(found.unknown)} moved records, such as {listed}. It forgets a job "
            "some time after its end (dispatcher.keep_ended)"
        )
    return Exit.FAILED if claimed or found.unknown else Exit.OK


def _back(arguments: argparse.Namespace, source: Source, mapping: SourceMapping, report: MigrationReport) -> int:
    if Standing.MOVED not in source.counts():
        raise UsageError(
            "--back needs records that stay in the old queue; RabbitMQ, MQTT and `moved: delete` keep none"
        )

    async def talk(client: Client) -> int:
        return await MovedJobs(source, mapping, client, report).back()

    returned = converse(arguments, talk, notices=False)
    print_line(f"{returned} jobs returned to the old queue")
    return Exit.OK


def _say(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.quiet:
        note(text)
