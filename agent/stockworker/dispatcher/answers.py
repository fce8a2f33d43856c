"""What the dispatcher's store says about jobs, as a message that fits on the wire."""

from stockworker.dispatcher.store import JobStore
from stockworker.protocol.body import ENTRY_ENVELOPE, MAX_CONTENT, content_size
from stockworker.protocol.job import Job
from stockworker.protocol.messages import Answer, JobView, Query


def answer(query: Query, store: JobStore) -> Answer:
    """Look up what `query` asks for; what does not fit into one message is named as omitted."""
    if query.filter is None:
        found = store.find(query.ids)
        jobs = [found[job_id] for job_id in query.ids if job_id in found]
    else:
        jobs = store.search(query.filter)
    results = store.results(jobs) if query.with_results else {}
    views: list[JobView] = []
    size = 0
    for job in jobs:
        view = _view(job, results.get(job.spec.id))
        size += ENTRY_ENVELOPE + content_size(view.result or "") + content_size(view.reason or "")
        if views and size > MAX_CONTENT:
            return Answer(query.reply, tuple(views), tuple(left.spec.id for left in jobs[len(views) :]))
        views.append(view)
    return Answer(query.reply, tuple(views))


def _view(job: Job, result: str | None) -> JobView:
    return JobView(
        id=job.spec.id,
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
