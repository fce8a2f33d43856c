"""``stockworker why``: what a job waits for or how it ended, and its attempts."""

import argparse
from collections.abc import Iterator

from stockworker.cli.connection import converse
from stockworker.client import Client
from stockworker.protocol.sealed import first_line
from stockworker.protocol.views import Explanation
from stockworker.protocol.wire import shown
from stockworker.terminal.arguments import JOB_HELP, add_client_options, job_identifier
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import print_json, print_lines
from stockworker.terminal.tables import local_time, short_duration, table, terminal_width


def why(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker why``."""
    parser.description = "Explain why a job waits or how it ended, and list its attempts, at most the newest ones."
    parser.add_argument("job", type=job_identifier, metavar="JOB", help=JOB_HELP)
    add_client_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    async def ask(client: Client) -> Explanation:
        (job_id,) = await client.resolve([arguments.job])
        return await client.explain(job_id)

    explanation = converse(arguments, ask, notices=False)
    if arguments.json:
        print_json(shown(explanation))
    else:
        print_lines(_lines(explanation))
    return Exit.OK


def _lines(explanation: Explanation) -> Iterator[str]:
    yield from explanation.why
    if explanation.attempts:
        yield ""
        header = ("ATTEMPT", "WORKER", "ASSIGNED", "ENDED", "RAN", "OUTCOME", "ERROR")
        rows = [
            (
                attempt.number,
                attempt.worker,
                local_time(attempt.assigned_at),
                None if attempt.ended_at is None else local_time(attempt.ended_at),
                None if attempt.ran_s is None else short_duration(attempt.ran_s),
                attempt.outcome,
                first_line(attempt.error),
            )
            for attempt in explanation.attempts
        ]
        earlier = explanation.attempts[0].number - 1
        if earlier:
            yield f"… and {earlier:,} earlier attempts"
        yield from table(header, rows, terminal_width(), spare=("ENDED", "ASSIGNED"), cut=("WORKER", "ERROR"))
