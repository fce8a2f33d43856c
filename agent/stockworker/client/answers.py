"""Which message answers which question, and how. Pure."""

# The correlation of a question is random, so only the dispatcher and the broker can answer it. What they answer is
# checked nevertheless: an answer is of the kind that the question expects, and names only what the question names. So no
# caller of a conversation needs a check of its own, and none meets a job that it has not asked about. Questions have IDs in
# a form that means the same from every client (`ids.written_id`); answers have full IDs.
#
# ==============  ==============================================================================================
# question        answer
# ==============  ==============================================================================================
# `Submit`        a receipt with an entry for each job, in their order; one with a unique key may have a holder
# an order        a receipt with one entry: about the job of the order, or about no job
# `Query`         jobs and explanations of the IDs that were asked for; or as many jobs as the filter allows
# `StatsRequest`  statistics
# any             a receipt with one rejected entry about no job: the dispatcher refused the whole message
# ==============  ==============================================================================================

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from typing import Final

from stockworker.errors import RequestRefused
from stockworker.protocol.ids import JobId, full_id
from stockworker.protocol.messages import (
    Answer,
    CancelJob,
    Message,
    Query,
    Receipt,
    ReceiptEntry,
    ReceiptStatus,
    RetryJob,
    SetDrain,
    SetPause,
    Stats,
    StatsRequest,
    Submission,
    Submit,
)
from stockworker.protocol.views import JobOutputs

FromDispatcher = Receipt | Answer | Stats
"""The messages that carry the correlation of a question."""

_SUBMITTED: Final = {ReceiptStatus.STORED, ReceiptStatus.DUPLICATE, ReceiptStatus.REJECTED}
_CANCELLED: Final = {ReceiptStatus.CANCELLED, ReceiptStatus.CANCELLING, ReceiptStatus.REJECTED}
_RETRIED: Final = {ReceiptStatus.REOPENED, ReceiptStatus.REJECTED}
_SET: Final = {ReceiptStatus.DISPATCH_STOPPED, ReceiptStatus.DISPATCH_RESUMED}


def judge(question: Message, message: FromDispatcher) -> FromDispatcher | RequestRefused | None:
    """What a message that has the correlation of a question means for it: an answer, a refusal, or nothing (None)."""
    match message:
        case Receipt(reply=reply, entries=(ReceiptEntry(None, ReceiptStatus.REJECTED, reason),)):
            if isinstance(question, Submit):
                refused = (ReceiptEntry(job.job_id, ReceiptStatus.REJECTED, reason) for job in question.jobs)
                return Receipt(reply, tuple(refused))
            return RequestRefused(f"the dispatcher refused the request: {reason}")
        case _:
            return message if _answers(question, message) else None


def _answers(question: Message, message: FromDispatcher) -> bool:
    match question, message:
        case Submit(jobs=jobs), Receipt(entries=entries):
            return len(jobs) == len(entries) and all(map(_is_about, jobs, entries))
        case CancelJob(job_id=job_id), Receipt(entries=(entry,)):
            return entry.job_id == full_id(job_id, None) and entry.status in _CANCELLED
        case RetryJob(job_id=job_id), Receipt(entries=(entry,)):
            return entry.job_id == full_id(job_id, None) and entry.status in _RETRIED
        case SetPause() | SetDrain(), Receipt(entries=(entry,)):
            return entry.job_id is None and entry.status in _SET
        case Query(), Answer():
            return _is_about_jobs_of(question, message)
        case StatsRequest(), Stats():
            return True
        case _:
            return False


def _is_about(job: Submission, entry: ReceiptEntry) -> bool:
    has_its_id = entry.job_id is not None and job.job_id in {None, entry.job_id}
    return has_its_id and entry.status in _SUBMITTED and (entry.holder is None or job.unique is not None)


def _is_about_jobs_of(query: Query, answer: Answer) -> bool:
    found = [view.job_id for view in answer.jobs]
    explained = [each.job_id for each in answer.explanations]
    if answer.omitted and not found:
        return False  # the same query would be asked again for ever
    if not _are_some_of(set(found), [view.job_id for view in answer.details]):
        return False
    if not _is_next_part(query.outputs_from, answer.outputs, found):
        return False
    if query.filter is None:
        asked = {full_id(job_id, None) for job_id in query.ids}
        if query.by_prefix:
            return _have_prefixes(asked, answer)
        return _are_some_of(asked, [*found, *answer.omitted]) and _are_some_of(asked, explained)
    before = query.filter.before
    if before is not None and before in {*found, *answer.omitted, answer.searched_to}:
        return False  # it does not go on
    return len(found) + len(answer.omitted) <= query.filter.limit and not explained


def _is_next_part(first: int | None, answered: JobOutputs | None, found: Collection[JobId]) -> bool:
    """Whether outputs are those that were asked for, and another query for the rest goes on."""
    if answered is None:
        return True
    numbers = [output.number for output in answered.outputs]
    following = [] if answered.following is None else [answered.following]
    return (
        first is not None
        and list(found) == [answered.job_id]
        and sorted({*numbers, *following}) == [*numbers, *following]
        and min(numbers, default=first) >= first
        and not (following and not numbers)
    )


def _have_prefixes(asked: AbstractSet[JobId], answer: Answer) -> bool:
    """Whether an answer names only jobs that have one of these IDs, or begin with it."""
    named = {view.job_id for view in answer.jobs}.union(answer.omitted)
    alike = (job_id.startswith(each.prefix) for each in answer.ambiguous for job_id in each.job_ids)
    return (
        {each.prefix for each in answer.ambiguous} <= asked
        and all(alike)
        and all(job_id in asked or any(map(job_id.startswith, asked)) for job_id in named)
    )


def _are_some_of(asked: AbstractSet[JobId], named: Collection[JobId]) -> bool:
    """Whether `named` are among `asked`, each once."""
    unique = set(named)
    return len(unique) == len(named) and unique <= asked
