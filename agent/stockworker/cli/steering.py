"""``stockworker cancel`` and ``retry``."""

import argparse
import asyncio
from collections.abc import Iterable

from stockworker.cli.connection import converse
from stockworker.client import Client
from stockworker.protocol.body import present
from stockworker.protocol.ids import JobId
from stockworker.protocol.messages import ReceiptEntry, ReceiptStatus
from stockworker.terminal.arguments import add_client_options, identifier
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import complain, note, print_json


def cancel(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker cancel``."""
    parser.description = (
        "Cancel jobs. One that waits is cancelled at once; one that runs is stopped, and ends a little later: "
        "`stockworker wait` tells how."
    )
    parser.add_argument("jobs", type=identifier, nargs="+", metavar="JOB", help="id of a job")
    add_client_options(parser)
    parser.set_defaults(run=_cancel)


def retry(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker retry``."""
    parser.description = (
        "Run failed jobs again, with all their attempts. One whose unique key another job has by now is not. Needs the "
        "rights of an operator."
    )
    parser.add_argument("jobs", type=identifier, nargs="*", metavar="JOB", help="id of a job")
    parser.add_argument("--all", action="store_true", help="every job that has failed, instead of those named")
    parser.add_argument("--type", type=identifier, metavar="TYPE", help="with --all: only jobs of this type")
    add_client_options(parser)
    parser.set_defaults(run=_retry)


def _cancel(arguments: argparse.Namespace) -> int:
    async def talk(client: Client) -> Exit:
        entries = await asyncio.gather(*(client.cancel(job_id) for job_id in dict.fromkeys(arguments.jobs)))
        return await _say(entries, client, as_json=arguments.json)

    return converse(arguments, talk, notices=False)


def _retry(arguments: argparse.Namespace) -> int:
    if arguments.all == bool(arguments.jobs):
        raise UsageError("name jobs, or say --all")
    if arguments.type is not None and not arguments.all:
        raise UsageError("--type goes with --all")

    async def talk(client: Client) -> Exit:
        entries = await asyncio.gather(*(client.retry(job_id) for job_id in dict.fromkeys(arguments.jobs)))
        return await _say(entries, client, as_json=arguments.json)

    async def talk_of_all(client: Client) -> Exit:
        count, status = 0, Exit.OK
        async for entry in client.retry_all(arguments.type):
            count += 1
            status = (await _say([entry], client, as_json=arguments.json)) or status
        if not count and not arguments.quiet:
            note("no job has failed")
        return status

    return converse(arguments, talk_of_all if arguments.all else talk, notices=False)


async def _say(entries: Iterable[ReceiptEntry], client: Client, *, as_json: bool) -> Exit:
    """Say what became of requests about jobs, and which exit status that is."""
    rejected: list[JobId] = []
    for entry in entries:
        if as_json:
            print_json(receipt_fields(entry))
        elif entry.status is not ReceiptStatus.REJECTED:
            print(f"{entry.job_id} {entry.status}")
        if entry.status is ReceiptStatus.REJECTED:
            complain(f"job {entry.job_id}: {entry.reason}")
            rejected += [entry.job_id] if entry.job_id else []
    if not rejected:
        return Exit.OK
    known = await client.query(rejected)
    return Exit.FAILED if len({view.job_id for view in known}) == len(set(rejected)) else Exit.UNKNOWN


def receipt_fields(entry: ReceiptEntry) -> dict[str, str]:
    """A receipt as a JSON object: ``id``, ``status``, ``reason``, ``holder``."""
    return present({"id": entry.job_id, "status": entry.status, "reason": entry.reason, "holder": entry.holder})
