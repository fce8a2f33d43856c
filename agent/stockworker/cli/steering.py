"""``stockworker cancel`` and ``retry``."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable

from stockworker.cli.arguments import add_client_options, identifier
from stockworker.cli.connection import converse
from stockworker.cli.exits import Exit
from stockworker.cli.terminal import complain, print_json
from stockworker.client import Client
from stockworker.protocol.body import present
from stockworker.protocol.ids import JobId
from stockworker.protocol.messages import ReceiptEntry, ReceiptStatus

Order = Callable[[Client, str], Awaitable[ReceiptEntry]]


def cancel(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker cancel``."""
    parser.description = (
        "Cancel jobs. One that waits is cancelled at once; one that runs is stopped, and ends a little later: "
        "`stockworker wait` tells how."
    )
    _complete(parser, Client.cancel)


def retry(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker retry``."""
    parser.description = "Run failed jobs again, with all their attempts. Needs the rights of an operator."
    _complete(parser, Client.retry)


def _complete(parser: argparse.ArgumentParser, order: Order) -> None:
    parser.add_argument("jobs", type=identifier, nargs="+", metavar="JOB", help="id of a job")
    add_client_options(parser)
    parser.set_defaults(run=lambda arguments: _run(arguments, order))


def _run(arguments: argparse.Namespace, order: Order) -> int:
    async def talk(client: Client) -> tuple[list[ReceiptEntry], set[JobId]]:
        entries = await asyncio.gather(*(order(client, job_id) for job_id in dict.fromkeys(arguments.jobs)))
        rejected = [entry.job_id for entry in entries if entry.job_id and entry.status is ReceiptStatus.REJECTED]
        known = await client.query(rejected)
        return entries, {*rejected} - {view.id for view in known}

    entries, unknown = converse(arguments, talk, notices=False)
    for entry in entries:
        if arguments.json:
            print_json(receipt_fields(entry))
        elif entry.status is not ReceiptStatus.REJECTED:
            print(f"{entry.job_id} {entry.status}")
        if entry.status is ReceiptStatus.REJECTED:
            complain(f"job {entry.job_id}: {entry.reason}")
    if unknown:
        return Exit.UNKNOWN
    return Exit.FAILED if any(entry.status is ReceiptStatus.REJECTED for entry in entries) else Exit.OK


def receipt_fields(entry: ReceiptEntry) -> dict[str, str]:
    """A receipt as a JSON object: ``id``, ``status``, ``reason``."""
    return present({"id": entry.job_id, "status": entry.status, "reason": entry.reason})
