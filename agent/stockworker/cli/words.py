"""``stockworker words``: what a shell completes, one word a line."""

import argparse
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

from stockworker.cli.connection import converse
from stockworker.client import Client
from stockworker.protocol.job_filter import JobFilter
from stockworker.terminal.arguments import add_client_options
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import print_lines

_NEWEST: Final = 200
"""How many jobs a shell offers."""

_PATIENCE_S: Final = 2.0
"""A person has pressed Tab, and waits."""


def words(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker words``."""
    parser.description = (
        f"Print the newest {_NEWEST} job IDs, all job types or all workers, one a line. The completion of shells calls "
        "this command when a command wants a job, a type or a worker."
    )
    parser.add_argument("kind", choices=tuple(_WORDS), metavar="KIND", help="what to print: jobs, types or workers")
    add_client_options(parser, json=False, answer_timeout_s=_PATIENCE_S)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    print_lines(converse(arguments, _WORDS[arguments.kind], notices=False))
    return Exit.OK


async def _jobs(client: Client) -> list[str]:
    return [view.job_id async for view in client.search(JobFilter(limit=_NEWEST), _NEWEST)]


async def _types(client: Client) -> list[str]:
    found = await client.stats()
    of_workers = {type_ for worker in found.workers for type_ in worker.types}
    return sorted(of_workers | {queue.type for queue in found.queues})


async def _workers(client: Client) -> list[str]:
    return [worker.worker_id async for worker in client.workers("")]


_WORDS: Final[Mapping[str, Callable[[Client], Awaitable[list[str]]]]] = MappingProxyType(
    {"jobs": _jobs, "types": _types, "workers": _workers}
)
