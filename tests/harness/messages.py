"""Hypothesis strategies for every message of the protocol, made from the plans that encode and decode them."""

import dataclasses
from typing import Any, TypeVar, cast, get_args, get_type_hints

from hypothesis import strategies as st

from stockworker.protocol import job, job_filter, messages
from stockworker.protocol.body import MAX_TEXT, in_batches
from stockworker.protocol.codec_submit import submission_size
from stockworker.protocol.fields import LATEST_TIME
from stockworker.protocol.ids import ClientId, JobId, JobType, Tag, Token, UniqueKey, WorkerId, owner_of
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.wire import (
    Choice,
    Flag,
    Identifier,
    Integer,
    Items,
    JobIdentifier,
    Kind,
    Label,
    Number,
    Object,
    Table,
    Text,
    TextOrFalse,
    Unordered,
    plan_of,
)

T = TypeVar("T")

ids = st.text("ABCXYZabcxyz0189._-", min_size=1, max_size=64)
job_ids = st.builds("{}{}".format, st.just("") | ids.map("{}:".format), ids).map(JobId)
"""Full IDs of jobs, with an owner or without."""
worker_ids = ids.map(WorkerId)
client_ids = ids.map(ClientId)
job_types = ids.map(JobType)
tags = ids.map(Tag)
tokens = ids.map(Token)
unique_keys = ids.map(UniqueKey)

# Surrogates are the only characters that UTF-8 can't carry.
characters = st.characters(exclude_categories=["Cs"])
payloads = st.text(characters, max_size=400)
texts = st.text(characters, max_size=MAX_TEXT)
priorities = st.sampled_from(job.Priority)
times = st.floats(0, LATEST_TIME)
durations = st.floats(0, 1e12)
counts = st.integers(0, 1 << 31)
states = st.sampled_from(State)
replies = st.builds(messages.Reply, client_ids, st.none() | st.text(characters, max_size=128))


def values(kind: Kind) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911, PLR0912 (one for each kind)
    """What a class holds for JSON values of a kind."""
    match kind:
        case Identifier():
            return ids
        case JobIdentifier():
            return job_ids
        case TextOrFalse():
            return payloads | st.just(value=False)
        case Text(longest=longest):
            return payloads if longest is None else st.text(characters, max_size=longest)
        case Integer(lowest=lowest, highest=highest):
            return st.integers(lowest, highest)
        case Number(lowest=lowest, highest=highest):
            return st.floats(lowest, highest)
        case Flag():
            return st.booleans()
        case Choice(of=words) | Label(of=words):
            return st.sampled_from(words)
        case Items(item=item):
            return st.lists(values(item), max_size=4).map(tuple)
        case Unordered(item=item):
            return st.frozensets(values(item), max_size=8)
        case Table(key=key, value=value):
            return st.dictionaries(values(key), values(value), max_size=8).map(lambda found: tuple(found.items()))
        case Object(plan=plan):
            return of_class(plan.cls)
        case _:
            raise AssertionError(f"no strategy for {kind}")


def of_class(cls: type[T], **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[T]:
    """Objects of a class: each field by its plan, and what is not in the body by its type."""
    plan = plan_of(cls)
    fields = {
        each.attribute: st.none() | values(each.kind) if each.absent is None else values(each.kind)
        for each in plan.fields
    }
    hints = get_type_hints(cls)
    others = {
        each.name: _outside_the_body(hints[each.name])
        for each in dataclasses.fields(cast("Any", cls))
        if each.name not in fields
    }
    return st.builds(cls, **{**others, **fields, **fixed})


def _outside_the_body(hint: Any) -> st.SearchStrategy[Any]:
    """A level of the topic, a reply, or what the topic implies."""
    if hint is job.Priority:
        return priorities
    if hint is JobId:
        return job_ids
    if hint is bool:
        return st.booleans()
    if hint is messages.Reply:
        return replies
    if messages.Reply in get_args(hint):
        return st.none() | replies
    return ids


@st.composite
def submits(draw: st.DrawFn) -> messages.Submit:
    """Jobs of one type and priority, as many as fit into one message."""
    alike = of_class(messages.Submission, type=st.just(draw(job_types)), priority=st.just(draw(priorities)))
    jobs = draw(st.lists(alike, min_size=1, max_size=5))
    batch, reply, notify = next(in_batches(jobs, submission_size)), draw(st.none() | replies), draw(st.none() | ids)
    return proven(messages.Submit(batch, reply, notify=notify), draw(st.booleans()))


FromProven = TypeVar("FromProven", messages.Submit, messages.CancelJob, messages.StatsRequest)


def proven(message: FromProven, verified: bool) -> FromProven:  # noqa: FBT001 (a strategy passes it)
    """A message on a topic of the client that its answer goes to, or on the bare topic."""
    if verified and message.reply is not None:
        return dataclasses.replace(message, client_id=message.reply.client_id)
    return dataclasses.replace(message, client_id=None)


cancellations = st.builds(
    proven, of_class(messages.CancelJob, by_operator=st.just(value=False)), st.booleans()
) | of_class(messages.CancelJob, reply=replies, by_operator=st.just(value=True)).map(
    lambda order: proven(order, verified=True)
)


assignments = of_class(messages.Assignment)
attempt_reports = of_class(messages.AttemptReport)
filters = of_class(job_filter.JobFilter)
queries = (
    of_class(messages.Query, explain=st.just(value=False), details=st.just(value=False), outputs_from=st.none())
    | of_class(messages.Query, filter=st.none(), outputs_from=st.none())
    | of_class(messages.Query, ids=job_ids.map(lambda job_id: (job_id,)), filter=st.none())
)

notice_entries = of_class(
    messages.NoticeEntry,
    job_id=st.builds("{}:{}".format, client_ids, ids).map(JobId),
    state=st.sampled_from(sorted(TERMINAL)),
)


def notices(entries: list[messages.NoticeEntry], connection: str) -> messages.Notices:
    """Those of the entries that have the same owner as the first one."""
    owner = owner_of(entries[0].job_id)
    assert owner is not None
    alike = (entry for entry in entries if owner_of(entry.job_id) == owner)
    return messages.Notices(owner, connection, tuple(alike))


BY_CLASS: dict[type[messages.Message], st.SearchStrategy[messages.Message]] = {
    cls: of_class(cls) for cls in get_args(messages.Message)
} | {
    messages.Submit: submits(),
    messages.CancelJob: cancellations,
    messages.StatsRequest: st.builds(proven, of_class(messages.StatsRequest), st.booleans()),
    messages.Query: queries,
    messages.Notices: st.builds(notices, st.lists(notice_entries, min_size=1, max_size=4), ids),
    messages.Notice: of_class(messages.Notice, state=st.sampled_from(sorted(TERMINAL))),
}

anything = st.one_of(*BY_CLASS.values())
