"""Hypothesis strategies for every message of the protocol, within the limits that senders keep."""

from typing import TypeVar

from hypothesis import strategies as st

from stockworker.protocol import job, messages
from stockworker.protocol.body import MAX_TEXT, in_batches
from stockworker.protocol.codec_client import submission_size
from stockworker.protocol.fields import LATEST_TIME
from stockworker.protocol.ids import ClientId, JobId, JobType, Tag, Token, UniqueKey, WorkerId
from stockworker.protocol.lifecycle import TERMINAL, State

T = TypeVar("T")

_ID_LETTERS = "ABCXYZabcxyz0189._-"

ids = st.text(_ID_LETTERS, min_size=1, max_size=64)
job_ids = ids.map(JobId)
worker_ids = ids.map(WorkerId)
client_ids = ids.map(ClientId)
job_types = ids.map(JobType)
tags = ids.map(Tag)
tokens = ids.map(Token)
unique_keys = ids.map(UniqueKey)
tag_lists = st.lists(tags, max_size=8).map(tuple)
type_lists = st.lists(job_types, max_size=8).map(tuple)

# Surrogates are the only characters that UTF-8 can't carry.
characters = st.characters(exclude_categories=["Cs"])
payloads = st.text(characters, max_size=400)
texts = st.text(characters, max_size=MAX_TEXT)
priorities = st.sampled_from(job.Priority)
versions = st.text(characters, max_size=64)
times = st.floats(0, LATEST_TIME)
durations = st.floats(0, 1e12)
counts = st.integers(0, 1 << 31)
slots = st.integers(1, 1024)
states = st.sampled_from(State)

replies = st.builds(messages.Reply, client_ids, st.none() | st.text(characters, max_size=128))
optional_replies = st.none() | replies


def submissions(
    of_type: st.SearchStrategy[JobType] = job_types,
    of_priority: st.SearchStrategy[job.Priority] = priorities,
) -> st.SearchStrategy[messages.Submission]:
    return st.builds(
        messages.Submission,
        job_id=st.none() | job_ids,
        type=of_type,
        priority=of_priority,
        payload=payloads,
        not_before=st.none() | times,
        expires_at=st.none() | times,
        timeout_s=st.none() | st.floats(0.001, 30 * 86400),
        max_attempts=st.none() | st.integers(1, 1000),
        backoff_s=st.none() | st.floats(0, 30 * 86400),
        max_crashes=st.none() | st.integers(1, 1000),
        tags=st.frozensets(tags, max_size=8),
        unique=st.none() | unique_keys,
    )


@st.composite
def submits(draw: st.DrawFn) -> messages.Submit:
    """Jobs of one type and priority, as many as fit into one message."""
    alike = submissions(st.just(draw(job_types)), st.just(draw(priorities)))
    jobs = draw(st.lists(alike, min_size=1, max_size=5))
    return messages.Submit(next(in_batches(jobs, submission_size)), draw(optional_replies))


filters = st.builds(
    messages.JobFilter,
    state=st.none() | states,
    type=st.none() | job_types,
    limit=st.integers(1, 1000),
    before=st.none() | job_ids,
)
receipt_entries = st.builds(
    messages.ReceiptEntry,
    st.none() | job_ids,
    st.sampled_from(messages.ReceiptStatus),
    st.none() | texts,
    st.none() | job_ids,
)
job_views = st.builds(
    messages.JobView,
    job_id=job_ids,
    type=job_types,
    priority=priorities,
    state=states,
    submitted_at=times,
    ready_at=times,
    ended_at=st.none() | times,
    attempt=counts,
    failures=counts,
    crashes=counts,
    worker=st.none() | worker_ids,
    cancel_requested=st.booleans(),
    reason=st.none() | texts,
    result=st.none() | payloads,
)
held_leases = st.builds(messages.ReportedLease, job_ids, tokens, st.sampled_from(messages.LeaseStatus))
attempt_reports = st.builds(
    messages.AttemptReport,
    job_id=job_ids,
    token=tokens,
    outcome=st.sampled_from(job.Outcome),
    result=st.none() | payloads,
    error=st.none() | texts,
    permanent=st.booleans(),
    ran_s=st.none() | durations,
)
assignments = st.builds(
    messages.Assignment,
    job_ids,
    job_types,
    st.integers(1, 1 << 31),
    tokens,
    st.floats(0.001, 30 * 86400),
    payloads,
    st.booleans(),
    st.none() | durations,
)
transitions = st.builds(messages.Transition, job_ids, job_types, states, counts, st.none() | worker_ids)
queue_views = st.builds(messages.QueueView, job_types, counts, durations, counts, st.booleans())
worker_views = st.builds(
    messages.WorkerView, worker_ids, st.booleans(), counts, counts, type_lists, durations, versions, st.booleans()
)
token_lists = st.lists(tokens, max_size=5).map(tuple)


def _tuples_of(items: st.SearchStrategy[T]) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(items, max_size=4).map(tuple)


@st.composite
def stories(draw: st.DrawFn) -> messages.Explanation:
    """A story, with attempts at its own job."""
    job_id = draw(job_ids)
    attempts = st.builds(
        job.Attempt,
        job_id=st.just(job_id),
        number=st.integers(1, 1 << 31),
        worker=worker_ids,
        token=tokens,
        assigned_at=times,
        ended_at=st.none() | times,
        outcome=st.none() | st.sampled_from(job.Outcome),
        ran_s=st.none() | durations,
        error=st.none() | texts,
    )
    return messages.Explanation(job_id, draw(_tuples_of(texts)), draw(_tuples_of(attempts)))


queries_by_id = st.builds(messages.Query, _tuples_of(job_ids), st.none(), st.booleans(), replies, st.booleans())
queries_by_filter = st.builds(messages.Query, _tuples_of(job_ids), filters, st.booleans(), replies)

BY_CLASS: dict[type[messages.Message], st.SearchStrategy[messages.Message]] = {
    messages.Submit: submits(),
    messages.CancelJob: st.builds(messages.CancelJob, job_ids, optional_replies),
    messages.RetryJob: st.builds(messages.RetryJob, job_ids, optional_replies),
    messages.SetPause: st.builds(messages.SetPause, job_types, st.booleans(), optional_replies),
    messages.SetDrain: st.builds(messages.SetDrain, worker_ids, st.booleans(), optional_replies),
    messages.Query: queries_by_id | queries_by_filter,
    messages.StatsRequest: st.builds(messages.StatsRequest, optional_replies),
    messages.Cleanup: st.just(messages.Cleanup()),
    messages.Receipt: st.builds(messages.Receipt, replies, _tuples_of(receipt_entries)),
    messages.Answer: st.builds(
        messages.Answer, replies, _tuples_of(job_views), _tuples_of(job_ids), _tuples_of(stories())
    ),
    messages.Notice: st.builds(
        messages.Notice,
        job_ids,
        job_types,
        st.sampled_from(sorted(TERMINAL)),
        counts,
        st.none() | worker_ids,
        st.none() | payloads,
        st.none() | texts,
    ),
    messages.Stats: st.builds(
        messages.Stats,
        reply=optional_replies,
        incarnation=ids,
        version=versions,
        uptime_s=durations,
        states=st.dictionaries(states, counts, max_size=8).map(lambda found: tuple(found.items())),
        queues=_tuples_of(queue_views),
        workers=_tuples_of(worker_views),
        counters=st.dictionaries(versions, counts, max_size=8).map(lambda found: tuple(found.items())),
    ),
    messages.Request: st.builds(
        messages.Request,
        worker_ids,
        ids,
        slots,
        st.integers(0, 1024),
        type_lists,
        tag_lists,
        versions,
        _tuples_of(held_leases),
        st.booleans(),
    ),
    messages.Report: st.builds(messages.Report, worker_ids, _tuples_of(attempt_reports)),
    messages.Progress: st.builds(messages.Progress, worker_ids, job_ids, st.floats(0, 1), texts),
    messages.Register: st.builds(messages.Register, worker_ids, ids, versions, slots, type_lists, tag_lists),
    messages.Unregister: st.builds(messages.Unregister, worker_ids, ids),
    messages.Heartbeat: st.builds(
        messages.Heartbeat, worker_ids, ids, slots, st.integers(0, 1024), counts, durations, counts
    ),
    messages.Disconnect: st.builds(messages.Disconnect, worker_ids, ids),
    messages.Assign: st.builds(messages.Assign, worker_ids, st.floats(0.001, 86400), _tuples_of(assignments)),
    messages.Ack: st.builds(messages.Ack, worker_ids, token_lists, token_lists, st.floats(0, 86400), st.none() | texts),
    messages.Control: st.builds(
        messages.Control, worker_ids, st.sampled_from(messages.ControlAction), st.none() | tokens
    ),
    messages.Monitor: st.builds(messages.Monitor, _tuples_of(transitions)),
    messages.Presence: st.builds(messages.Presence, st.booleans(), ids, versions),
}

anything = st.one_of(*BY_CLASS.values())
