"""Recorded bytes of schema 1 stay decodable for ever, and no field of the wire can be forgotten."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from stockworker.errors import DecodeError
from stockworker.protocol import job, job_filter, messages, views
from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.codec import decode, encode
from stockworker.protocol.ids import ClientId, JobId, JobType, Tag, Token, UniqueKey, WorkerId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Message
from stockworker.protocol.packet import Packet, Properties
from stockworker.protocol.wire import Items, Object, Plan, PlanField, plan_of

W, J, C, T = (
    WorkerId("edge-7-1"),
    JobId("018bcfe5-687b-7d95-85dc-86740e7a269f"),
    ClientId("alice"),
    Token("00c0ffee12345678"),
)
TA = JobType("technical_analysis")
KEY = UniqueKey("AAPL.daily")
R = messages.Reply(C, "c-1")
OWN = JobId("alice:daily")
TEXT = '{"symbol":"AAPL","note":"größer €\\n"}'

ALL_OPTIONS: dict[str, Any] = {
    "not_before": 1.7e9,
    "expires_at": 1.8e9,
    "timeout_s": 60.5,
    "max_attempts": 3,
    "backoff_s": 2.0,
    "max_crashes": 2,
}

OF_PRIORITIES = views.QueueView(TA, 3, 1.25, 1, priorities=(views.PriorityView(job.Priority.LOW, 3, 1.25),))
RECORDED: dict[str, Message] = {
    "submit one": messages.Submit(
        (messages.Submission(J, TA, job.Priority.HIGH, TEXT, **ALL_OPTIONS, tags=frozenset({Tag("eu"), Tag("gpu")})),),
        R,
    ),
    "submit bare": messages.Submit((messages.Submission(None, TA, job.Priority.NORMAL, "{}"),), None),
    "submit batch": messages.Submit(
        (
            messages.Submission(J, TA, job.Priority.LOW, TEXT, **ALL_OPTIONS, tags=frozenset({Tag("eu")})),
            messages.Submission(JobId("b"), TA, job.Priority.LOW, ""),
        ),
        R,
    ),
    "cancel": messages.CancelJob(J, R),
    "retry": messages.RetryJob(J, None),
    "query ids": messages.Query((J, JobId("b")), None, with_results=True, reply=R),
    "query filter": messages.Query(
        (), job_filter.JobFilter(State.FAILED, TA, 20), with_results=False, reply=messages.Reply(C)
    ),
    "stats request": messages.StatsRequest(R),
    "cleanup": messages.Cleanup(),
    "receipt": messages.Receipt(
        R,
        (
            messages.ReceiptEntry(J, messages.ReceiptStatus.STORED),
            messages.ReceiptEntry(JobId("b"), messages.ReceiptStatus.DUPLICATE),
            messages.ReceiptEntry(None, messages.ReceiptStatus.REJECTED, "payload: is too large"),
        ),
    ),
    "answer": messages.Answer(
        R,
        (
            views.JobView(
                J,
                TA,
                job.Priority.HIGH,
                State.COMPLETED,
                1.7e9,
                1.7e9,
                1700000009.25,
                2,
                1,
                0,
                W,
                cancel_requested=False,
                reason="retried",
                result='{"sma":[1.5]}',
            ),
            views.JobView(
                JobId("b"),
                TA,
                job.Priority.LOW,
                State.QUEUED,
                1.7e9,
                1.7e9,
                None,
                0,
                0,
                0,
                None,
                cancel_requested=True,
                reason=None,
            ),
        ),
        (JobId("c"),),
    ),
    "completed": messages.Notice(J, TA, State.COMPLETED, 2, W, '{"sma":[1.5]}', None),
    "failed": messages.Notice(J, TA, State.CANCELLED, 0, None, None, "cancelled by alice"),
    "stats": messages.Stats(
        R,
        "e1",
        "0.1.0",
        12.5,
        ((State.QUEUED, 3), (State.COMPLETED, 9)),
        (views.QueueView(TA, 3, 1.25, 1),),
        (views.WorkerView(W, online=True, slots=2, leases=1, types=(TA,), seen_s=0.5, version="0.1.0"),),
        (("reports_stale", 1),),
    ),
    "request": messages.Request(
        W,
        "boot1",
        2,
        4,
        (TA,),
        (Tag("eu"),),
        "0.1.0",
        (
            messages.ReportedLease(J, T, messages.LeaseStatus.RUNNING),
            messages.ReportedLease(JobId("b"), Token("1"), messages.LeaseStatus.WAITING),
            messages.ReportedLease(JobId("c"), Token("2"), messages.LeaseStatus.FINISHED),
        ),
    ),
    "report": messages.Report(
        W,
        (
            messages.AttemptReport(T, job.Outcome.OK, '{"sma":[1.5]}', None, permanent=False, ran_s=1.25, job_id=J),
            messages.AttemptReport(
                Token("1"), job.Outcome.ERROR, None, "no such symbol", permanent=True, ran_s=0.5, job_id=JobId("b")
            ),
            messages.AttemptReport(Token("2"), job.Outcome.RELEASED, job_id=JobId("c")),
        ),
    ),
    "report of outputs": messages.Report(
        W,
        (
            messages.AttemptReport(
                T, job.Outcome.ERROR, error="no such symbol", output=AttemptOutput("größer\n", 983_040), job_id=J
            ),
            messages.AttemptReport(Token("1"), job.Outcome.OK, "1", output=AttemptOutput("done"), job_id=JobId("b")),
        ),
    ),
    "progress": messages.Progress(W, J, 0.5, "half way"),
    "register": messages.Register(W, "boot1", "0.1.0", 2, (TA,), (Tag("eu"),)),
    "unregister": messages.Unregister(W, "boot1"),
    "heartbeat": messages.Heartbeat(W, "boot1", 2, 1, 0, 99.5),
    "request short of space": messages.Request(W, "boot1", 2, 0, (TA,), (), "0.1.0", (), disk_pressure=True),
    "heartbeat of evictions": messages.Heartbeat(W, "boot1", 2, 1, 7, 99.5, 3),
    "heartbeat of a certificate": messages.Heartbeat(W, "boot1", 2, 1, 0, 99.5, certificate_days=-3),
    "heartbeat of a market store": messages.Heartbeat(W, "boot1", 2, 1, 0, 99.5, market_store="0123456789abcdef"),
    "disconnect": messages.Disconnect(W, "boot1"),
    "assign": messages.Assign(W, 30.0, (messages.Assignment(J, TA, 1, T, 60.0, TEXT),)),
    "assign with a time limit": messages.Assign(
        W, 30.0, (messages.Assignment(J, TA, 1, T, 60.0, "{}", no_crash_budget=True, expires_in_s=12.5),)
    ),
    "ack": messages.Ack(W, (T,), (Token("1"),), 30.0, None),
    "ack error": messages.Ack(W, error="schema 7 is unknown here: this side speaks schema 1"),
    "ack of a probe": messages.Ack(W, stale=(T,), version="0.1.0", time=1.7e9),
    "control cancel": messages.Control(W, messages.ControlAction.CANCEL, T),
    "control drain": messages.Control(W, messages.ControlAction.DRAIN),
    "monitor": messages.Monitor(
        (messages.Transition(J, TA, State.RUNNING, 1, W), messages.Transition(JobId("b"), TA, State.QUEUED, 0, None))
    ),
    "presence": messages.Presence(online=True, incarnation="e1", version="0.1.0"),
    "submit unique": messages.Submit(
        (messages.Submission(None, TA, job.Priority.NORMAL, "{}", unique=KEY),),
        R,
    ),
    "submit batch of unique": messages.Submit(
        (
            messages.Submission(JobId("b"), TA, job.Priority.NORMAL, "1", unique=KEY),
            messages.Submission(JobId("c"), TA, job.Priority.NORMAL, "2"),
        ),
        None,
    ),
    "pause": messages.SetPause(TA, paused=True, reply=R),
    "resume": messages.SetPause(TA, paused=False, reply=None),
    "drain": messages.SetDrain(W, drained=True, reply=R),
    "undrain": messages.SetDrain(W, drained=False, reply=None),
    "retry with a reply": messages.RetryJob(J, R),
    "resume with a reply": messages.SetPause(TA, paused=False, reply=R),
    "undrain with a reply": messages.SetDrain(W, drained=False, reply=R),
    "query next page": messages.Query(
        (), job_filter.JobFilter(State.FAILED, None, 20, J), with_results=False, reply=messages.Reply(C)
    ),
    "query of every filter": messages.Query(
        (),
        job_filter.JobFilter(
            limit=20,
            with_prefixes=True,
            worker=W,
            tag=Tag("eu"),
            unique=KEY,
            reason="ticker",
            since=1.7e9,
            until=1.8e9,
        ),
        with_results=False,
        reply=R,
    ),
    "query by prefix": messages.Query((JobId("b"),), None, with_results=False, reply=R, by_prefix=True),
    "query details": messages.Query((J,), None, with_results=False, reply=R, details=True),
    "answer of prefixes": messages.Answer(
        R,
        (
            views.JobView(
                J,
                TA,
                job.Priority.LOW,
                State.QUEUED,
                1.7e9,
                1.7e9,
                None,
                0,
                0,
                0,
                None,
                cancel_requested=False,
                reason=None,
                prefix_length=8,
            ),
        ),
        ambiguous=(views.Ambiguity(JobId("b"), (JobId("b1"), JobId("b2"))),),
        searched_to=JobId("c"),
    ),
    "query outputs": messages.Query((J,), None, with_results=False, reply=R, outputs_from=3),
    "answer outputs": messages.Answer(
        R,
        (),
        outputs=views.JobOutputs(
            J,
            (views.NumberedOutput("größer\n", 983_040, number=3), views.NumberedOutput("done", number=4)),
            following=5,
        ),
    ),
    "answer details": messages.Answer(
        R,
        (),
        details=(
            views.JobDetails(
                job_id=J, payload=TEXT, **ALL_OPTIONS, tags=frozenset({Tag("eu"), Tag("gpu")}), unique=KEY
            ),
        ),
    ),
    "stats request for a page": messages.StatsRequest(R, C, "edge-7-1"),
    "query why": messages.Query((JobId("b"),), None, with_results=False, reply=R, explain=True),
    "receipt of holds and keys": messages.Receipt(
        R,
        (
            messages.ReceiptEntry(None, messages.ReceiptStatus.DISPATCH_STOPPED),
            messages.ReceiptEntry(None, messages.ReceiptStatus.DISPATCH_RESUMED),
            messages.ReceiptEntry(
                JobId("c"),
                messages.ReceiptStatus.DUPLICATE,
                "job b holds the unique key AAPL.daily",
                JobId("b"),
            ),
        ),
    ),
    "answer why": messages.Answer(
        R,
        (),
        explanations=(
            views.Explanation(
                JobId("b"),
                ("it has waited for 5 s at priority low",),
                (
                    views.AttemptView(1, W, T, 1.7e9, 1700000009.25, job.Outcome.ERROR, 9.0, "no such ticker"),
                    views.AttemptView(2, W, Token("1"), 1700000010.0),
                ),
            ),
        ),
    ),
    "stats of a market store": messages.Stats(
        None,
        "e1",
        "0.1.0",
        12.5,
        (),
        (),
        (
            views.WorkerView(
                W,
                online=True,
                slots=2,
                leases=1,
                types=(),
                seen_s=0.5,
                version="0.1.0",
                market_store="0123456789abcdef",
            ),
        ),
        (),
    ),
    "stats of certificates": messages.Stats(
        None,
        "e1",
        "0.1.0",
        12.5,
        (),
        (),
        (
            views.WorkerView(
                W, online=True, slots=2, leases=1, types=(), seen_s=0.5, version="0.1.0", certificate_days=9
            ),
        ),
        (),
        certificate_days=365,
    ),
    "submit of a client": messages.Submit((messages.Submission(OWN, TA, job.Priority.NORMAL, "{}"),), R, C),
    "cancel of a client": messages.CancelJob(OWN, R, C),
    "cancel by an operator": messages.CancelJob(OWN, R, C, by_operator=True),
    "query by an operator": messages.Query((OWN, J), None, with_results=False, reply=R, by_operator=True),
    "stats request of a client": messages.StatsRequest(R, C),
    "stats for a client": messages.Stats(R, "e1", "0.1.0", 12.5, ((State.QUEUED, 3),), (), (), ()),
    "stats for a probe": messages.Stats(R, "e1", "0.1.0", 12.5, ((State.QUEUED, 3),), (), (), (), time=1.5),
    "completed of a client": messages.Notice(OWN, TA, State.COMPLETED, 2, W, "1.5", None),
    "failed of a client": messages.Notice(OWN, TA, State.EXPIRED, 0, None, None, "no worker started it"),
    "progress of a client": messages.Progress(W, OWN, 0.5, "reading"),
    "submit for a connection": messages.Submit(
        (messages.Submission(OWN, TA, job.Priority.NORMAL, "{}"),), R, C, notify="c0ffee"
    ),
    "submit batch for a connection": messages.Submit(
        (
            messages.Submission(OWN, TA, job.Priority.NORMAL, "{}"),
            messages.Submission(JobId("alice:b"), TA, job.Priority.NORMAL, "2"),
        ),
        R,
        C,
        notify="c0ffee",
    ),
    "receipt for a connection": messages.Receipt(
        R, (messages.ReceiptEntry(OWN, messages.ReceiptStatus.STORED),), notices=True
    ),
    "notices": messages.Notices(
        C,
        "c0ffee",
        (
            messages.NoticeEntry(OWN, TA, State.COMPLETED, 2, W, "1.5"),
            messages.NoticeEntry(JobId("alice:b"), TA, State.FAILED, 1, W, None, "no such ticker"),
        ),
    ),
    "completed with a large result": messages.Notice(OWN, TA, State.COMPLETED, 2, W, result=False),
    "stats of many": messages.Stats(
        None,
        "e1",
        "0.1.0",
        12.5,
        (),
        (),
        (
            views.WorkerView(
                W, online=True, slots=2, leases=1, types=(TA,), seen_s=0.5, version="0.1.0", types_omitted=2499
            ),
        ),
        (),
        queues_omitted=45,
        workers_omitted=450,
    ),
    "stats of holds": messages.Stats(
        None,
        "e1",
        "0.1.0",
        12.5,
        (),
        (views.QueueView(TA, 3, 1.25, 1, paused=True),),
        (views.WorkerView(W, online=True, slots=2, leases=1, types=(), seen_s=0.5, version="0.1.0", drained=True),),
        (),
    ),
    "stats of priorities": messages.Stats(None, "e1", "0.1.0", 12.5, (), (OF_PRIORITIES,), (), ()),
}

VECTORS: dict[str, dict[str, Any]] = {
    vector["name"]: vector
    for vector in json.loads((Path(__file__).parents[1] / "vectors" / "schema-1.json").read_text(encoding="utf-8"))
}


def recorded_packet(name: str) -> Packet:
    vector = VECTORS[name]
    properties = vector["properties"]
    correlation = properties.get("correlation_data")
    return Packet(
        vector["topic"],
        vector["body"].encode(),
        retain=vector["retain"],
        properties=Properties(
            properties.get("content_type"),
            properties.get("response_topic"),
            None if correlation is None else correlation.encode(),
            tuple((name, value) for name, value in properties.get("user", [])),
        ),
    )


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_bytes_keep_their_meaning(name: str) -> None:
    assert decode(recorded_packet(name)) == RECORDED[name]


@pytest.mark.parametrize("name", RECORDED)
def test_what_was_written_once_is_still_written(name: str) -> None:
    """Peers and scripts of older versions find each field that they read under its name."""
    old, new = recorded_packet(name), encode(RECORDED[name])
    assert new.topic == MOVED.get(name, old.topic)
    assert {*new.properties.user} >= {*old.properties.user}
    if old.body and (old.properties.content_type or not old.topic.startswith("jobs/queue/")):
        kept = {field: value for field, value in json.loads(old.body).items() if field not in DROPPED}
        assert includes(json.loads(new.body), kept)


MOVED = {"stats": "jobs/receipt/alice"}
"""Messages that are on another topic now: statistics for one client were on a topic that all clients read."""

DROPPED = {"renewed"}
"""Fields that no peer has ever read."""


def includes(new: Any, old: Any) -> bool:
    """Whether JSON has everything that it had before."""
    match old:
        case dict():
            return all(name in new and includes(new[name], value) for name, value in old.items())
        case list():
            return len(new) == len(old) and all(map(includes, new, old))
        case _:
            return bool(new == old)


def reported_with(output: str) -> messages.Report:
    """A report that has its outputs in a field of this name."""
    written = recorded_packet("report of outputs")
    message = decode(replace(written, body=written.body.replace(b'"output":', f'"{output}":'.encode())))
    assert isinstance(message, messages.Report)
    return message


def test_a_dispatcher_without_outputs_reads_the_report_of_a_worker_that_has_them() -> None:
    """A version that does not know a field ignores it, as this version ignores this one."""
    with_outputs, older = reported_with("output"), reported_with("unknown_field")
    assert [attempt.output for attempt in with_outputs.attempts] == [
        AttemptOutput("größer\n", 983_040),
        AttemptOutput("done"),
    ]
    assert older.attempts == tuple(replace(attempt, output=None) for attempt in with_outputs.attempts)


def test_messages_of_a_version_without_outputs_have_none() -> None:
    report, query, answer = (decode(recorded_packet(name)) for name in ("report", "query ids", "answer"))
    assert isinstance(report, messages.Report)
    assert [attempt.output for attempt in report.attempts] == [None] * len(report.attempts)
    assert isinstance(query, messages.Query)
    assert query.outputs_from is None
    assert isinstance(answer, messages.Answer)
    assert answer.outputs is None  # so `Client.outputs` asks to upgrade the dispatcher


def test_an_unknown_order_is_refused_by_name() -> None:
    """A dispatcher of an older version could have sent it: the worker logs it and goes on."""
    with pytest.raises(DecodeError, match="action: 'reload' is not one of cancel, drain, resume"):
        decode(Packet("workers/control/w", b'{"schema":1,"action":"reload"}'))


@pytest.mark.parametrize("body", [b"", b"{}", b"now, please", b"\xff", b'{"schema":2,"after":"x"}', b'{"after":"x"}'])
def test_a_request_for_statistics_may_have_any_body(body: bytes) -> None:
    assert decode(Packet("system/stats/request", body)) == messages.StatsRequest(None)


def test_every_message_is_recorded() -> None:
    assert {type(message) for message in RECORDED.values()} == set(get_args(Message))
    assert set(VECTORS) == set(RECORDED)


# --- every field ------------------------------------------------------------------------------------------------------


def plans(cls: type[Any]) -> Iterator[Plan[Any]]:
    """The plan of a class, and those of the classes in its fields."""
    plan = plan_of(cls)
    yield plan
    for field in plan.fields:
        kind = field.kind.item if isinstance(field.kind, Items) else field.kind
        if isinstance(kind, Object):
            yield from plans(kind.plan.cls)


EVERY_PLAN = {plan.cls: plan for cls in (*get_args(Message), messages.Submission) for plan in plans(cls)}
EVERY_FIELD = [
    pytest.param(plan, field, id=f"{cls.__name__}.{field.attribute}")
    for cls, plan in EVERY_PLAN.items()
    for field in plan.fields
]


def objects(value: Any) -> Iterator[Any]:
    """Every object with a plan inside a recorded message."""
    if isinstance(value, tuple):
        for each in value:
            yield from objects(each)
    elif isinstance(value, messages.Submit):
        yield from value.jobs
    elif type(value) in EVERY_PLAN:
        yield value
        for field in EVERY_PLAN[type(value)].fields:
            yield from objects(getattr(value, field.attribute))


@pytest.mark.parametrize(("plan", "field"), EVERY_FIELD)
def test_every_field_is_recorded_with_a_value_of_its_own(plan: Plan[Any], field: PlanField) -> None:
    found = (each for message in RECORDED.values() for each in objects(message) if type(each) is plan.cls)
    assert any(getattr(each, field.attribute) not in {None, field.absent, field.silent} for each in found)


def mistaken() -> list[str]:
    """The recorded messages that do not come through the codec as they are."""
    wrong = []
    for name, message in RECORDED.items():
        try:
            right = decode(recorded_packet(name)) == message == decode(encode(message))
        except (DecodeError, KeyError):
            right = False
        if not right:
            wrong.append(name)
    return wrong


def test_nothing_is_mistaken_while_every_field_is_there() -> None:
    assert mistaken() == []


@pytest.mark.parametrize("forgetful", ["encoder", "decoder"])
@pytest.mark.parametrize(("plan", "field"), EVERY_FIELD)
def test_a_field_that_one_side_forgets_is_noticed(
    plan: Plan[Any], field: PlanField, forgetful: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if forgetful == "encoder":
        less = Plan(plan.cls, tuple(each for each in plan.fields if each is not field), plan.levels)
        monkeypatch.setattr(plan, "members", less.members)
        monkeypatch.setattr(plan, "fields", less.fields)  # of which a single submission makes its properties
    else:
        other = (replace(each, name="never sent") if each is field else each for each in plan.fields)
        mistaken_plan = Plan(plan.cls, tuple(other), plan.levels)
        monkeypatch.setattr(plan, "values", mistaken_plan.values)
        monkeypatch.setattr(plan, "make", mistaken_plan.make)
    assert mistaken()
