"""What the dispatcher's store says about jobs, as a message that fits on the wire."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from stockworker.dispatcher.store import JobStore
from stockworker.protocol.body import ENTRY_ENVELOPE, MAX_CONTENT, content_size
from stockworker.protocol.ids import JobId
from stockworker.protocol.job import Attempt, JobRecord
from stockworker.protocol.messages import Answer, AttemptView, Explanation, JobView, Query

Why = Mapping[JobId, tuple[str, ...]]

_UNTOLD: Final[Why] = MappingProxyType({})
_MOST_ATTEMPTS: Final = 50
"""Attempts in a story: the newest."""


def answer(query: Query, store: JobStore, why: Why = _UNTOLD) -> Answer:
    """Look up what `query` asks for; what does not fit into one message is named as omitted.

    Args:
        query: what is asked.
        store: who knows.
        why: what keeps those of the jobs that live.
    """
    if query.filter is None:
        found = store.find(query.ids)
        jobs = [found[job_id] for job_id in query.ids if job_id in found]
    else:
        jobs = store.search(query.filter)
    results = store.results(jobs) if query.with_results else {}
    views: list[JobView] = []
    stories: list[Explanation] = []
    room = MAX_CONTENT
    for job in jobs:
        view = _view(job, results.get(job.spec.job_id))
        room -= ENTRY_ENVELOPE + content_size(view.result or "") + content_size(view.reason or "")
        story = _story(job, store, why) if query.explain else None
        if story is not None:
            room -= sum(content_size(sentence) for sentence in story.why)
        if views and room < 0:
            left = tuple(left.spec.job_id for left in jobs[len(views) :])
            return Answer(query.reply, tuple(views), left, tuple(stories))
        views.append(view)
        if story is not None:
            attempts, room = _newest(story.attempts, room)
            stories.append(Explanation(story.job_id, story.why, attempts))
    return Answer(query.reply, tuple(views), explanations=tuple(stories))


def _story(job: JobRecord, store: JobStore, why: Why) -> Explanation:
    reason = (job.reason or "").partition("\n")[0]
    ended = f"it is {job.state}: {reason}" if reason else f"it is {job.state}"
    return Explanation(
        job.spec.job_id, why.get(job.spec.job_id, (ended,)), tuple(map(_attempt_view, store.attempts(job.spec.job_id)))
    )


def _newest(attempts: tuple[AttemptView, ...], room: int) -> tuple[tuple[AttemptView, ...], int]:
    """As many of the newest attempts as there is room for, and the room that is left then."""
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
    return AttemptView(
        number=attempt.number,
        worker=attempt.worker,
        token=attempt.token,
        assigned_at=attempt.assigned_at,
        ended_at=attempt.ended_at,
        outcome=attempt.outcome,
        ran_s=attempt.ran_s,
        error=attempt.error,
    )
