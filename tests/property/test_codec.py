"""The codec: what is encoded comes back, and whatever arrives is a message or a `DecodeError`."""

import dataclasses
import json
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stockworker.errors import DecodeError
from stockworker.protocol import messages, topics, views
from stockworker.protocol.body import (
    BATCH_CONTENT_TYPE,
    MAX_BODY,
    MAX_CONTENT,
    MAX_TEXT,
    content_size,
    fits,
    in_batches,
)
from stockworker.protocol.codec import decode, encode
from stockworker.protocol.codec_submit import submission_size
from stockworker.protocol.ids import ClientId, JobId, JobType, Tag, Token, UniqueKey, WorkerId
from stockworker.protocol.job import Outcome, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Message
from stockworker.protocol.packet import NO_PROPERTIES, Packet, Properties
from tests.harness.messages import BY_CLASS, anything

MESSAGE_CLASSES = get_args(messages.Message)


def decode_or_explain(packet: Packet) -> Message | None:
    """Decode; None for a `DecodeError` with topic and reason. No other exception is allowed."""
    try:
        return decode(packet)
    except DecodeError as error:
        refused = error
    assert refused.topic == packet.topic
    assert refused.reason
    assert refused.reason.encode(), "it must be fit for a log and for an answer"
    return None


# --- what is encoded comes back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", MESSAGE_CLASSES, ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_every_message_survives_the_wire(cls: type[Message], data: st.DataObject) -> None:
    message = data.draw(BY_CLASS[cls])
    packet = encode(message)
    assert decode(packet) == message
    assert len(packet.body) <= MAX_BODY


@given(anything)
def test_a_packet_has_the_quality_of_service_of_its_topic_and_is_never_retained(message: Message) -> None:
    packet = encode(message)
    line = topics.BY_KIND[topics.parse(packet.topic).kind]
    assert (packet.qos, packet.retain) == (line.qos, False)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"ids": ["a"] * 65, "explain": True}, "ids: holds more than 64 entries"),
        ({"filter": {"limit": 1}, "explain": True}, "explain: goes with ids, not with a filter"),
    ],
)
def test_no_more_is_explained_than_can_be_told_soon(asked: dict[str, Any], reason: str) -> None:
    body = json.dumps({"schema": 1, "results": False, **asked}).encode()
    with pytest.raises(DecodeError, match=reason):
        decode(Packet("jobs/query/alice", body))


LONGEST_ID = "x" * 64
LONG_OPTIONS: dict[str, Any] = {
    "not_before": 1e9 / 3,
    "expires_at": 1e9 / 7,
    "timeout_s": 1e6 / 3,
    "max_attempts": 999,
    "backoff_s": 1 / 3,
    "max_crashes": 999,
}
WORST_TEXT = "\x1f" * MAX_TEXT
LARGEST_CONTENTS = ["a" * (MAX_CONTENT - 2), "\u20ac" * ((MAX_CONTENT - 2) // 3), "\x1f" * ((MAX_CONTENT - 2) // 6)]


@pytest.mark.parametrize("content", LARGEST_CONTENTS, ids=["ascii", "three bytes", "escaped"])
def test_the_largest_content_fits_into_every_message_that_carries_one(content: str) -> None:
    assert fits(content)
    assert not fits(content + content[0] * 6)
    worker, job, kind, token = WorkerId(LONGEST_ID), JobId(LONGEST_ID), JobType(LONGEST_ID), Token(LONGEST_ID)
    submission = messages.Submission(job, kind, Priority.NORMAL, content, **LONG_OPTIONS, unique=UniqueKey(LONGEST_ID))
    view = views.JobView(
        job_id=job,
        type=kind,
        priority=Priority.NORMAL,
        state=State.CANCELLED,
        submitted_at=1e9 / 3,
        ready_at=1e9 / 7,
        ended_at=1e9 / 9,
        attempt=1 << 31,
        failures=1 << 31,
        crashes=1 << 31,
        worker=worker,
        cancel_requested=True,
        reason=WORST_TEXT,
        result=content,
    )
    reply = messages.Reply(ClientId(LONGEST_ID), "\x1f" * 128)
    assignment = messages.Assignment(
        job, kind, 1 << 31, token, 1 / 3, content, no_crash_budget=True, expires_in_s=1e9 / 3
    )
    owned = JobId(f"{LONGEST_ID}:{LONGEST_ID}")
    entry = messages.NoticeEntry(owned, kind, State.COMPLETED, 1 << 31, worker, content, WORST_TEXT)
    carriers: list[Message] = [
        messages.Submit((submission,), None),
        messages.Assign(worker, 1 / 3, (assignment,)),
        messages.Report(
            worker, (messages.AttemptReport(token, Outcome.OK, content, WORST_TEXT, ran_s=1 / 3, job_id=job),)
        ),
        messages.Notice(job, kind, State.COMPLETED, 1 << 31, worker, content, WORST_TEXT),
        messages.Notices(reply.client_id, LONGEST_ID, (entry,)),
        messages.Answer(reply, (view,)),
    ]
    for message in carriers:
        packet = encode(message)
        assert len(packet.body) <= MAX_BODY
        assert decode(packet) == message


def test_a_worker_with_as_many_leases_as_it_may_hold_can_tell_of_them_all() -> None:
    lease = messages.ReportedLease(JobId(LONGEST_ID), Token(LONGEST_ID), messages.LeaseStatus.FINISHED)
    kinds = tuple(JobType(LONGEST_ID) for _ in range(64))
    request = messages.Request(WorkerId(LONGEST_ID), LONGEST_ID, 1024, 1024, kinds, (), "\x1f" * 64, (lease,) * 1024)
    packet = encode(request)
    assert len(packet.body) <= MAX_BODY
    assert decode(packet) == request


@given(st.lists(st.tuples(st.integers(0, MAX_CONTENT // 6), st.sampled_from("a\u20ac\x1f"), st.integers(0, 40))))
@example([(0, "a", 0)] * 200)
def test_jobs_in_batches_stay_below_the_largest_body(shapes: list[tuple[int, str, int]]) -> None:
    jobs = [
        messages.Submission(
            JobId(LONGEST_ID),
            JobType(LONGEST_ID),
            Priority.HIGH,
            letter * length,
            **LONG_OPTIONS,
            tags=frozenset(Tag(f"{number:064d}") for number in range(tags)),
        )
        for length, letter, tags in shapes
    ]
    batches = list(in_batches(jobs, submission_size))
    assert [job for batch in batches for job in batch] == jobs
    for batch in batches:
        assert len(batch) <= 64
        assert len(encode(messages.Submit(batch, None)).body) <= MAX_BODY


@given(st.lists(st.tuples(st.integers(0, MAX_CONTENT // 6), st.sampled_from("a\u20ac\x1f")), max_size=30))
def test_leases_and_reports_in_batches_stay_below_the_largest_body(shapes: list[tuple[int, str]]) -> None:
    worker, job, kind, token = WorkerId(LONGEST_ID), JobId(LONGEST_ID), JobType(LONGEST_ID), Token(LONGEST_ID)
    contents = [letter * length for length, letter in shapes]
    for batch in in_batches(contents, content_size):
        leases = tuple(
            messages.Assignment(job, kind, 1 << 31, token, 1 / 3, text, no_crash_budget=True, expires_in_s=1e9 / 3)
            for text in batch
        )
        assert len(encode(messages.Assign(worker, 1 / 3, leases)).body) <= MAX_BODY
        ends = tuple(messages.AttemptReport(token, Outcome.OK, content, ran_s=1 / 3, job_id=job) for content in batch)
        assert len(encode(messages.Report(worker, ends)).body) <= MAX_BODY


# --- whatever arrives -------------------------------------------------------------------------------------------------

TOPICS_OF_OURS = sorted(
    {topic.pattern(priority="high").replace("+", "some-id") for topic in topics.TOPICS}
    | {str(kind) for kind in topics.LEGACY_PARENTS}
)
any_topic = st.sampled_from(TOPICS_OF_OURS) | st.text() | st.lists(st.text(max_size=5)).map("/".join)
any_properties = st.builds(
    Properties,
    content_type=st.none() | st.just(BATCH_CONTENT_TYPE) | st.text(),
    response_topic=st.none() | st.just("jobs/receipt/me") | st.text(),
    correlation_data=st.none() | st.binary(),
    user=st.lists(
        st.tuples(
            st.sampled_from(["id", "timeout", "not_before", "expires_at", "max_attempts", "tags", "schema"])
            | st.text(max_size=8),
            st.sampled_from(["nan", "1e999", "-1", "1_0", "\u0661", "9" * 5000, "[" * 5000, "null", "5", "0.5"])
            | st.text(max_size=20),
        ),
        max_size=5,
    ).map(tuple),
)
any_json: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from([10**400, -1, 2**64, "\ud800", "a/b", "#"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
not_json = st.sampled_from(
    [
        b"",
        b"\xef\xbb\xbf{}",
        b"\xff",
        b'{"schema":1',
        b'{"schema":1,"schema":2}',
        b'{"schema":NaN}',
        b'{"schema":1e999}',
        b'{"schema":' + b"9" * 5000 + b"}",
        b"[" * 200_000,
        b"x" * (MAX_BODY + 1),
    ]
)
bodies = st.binary() | not_json | any_json.map(lambda value: json.dumps(value).encode())


@given(st.builds(Packet, any_topic, bodies, st.integers(0, 2), st.booleans(), any_properties))
def test_anything_is_a_message_or_a_decode_error(packet: Packet) -> None:
    message = decode_or_explain(packet)
    if message is not None:
        # A message that was decoded can be encoded, and means the same.
        assert decode(encode(message)) == message


@given(st.data())
def test_a_mutated_message_is_a_message_or_a_decode_error(data: st.DataObject) -> None:
    packet = encode(data.draw(anything))
    try:
        body = json.loads(packet.body)
    except ValueError:
        body = {}
    for _ in range(data.draw(st.integers(1, 3))):
        body = mutate(body, data)
    text = json.dumps(body, ensure_ascii=data.draw(st.booleans())).encode(errors="surrogatepass")
    cut = data.draw(st.none() | st.integers(0, len(text)))
    mutated = dataclasses.replace(
        packet,
        body=text[:cut],
        retain=data.draw(st.booleans()),
        properties=data.draw(st.just(packet.properties) | any_properties),
    )
    message = decode_or_explain(mutated)
    if message is not None:
        assert decode(encode(message)) == message


def mutate(value: Any, data: st.DataObject) -> Any:
    """Drop, replace or add something, somewhere."""
    match value:
        case dict() if value:
            name = data.draw(st.sampled_from(sorted(value)))
            rest = {key: inner for key, inner in value.items() if key != name}
            match data.draw(st.sampled_from(["drop", "inside", "add"])):
                case "drop":
                    return rest
                case "inside":
                    return {**rest, name: mutate(value[name], data)}
                case _:
                    return {**value, data.draw(st.text(max_size=6)): data.draw(any_json)}
        case list() if value:
            index = data.draw(st.integers(0, len(value) - 1))
            return [*value[:index], mutate(value[index], data), *value[index + 1 :]]
        case _:
            return data.draw(any_json)


@pytest.mark.parametrize("depth", range(880, 1010, 3))
def test_nesting_never_exhausts_the_stack(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    body = b'{"schema":1,"boot":"b","slots":1,"window":1,"version":"1","leases":[],"types":[' + nested + b"]}"
    assert decode_or_explain(Packet("jobs/request/w", body)) is None


def test_a_stranger_type_is_no_id() -> None:
    for value in ("5", "true", "null", "[]"):
        body = b'{"schema":1,"boot":"b","slots":1,"window":1,"version":"1","leases":[],"types":[%s]}' % value.encode()
        with pytest.raises(DecodeError, match=r"types\[0\]: expected an id"):
            decode(Packet("jobs/request/w", body))


# --- versions ---------------------------------------------------------------------------------------------------------


@given(anything.filter(lambda message: not isinstance(message, messages.Submit)))
def test_unknown_fields_are_ignored(message: Message) -> None:
    packet = encode(message)
    body = json.dumps({**json.loads(packet.body), "new_in_schema_1": {"a": [1]}}).encode()
    assert decode(dataclasses.replace(packet, body=body)) == message


def test_unknown_properties_are_ignored() -> None:
    packet = Packet("jobs/queue/low/t", b"x", properties=Properties(user=(("colour", "red"), ("id", "j1"))))
    message = decode(packet)
    assert isinstance(message, messages.Submit)
    assert message.jobs[0].job_id == "j1"


def test_an_unknown_schema_is_named() -> None:
    with pytest.raises(DecodeError, match="schema 7 is unknown here: this side speaks schema 1"):
        decode(Packet("workers/unregister/w", b'{"schema":7,"boot":"b"}'))
    with pytest.raises(DecodeError, match="schema 7 is unknown here"):
        decode(Packet("jobs/queue/high/t", b"x", properties=Properties(user=(("schema", "7"),))))


def test_a_retain_flag_is_refused_where_nothing_is_retained() -> None:
    for topic in TOPICS_OF_OURS:
        if topic != "system/dispatcher":
            with pytest.raises(DecodeError, match="retain"):
                decode(Packet(topic, b"", retain=True, properties=NO_PROPERTIES))


NOTICES = b'{"schema":1,"notices":[{"job_id":"%s","type":"t","state":"%s","attempt":1}]}'
STATS = b'{"schema":1,"epoch":"e","version":"1","uptime_s":1,"states":{},"queues":[],"workers":[],"counters":%s}'


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (Packet("jobs/queue/high/t", b'{"schema":1,"jobs":[]}', properties=Properties(BATCH_CONTENT_TYPE)), "no job"),
        (Packet("jobs/queue/high/t", b"\xff"), "UTF-8"),
        (Packet("jobs/queue/high/t", b"x" * (MAX_CONTENT + 1)), "payload: is too large"),
        (Packet("jobs/queue/urgent/t", b"x"), "priority 'urgent' is not one of high, normal, low"),
        (Packet("system/stats/response", STATS % rb'{"\ud800":1}'), "lone surrogate"),
        (Packet("jobs/completed/j", b'{"schema":1,"type":"t","state":"failed","attempt":1}'), "failed does not belong"),
        (Packet("jobs/failed/j", b'{"schema":1,"type":"t","state":"running","attempt":1}'), "running does not belong"),
        (Packet("jobs/notice/c/x", NOTICES % (b"c:j", b"running")), "running does not belong"),
        (
            Packet("jobs/progress/w/c:j/d", b'{"schema":1,"fraction":0.5,"text":""}'),
            "c:j does not belong on this topic of another",
        ),
        (
            Packet("jobs/failed/c:j/d", b'{"schema":1,"type":"t","state":"failed","attempt":1}'),
            "c:j does not belong on this topic of another owner",
        ),
        (Packet("jobs/notice/c/x", NOTICES % (b"d:j", b"failed")), "d:j does not belong on this topic"),
        (Packet("jobs/notice/c/x", NOTICES % (b"j", b"failed")), "j does not belong on this topic"),
        (
            Packet("jobs/queue/high/t/c", b"1", properties=Properties(user=(("notify", "a b"),))),
            "property notify: 'a b'",
        ),
        (Packet("jobs/request/w", b"[]"), "expected an object, got a list"),
        (Packet("jobs/request/w", b"x" * (MAX_BODY + 1)), f"{MAX_BODY + 1} bytes are more than"),
        (Packet("workers/register", b'{"schema":1,"boot":"b","version":"1","slots":1}'), "worker_id: is missing"),
        (Packet("weather/today", b""), "no such topic"),
    ],
)
def test_an_error_names_what_is_wrong(packet: Packet, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(packet)
    assert caught.value.topic == packet.topic
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    "number", ["nan", "Infinity", "1e999", "-1", "1_0", "\u0661", "0x10", "9" * 5000, "[1]", '"5"', ""]
)
def test_a_property_that_is_no_number_is_refused(number: str) -> None:
    with pytest.raises(DecodeError, match="property timeout: "):
        decode(Packet("jobs/queue/high/t", b"x", properties=Properties(user=(("timeout", number),))))
