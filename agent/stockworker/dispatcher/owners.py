"""Which jobs a client means, and which it may use. Pure."""

# `resolve` turns the IDs that clients write into full IDs (see `protocol.ids`), before anything else reads a message. All
# other rules follow from the owner in the full ID, and from the client that the broker has verified to be the sender:
#
# - A job belongs to the client that submitted it. A client can't submit a job that belongs to another one.
# - The owner cancels its jobs, and reads them. So does an operator, on topics that only operators may write.
# - Jobs of the shared owner are for all clients: the broker could not verify which client submitted them.

from dataclasses import replace
from typing import Final

from stockworker.protocol.ids import ClientId, JobId, full_id, owner_of
from stockworker.protocol.messages import CancelJob, Message, Query, RetryJob, Submission, Submit
from stockworker.protocol.straight_code import copier

_changed: Final = copier(Submission)


def resolve(message: Message) -> Message:
    """Complete the job IDs that a client has written."""
    match message:
        case Submit(jobs=jobs, client_id=client_id) if client_id is not None:
            return Submit(tuple(_resolve(job, client_id) for job in jobs), message.reply, client_id, message.notify)
        case CancelJob(job_id=job_id, client_id=client_id):
            return replace(message, job_id=full_id(job_id, client_id))
        case RetryJob(job_id=job_id):
            return replace(message, job_id=full_id(job_id, None))
        case Query(ids=ids, filter=wanted):
            # Clients of older versions write the IDs of shared jobs like those of their own.
            named = (full_id(job_id, client_id) for job_id in ids for client_id in (message.client_id, None))
            if wanted is not None and wanted.before is not None:
                wanted = replace(wanted, before=full_id(wanted.before, None))
            return replace(message, ids=tuple(dict.fromkeys(named)), filter=wanted)
        case _:
            return message


def _resolve(job: Submission, client_id: ClientId) -> Submission:
    return job if job.job_id is None else _changed(job, job_id=full_id(job.job_id, client_id))


def may_use(job_id: JobId, client_id: ClientId | None) -> bool:
    """Whether a client may cancel and read a job without being an operator; None is a client that is not verified."""
    return owner_of(job_id) in {None, client_id}


def readable(query: Query) -> Query:
    """Leave out what the client may not read: to this client, it does not exist."""
    if query.by_operator:
        return query
    wanted = query.filter
    if wanted is not None and wanted.before is not None and not may_use(wanted.before, query.client_id):
        wanted = None
    ids = tuple(job_id for job_id in query.ids if may_use(job_id, query.client_id))
    return replace(query, ids=ids, filter=wanted)
