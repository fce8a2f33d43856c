"""``stockworker show``: everything about one job."""

import argparse
import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from stockworker.cli.connection import converse
from stockworker.cli.printing import parse_result
from stockworker.client import Client
from stockworker.errors import JobUnknown
from stockworker.protocol.fields import FieldError, parse_json
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Progress
from stockworker.protocol.sealed import is_sealed
from stockworker.protocol.views import AttemptView, Explanation, JobDetails, JobView
from stockworker.protocol.wire import shown
from stockworker.terminal.arguments import JOB_HELP, add_client_options, job_identifier, timeout
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import print_json, print_lines
from stockworker.terminal.tables import local_time, short_duration

_INDENT: Final = "  "
_LISTEN_S: Final = 1.0
"""How long to listen to a running job: a worker passes on progress twice a second at most."""


@dataclass(frozen=True, slots=True)
class Story:
    """All that the dispatcher knows about a job, and the progress that its worker reports."""

    view: JobView
    details: JobDetails
    explanation: Explanation
    progress: Progress | None


def show(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker show``."""
    parser.description = (
        "Show everything about a job: payload, options, result, progress, and each attempt with its error in full. "
        "It also explains what the job waits for, or how it ended. `stockworker status` shows the state of many jobs, "
        "`stockworker why` only the explanation."
    )
    parser.add_argument("job", type=job_identifier, metavar="JOB", help=JOB_HELP)
    parser.add_argument(
        "--listen",
        type=timeout,
        default=_LISTEN_S,
        metavar="DURATION",
        help="how long to wait for the progress of a running job (default: 1s)",
    )
    add_client_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    heard: asyncio.Queue[Progress] = asyncio.Queue()

    async def ask(client: Client) -> Story:
        (job_id,) = await client.resolve([arguments.job])
        story = await story_of(client, job_id)
        if story.view.state is not State.RUNNING:
            return story
        return replace(story, progress=await _listen(client, job_id, heard, arguments.listen))

    story = converse(arguments, ask, notices=False, on_progress=heard.put_nowait)
    if arguments.json:
        print_json(_document(story))
    else:
        print_lines(story_lines(story))
    return Exit.OK


async def story_of(client: Client, job_id: JobId) -> Story:
    """All that the dispatcher knows about a job.

    Raises:
        JobUnknown: the dispatcher does not know it.
        RequestRefused: the dispatcher is of a version that does not answer this.
        AccessDenied: the job belongs to another client, and this one is not an operator.
    """
    views = await client.query([job_id], with_results=True)
    if not views:
        raise JobUnknown(f"job {job_id} is unknown to the dispatcher")
    details, explanation = await asyncio.gather(client.details(job_id), client.explain(job_id))
    return Story(views[0], details, explanation, None)


async def _listen(
    client: Client, job_id: JobId, heard: "asyncio.Queue[Progress]", patience_s: float
) -> Progress | None:
    """The next progress of a job; None if it ends before, or none comes in time."""

    async def end() -> None:
        async for _ in client.wait([job_id]):
            return

    tasks = asyncio.create_task(heard.get()), asyncio.create_task(end())
    await asyncio.wait(tasks, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return tasks[0].result() if not tasks[0].cancelled() else None


def _document(story: Story) -> dict[str, Any]:
    view, details, explanation = map(shown, (story.view, story.details, story.explanation))
    document = {**details, **view, "payload": _parsed(story.details.payload), **explanation}
    if story.view.result is not None:
        document["result"] = parse_result(story.view.result)
    if story.progress is not None:
        document["progress"] = {"fraction": story.progress.fraction, "text": story.progress.text}
    return document


def _parsed(payload: str) -> Any:
    """A payload as JSON data; a sealed one, and one that is not valid JSON, is a string."""
    with suppress(FieldError):
        return payload if is_sealed(payload) else parse_json(payload)
    return payload


def story_lines(story: Story) -> Iterator[str]:
    """The story, for people."""
    view, details = story.view, story.details
    yield from _pairs(
        {
            "job": view.job_id,
            "type": view.type,
            "priority": view.priority.label,
            "state": f"{view.state} (cancel requested)" if view.cancel_requested else view.state,
            "progress": None
            if story.progress is None
            else f"{story.progress.fraction:.0%} {story.progress.text}".strip(),
            "tags": " ".join(sorted(details.tags)) or None,
            "unique": details.unique,
            "timeout": None if details.timeout_s is None else short_duration(details.timeout_s),
            "attempts": f"{view.failures} failed of at most {details.max_attempts}",
            "crashes": f"{view.crashes} of at most {details.max_crashes}",
            "backoff": None if details.backoff_s is None else short_duration(details.backoff_s),
            "not before": None if details.not_before is None else local_time(details.not_before),
            "expires": None if details.expires_at is None else local_time(details.expires_at),
        }
    )
    yield from _block("why", "\n".join(story.explanation.why))
    payload = (
        "sealed; only the workers of its type can read it" if is_sealed(details.payload) else _pretty(details.payload)
    )
    yield from _block("payload", payload)
    yield from _timeline(story)
    for attempt in story.explanation.attempts:
        if attempt.error is not None:
            yield from _block(f"error of attempt {attempt.number}", attempt.error)
    if view.result is not None:
        yield from _block("result", _pretty(view.result))


def _timeline(story: Story) -> Iterator[str]:
    yield ""
    yield "timeline:"
    yield f"{_INDENT}{local_time(story.view.submitted_at)}  submitted"
    earlier = min((attempt.number for attempt in story.explanation.attempts), default=1) - 1
    if earlier:
        yield f"{_INDENT}… {earlier:,} earlier attempts"
    for attempt in story.explanation.attempts:
        yield f"{_INDENT}{local_time(attempt.assigned_at)}  attempt {attempt.number} assigned to {attempt.worker}"
        if attempt.ended_at is not None:
            yield f"{_INDENT}{local_time(attempt.ended_at)}  attempt {attempt.number} {_end(attempt)}"
    if story.view.ended_at is not None:
        yield f"{_INDENT}{local_time(story.view.ended_at)}  {story.view.state}"


def _end(attempt: AttemptView) -> str:
    ran = "" if attempt.ran_s is None else f" after {short_duration(attempt.ran_s)}"
    return f"ended: {attempt.outcome}{ran}"


def _pairs(fields: dict[str, object]) -> Iterator[str]:
    for name, value in fields.items():
        if value is not None:
            yield f"{f'{name}:':<12}{value}"


def _block(title: str, text: str) -> Iterator[str]:
    yield ""
    yield f"{title}:"
    yield from (f"{_INDENT}{line}" for line in text.split("\n"))


def _pretty(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
