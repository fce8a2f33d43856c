"""Answers queries about jobs from the store, in a message that fits on the wire."""

from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Final

from stockworker.dispatcher.store import JobStore
from stockworker.protocol.body import ENTRY_ENVELOPE, MAX_CONTENT, content_size
from stockworker.protocol.ids import JobId
from stockworker.protocol.job import Attempt, JobRecord
from stockworker.protocol.messages import Answer, AttemptView, Explanation, JobView, Query
from stockworker.protocol.sealed import first_line

Why = Mapping[JobId, tuple[str, ...]]

_UNEXPLAINED: Final[Why] = MappingProxyType({})
_MOST_ATTEMPTS: Final = 50
"""How many attempts an explanation lists at most: the newest."""


def answer(query: Query, store: JobStore, why: Why = _UNEXPLAINED) -> Answer:
    """Look up the jobs of a query. Jobs that do not fit into one message are listed as omitted.

    Args:
        query: which jobs, and what about them.
        store: where the jobs are.
        why: explanations of the live jobs.
    """
    if query.filter is None:
        found = store.find(query.ids)
        jobs = [found[job_id] for job_id in query.ids if job_id in found]
    else:
        jobs = store.search(query.filter, None if query.by_operator else query.client_id)
    results = store.results(jobs) if query.with_results else {}
    views: list[JobView] = []
    explanations: list[Explanation] = []
    room = MAX_CONTENT
    for job in jobs:
        view = _view(job, results.get(job.spec.job_id))
        room -= ENTRY_ENVELOPE + content_size(view.result or "") + content_size(view.reason or "")
        explanation = _explain(job, store, why) if query.explain else None
        if explanation is not None:
            room -= sum(content_size(sentence) for sentence in explanation.why)
        if views and room < 0:
            left = tuple(left.spec.job_id for left in jobs[len(views) :])
            return Answer(query.reply, tuple(views), left, tuple(explanations))
        views.append(view)
        if explanation is not None:
            attempts, room = _newest(explanation.attempts, room)
            explanations.append(Explanation(explanation.job_id, explanation.why, attempts))
    return Answer(query.reply, tuple(views), explanations=tuple(explanations))


def _explain(job: JobRecord, store: JobStore, why: Why) -> Explanation:
    reason = first_line(job.reason)
    ended = f"it is {job.state}: {reason}" if reason else f"it is {job.state}"
    return Explanation(
        job.spec.job_id, why.get(job.spec.job_id, (ended,)), tuple(map(_attempt_view, store.attempts(job.spec.job_id)))
    )


def _newest(attempts: tuple[AttemptView, ...], room: int) -> tuple[tuple[AttemptView, ...], int]:
    """Return as many of the newest attempts as fit into `room` bytes, and the bytes that are left."""
    shown = 0
    for attempt in reversed(attempts[-_MOST_ATTEMPTS:]):
        size = ENTRY_ENVELOPE + content_size(attempt.error or "")
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
