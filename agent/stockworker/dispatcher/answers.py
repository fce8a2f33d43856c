"""Answers queries about jobs from the store, in a message that fits on the wire."""

# An answer costs what it carries: it reads result after result, and stops when the message has no room for another one.
# So it reads at most one result that it does not send. The service answers in a thread of its own, see `queries`.

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from itertools import islice
from typing import Final

from stockworker.dispatcher.effects import RunQuery, ShowStats
from stockworker.dispatcher.store import JobReader
from stockworker.logs.events import LogEvent
from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.body import ENTRY_ENVELOPE, MAX_CONTENT, content_size, text_bytes
from stockworker.protocol.ids import JobId
from stockworker.protocol.job import Attempt, JobOptions, JobRecord
from stockworker.protocol.lifecycle import LIVE
from stockworker.protocol.messages import Answer, Query
from stockworker.protocol.sealed import first_line
from stockworker.protocol.views import (
    Ambiguity,
    AttemptView,
    Explanation,
    JobDetails,
    JobOutputs,
    JobView,
    NumberedOutput,
)
from stockworker.shell.departures import departures
from stockworker.shell.turn import TurnOutput

Why = Mapping[JobId, tuple[str, ...]]

_MOST_PREFIXES: Final = 64
"""How many prefixes one query resolves at most. The IDs of others are unknown."""

_MOST_ALIKE: Final = 10
"""How many jobs an ambiguous prefix names at most."""

_TAG: Final = 64 + len('"",')

_MOST_ATTEMPTS: Final = 50
"""How many attempts an explanation lists at most: the newest."""


def respond(asked: RunQuery | ShowStats, reader: JobReader) -> TurnOutput:
    """Answer a client.

    Raises:
        StoreError: the store can't be read.
    """
    log: list[LogEvent] = []
    packets = tuple(departures(answer(asked, reader) if isinstance(asked, RunQuery) else asked.stats, log))
    return TurnOutput(packets, tuple(log))


def answer(asked: RunQuery, reader: JobReader) -> Answer:
    """Look up the jobs of a query. Jobs that do not fit into one message are listed as omitted."""
    query, why = asked.query, dict(asked.why)
    with reader.snapshot():
        jobs, ambiguous, searched_to = _jobs(query, reader)
        lengths = _prefix_lengths(query, jobs, reader)
        views: list[JobView] = []
        explanations: list[Explanation] = []
        details: list[JobDetails] = []
        room = MAX_CONTENT
        for job in jobs[: asked.most]:
            if room < ENTRY_ENVELOPE:
                break
            view = _view(job, reader.result(job) if query.with_results else None)
            room -= ENTRY_ENVELOPE + content_size(view.result) + content_size(view.reason)
            sentences = _sentences(job, why) if query.explain else ()
            room -= sum(map(content_size, sentences))
            detailed = _details(job, reader.payload(job)) if query.details else None
            if detailed is not None:
                room -= 2 * ENTRY_ENVELOPE + content_size(detailed.payload) + _TAG * len(detailed.tags)
            if views and room < 0:
                break
            views.append(replace(view, prefix_length=lengths.get(view.job_id)))
            if detailed is not None:
                details.append(detailed)
            if query.explain:
                tried = map(_attempt_view, reader.attempts(job.spec.job_id, _MOST_ATTEMPTS))
                attempts, room = _newest(tuple(tried), room)
                explanations.append(Explanation(job.spec.job_id, sentences, attempts))
        outputs = _outputs(views[0].job_id, query.outputs_from, reader, room) if views and query.outputs_from else None
    left = tuple(job.spec.job_id for job in jobs[len(views) :])
    lists = tuple(views), left, tuple(explanations), ambiguous, tuple(details)
    return Answer(query.reply, *lists, searched_to, outputs)


def _jobs(query: Query, reader: JobReader) -> tuple[list[JobRecord], tuple[Ambiguity, ...], JobId | None]:
    """The jobs of a query, the prefixes that do not name one, and where a search has stopped."""
    if query.filter is not None:
        found = reader.search(query.filter, None if query.by_operator else query.client_id)
        return found.jobs, (), found.searched_to
    jobs = reader.find(query.ids)
    ambiguous: list[Ambiguity] = []
    named = {job_id: job_id for job_id in query.ids if job_id in jobs}
    if query.by_prefix:
        for prefix in islice((job_id for job_id in query.ids if job_id not in jobs), _MOST_PREFIXES):
            alike = reader.beginning_with(prefix, _MOST_ALIKE)
            if len(alike) == 1:
                named[prefix] = alike[0]
            elif alike:
                ambiguous.append(Ambiguity(prefix, tuple(alike)))
        jobs = reader.find(set(named.values()))
    ids = dict.fromkeys(named[job_id] for job_id in query.ids if job_id in named)
    return [jobs[job_id] for job_id in ids], tuple(ambiguous), None


def _prefix_lengths(query: Query, jobs: Sequence[JobRecord], reader: JobReader) -> Mapping[JobId, int]:
    if query.filter is None or not query.filter.with_prefixes:
        return {}
    return reader.prefix_lengths([job.spec.job_id for job in jobs])


def _details(job: JobRecord, payload: str) -> JobDetails:
    options = {each.name: getattr(job.spec, each.name) for each in fields(JobOptions)}
    return JobDetails(job_id=job.spec.job_id, payload=payload, **options)


def _sentences(job: JobRecord, why: Why) -> tuple[str, ...]:
    """What the machine found out about a live job; an ended job is explained by its record."""
    reason = first_line(job.reason)
    now = f"it is {job.state}: {reason}" if reason else f"it is {job.state}"
    return why.get(job.spec.job_id, (now,)) if job.state in LIVE else (now,)


def _outputs(job_id: JobId, first: int, reader: JobReader, room: int) -> JobOutputs:
    """As many outputs of a job as fit, from one attempt on, and the attempt that comes next."""
    found: list[NumberedOutput] = []
    for number in reader.outputs(job_id, first):
        output = reader.output(job_id, number)
        size = ENTRY_ENVELOPE + content_size(output.text)
        if size > room and found:
            return JobOutputs(job_id, tuple(found), number)
        if size > room:  # it would never fit: no worker of this software sends so much
            output, size = AttemptOutput("", output.omitted + text_bytes(output.text)), ENTRY_ENVELOPE
        found.append(NumberedOutput(output.text, output.omitted, number=number))
        room -= size
    return JobOutputs(job_id, tuple(found))


def _newest(attempts: tuple[AttemptView, ...], room: int) -> tuple[tuple[AttemptView, ...], int]:
    """Return as many of the newest attempts as fit into `room` bytes, and the bytes that are left."""
    shown = 0
    for attempt in reversed(attempts):
        size = ENTRY_ENVELOPE + content_size(attempt.error)
        if size > room:
            break
        shown += 1
        room -= size
    return attempts[len(attempts) - shown :], room


def _view(job: JobRecord, result: str | None) -> JobView:
    return JobView(
        job_id=job.spec.job_id,
        type=job.spec.type,
        priority=job.spec.priority,
        state=job.state,
        submitted_at=job.submitted_at,
        ready_at=job.ready_at,
        ended_at=job.ended_at,
        attempt=job.attempt,
        failures=job.failures,
        crashes=job.crashes,
        worker=job.worker,
        cancel_requested=job.cancel_requested,
        reason=job.reason,
        result=result,
    )


def _attempt_view(attempt: Attempt) -> AttemptView:
    fields = asdict(attempt)
    del fields["job_id"]  # the explanation around it has that
    return AttemptView(**fields)
