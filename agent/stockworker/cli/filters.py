"""Options that select jobs: of ``stockworker list``, and of orders about many jobs."""

import argparse
from typing import Final

from stockworker.client import Client
from stockworker.protocol.body import MAX_TEXT
from stockworker.protocol.ids import JobId
from stockworker.protocol.job_filter import MAX_QUERY, JobFilter
from stockworker.protocol.lifecycle import State
from stockworker.terminal.arguments import identifier, past_moment

_OPTIONS: Final = ("type", "worker", "tag", "unique", "reason", "since", "before")


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that select jobs, besides their state."""
    parser.add_argument("--type", type=identifier, metavar="TYPE", help="only jobs of this type")
    parser.add_argument(
        "--worker", type=identifier, metavar="WORKER", help="only jobs that this worker has, or had last"
    )
    parser.add_argument("--tag", type=identifier, metavar="TAG", help="only jobs with this tag")
    parser.add_argument("--unique", type=identifier, metavar="KEY", help="only jobs with this unique key")
    parser.add_argument(
        "--reason",
        type=_text,
        metavar="TEXT",
        help="only jobs whose reason contains this text; sealed reasons never match",
    )
    parser.add_argument(
        "--since", type=past_moment, metavar="PAST", help="only jobs submitted at this time or later, such as 2h ago"
    )
    parser.add_argument("--before", type=past_moment, metavar="PAST", help="only jobs submitted before this time")


def job_filter(arguments: argparse.Namespace, state: State | None, limit: int = MAX_QUERY) -> JobFilter:
    """The filter of these options."""
    return JobFilter(
        state,
        arguments.type,
        limit,
        worker=arguments.worker,
        tag=arguments.tag,
        unique=arguments.unique,
        reason=arguments.reason,
        since=arguments.since,
        until=arguments.before,
    )


def has_filters(arguments: argparse.Namespace) -> bool:
    """Whether any of the options was given."""
    return any(getattr(arguments, name) is not None for name in _OPTIONS)


async def select(client: Client, arguments: argparse.Namespace, states: tuple[State, ...]) -> list[JobId]:
    """The IDs of all jobs in these states that the options select."""
    ids: dict[JobId, None] = {}
    for state in states:
        async for view in client.search(job_filter(arguments, state)):
            ids[view.job_id] = None
    return list(ids)


def _text(written: str) -> str:
    if not 1 <= len(written) <= MAX_TEXT:
        raise argparse.ArgumentTypeError(f"must have 1 to {MAX_TEXT} characters")
    return written
