"""``stockworker cancel`` and ``retry``: orders about jobs that are named, or selected by options."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from stockworker.cli.connection import converse
from stockworker.cli.filters import add_filters, has_filters, select
from stockworker.client import Client
from stockworker.protocol.ids import JobId
from stockworker.protocol.job_filter import MAX_QUERY
from stockworker.protocol.lifecycle import LIVE, State
from stockworker.protocol.messages import ReceiptEntry, ReceiptStatus
from stockworker.protocol.wire import shown
from stockworker.terminal.arguments import JOB_HELP, add_client_options, job_identifier, whole_number
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import complain, note, print_json, print_line

_MOST: Final = 1 << 53

Order = Callable[[Client, JobId], Awaitable[ReceiptEntry]]


def cancel(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker cancel``."""
    parser.description = (
        "Cancel jobs. A waiting job is cancelled immediately. A running job is stopped first; `stockworker wait` shows "
        "how it ended. With --all, cancels all unfinished jobs that the other options select. Jobs of other clients require "
        "operator rights."
    )
    states = tuple(state for state in State if state in LIVE)
    _complete(parser, states, "cancel", lambda client, job_id: client.cancel(job_id))


def retry(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker retry``."""
    parser.description = (
        "Run failed jobs again, with all their attempts. A job is rejected if another unfinished job has its unique "
        "key now. With --all, retries all failed jobs that the other options select. Requires operator rights."
    )
    _complete(parser, (State.FAILED,), "retry", lambda client, job_id: client.retry(job_id))


def _complete(parser: argparse.ArgumentParser, states: tuple[State, ...], verb: str, order: Order) -> None:
    parser.add_argument("jobs", type=job_identifier, nargs="*", metavar="JOB", help=JOB_HELP)
    parser.add_argument("--all", action="store_true", help=f"{verb} all selected jobs instead of the named ones")
    if len(states) > 1:
        parser.add_argument("--state", choices=tuple(map(str, states)), help="only jobs in this state")
    add_filters(parser)
    parser.add_argument("--dry-run", action="store_true", help="with --all: only print the jobs and their number")
    parser.add_argument(
        "--expect",
        type=whole_number(0, _MOST),
        metavar="NUMBER",
        help="with --all: do nothing unless exactly this many jobs are selected",
    )
    add_client_options(parser)
    parser.set_defaults(run=lambda arguments: _run(arguments, states, verb, order))


def _run(arguments: argparse.Namespace, states: tuple[State, ...], verb: str, order: Order) -> int:
    state = getattr(arguments, "state", None)
    selects = has_filters(arguments) or state is not None
    if arguments.all == bool(arguments.jobs):
        raise UsageError("name either job IDs or --all")
    if not arguments.all and (selects or arguments.dry_run or arguments.expect is not None):
        raise UsageError("options that select jobs require --all")
    if arguments.all and len(states) > 1 and not (selects or arguments.dry_run or arguments.expect is not None):
        raise UsageError(
            f"{verb} --all requires an option that selects jobs, or --expect with their number (--dry-run shows it)"
        )
    wanted = states if state is None else (State(state),)

    async def talk(client: Client) -> Exit:
        if not arguments.all:
            return await _order(client, list(dict.fromkeys(await client.resolve(arguments.jobs))), order, arguments)
        selected = await select(client, arguments, wanted)
        if arguments.expect not in {None, len(selected)}:
            raise UsageError(f"{len(selected)} jobs are selected, and not {arguments.expect}; nothing was sent")
        if arguments.dry_run:
            return _show(selected, verb, arguments)
        if not selected and not arguments.quiet:
            note(f"no jobs to {verb} found")
        return await _order(client, selected, order, arguments)

    return converse(arguments, talk, notices=False)


def _show(selected: Sequence[JobId], verb: str, arguments: argparse.Namespace) -> Exit:
    for job_id in selected:
        if arguments.json:
            print_json({"job_id": job_id})
        else:
            print_line(job_id)
    if not arguments.quiet:
        note(
            f"would {verb} {len(selected)} jobs; to {verb} exactly these, use --expect {len(selected)} without --dry-run"
        )
    return Exit.OK


async def _order(client: Client, job_ids: Sequence[JobId], order: Order, arguments: argparse.Namespace) -> Exit:
    """Send orders, of which the conversation has a bounded number unanswered, and print the receipts as they arrive."""
    statuses = []
    for position in range(0, len(job_ids), MAX_QUERY):
        some = job_ids[position : position + MAX_QUERY]
        entries = await asyncio.gather(*(order(client, job_id) for job_id in some))
        statuses.append(await _print_receipts(entries, client, as_json=arguments.json))
    return max(statuses, default=Exit.OK)


async def _print_receipts(entries: Iterable[ReceiptEntry], client: Client, *, as_json: bool) -> Exit:
    rejected = []
    for entry in entries:
        if as_json:
            print_json(shown(entry))
        elif entry.status is not ReceiptStatus.REJECTED:
            print_line(f"{entry.job_id} {entry.status}")
        if entry.status is ReceiptStatus.REJECTED:
            complain(f"job {entry.job_id}: {entry.reason}")
            rejected += [entry.job_id] if entry.job_id else []
    if not rejected:
        return Exit.OK
    known = await client.query(rejected)
    return Exit.FAILED if len({view.job_id for view in known}) == len(set(rejected)) else Exit.UNKNOWN
