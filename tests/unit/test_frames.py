import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.errors import ConfigError
from stockworker.handlers.spec import CommandHandler, HandlerSpec, Limits, PythonHandler
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.body import MAX_CONTENT, MAX_TEXT, sendable
from stockworker.protocol.fields import FieldError
from stockworker.protocol.ids import JobId, JobType, Token
from stockworker.protocol.job import Outcome
from stockworker.worker import frames
from stockworker.worker.outcome import describe
from stockworker.worker.output import MOST_KEPT
from stockworker.worker.work import HandlerLogged, Progressed, Work

T = Token("t")
PRICES = JobType("prices")


@given(st.lists(st.lists(st.text(st.characters()), max_size=4), max_size=5), st.integers(1, 9))
def test_frames_do_not_depend_on_how_they_were_cut(sent: list[list[str]], size: int) -> None:
    written = b"".join(frames.encode(*frame) for frame in sent)
    buffer = frames.FrameBuffer()
    chunks = [written[start : start + size] for start in range(0, len(written), size)]
    assert [json.loads(line) for chunk in chunks for line in buffer.feed(chunk)] == sent


def parsed(written: bytes) -> list[Any]:
    return [json.loads(line) for line in frames.FrameBuffer().feed(written)]


@pytest.mark.parametrize("size", [1, 4096, 1 << 20])
def test_a_line_without_an_end_is_an_error(size: int) -> None:
    buffer = frames.FrameBuffer(longest=8192)
    for _ in range(8192 // size):
        assert buffer.feed(b"x" * size) == []
    with pytest.raises(FieldError, match="longer than 8192 bytes"):
        buffer.feed(b"x" * size)


def test_a_child_is_told_of_python_handlers_only() -> None:
    handlers: dict[JobType, HandlerSpec] = {
        PRICES: PythonHandler("package.module:handle", {"depth": 2}, Limits(memory_bytes=1, open_files=3)),
        JobType("legacy"): CommandHandler(("php", "job.php"), {"key": "value"}),
    }
    (frame,) = parsed(frames.encode_configuration(["/opt/handlers"], handlers))
    assert frame == [["/opt/handlers"], {"prices": ["package.module:handle", {"depth": 2}, [1, None, 3], 1]}]


def test_what_its_control_group_limits_a_child_is_not_told_of() -> None:
    handlers = {PRICES: PythonHandler("m:f", {}, Limits(memory_bytes=1, cpu_s=2, processors=0.5))}
    for controllers, told in (((), [1, 2, None]), (("cpu",), [1, 2, None]), (("memory",), [None, 2, None])):
        (frame,) = parsed(frames.encode_configuration([], handlers, controllers))
        assert frame[1]["prices"][2] == told


@pytest.mark.parametrize("handler", [PythonHandler("m:f", {"at": math.nan}), CommandHandler(("x",), {"at": math.inf})])
def test_settings_that_are_no_json_are_an_error_of_the_configuration(handler: HandlerSpec) -> None:
    with pytest.raises(ConfigError, match=r"handlers\.prices\.settings: Out of range float"):
        frames.encode_configuration([], {PRICES: handler})


def test_an_attempt_and_its_result_are_one_frame_each() -> None:
    work = Work(Token("t"), JobId("j"), PRICES, 2, '{"a": "\n"}', 1.0)
    result = AttemptResult(Token("t"), Outcome.OK, result='"\n"', ran_s=0.5)
    packet, payload = frames.encode_work(work)
    assert payload == b""
    written = packet + frames.encode_result(result, ran_s=0.5, reusable=True)
    started, ended = parsed(written)
    assert started == ["t", "j", "prices", 2, '{"a": "\n"}']
    assert ended == ["ended", "t", "ok", '"\n"', None, False, 0.5, True]
    assert frames.decode(written.splitlines()[1]) == frames.ChildEnded(result, reusable=True)


def test_a_packet_has_the_jobs_that_begin_and_the_attempts_that_must_end() -> None:
    work = Work(Token("t"), JobId("a"), JobType("sum"), 2, "[1]", 60.0)
    assert not work.alone
    (job, payload) = frames.encode_job(work)
    packet = json.loads(frames.encode_packet([job, job], [Token("u")]))
    assert (packet, payload) == ([[["t", "a", "sum", 2, "[1]"]] * 2, ["u"]], b"")


def test_a_large_payload_follows_in_a_frame_of_its_own() -> None:
    large = json.dumps(["x" * frames.LONGEST_PACKET], indent=1)
    packet, payload = frames.encode_work(Work(Token("t"), JobId("j"), PRICES, 2, large, 1.0))
    assert parsed(packet) == [["t", "j", "prices", 2, None]]
    assert parsed(payload) == [[large]]


@pytest.mark.parametrize("large", ['"é"' * frames.LONGEST_PACKET, "\x01" * (frames.LONGEST_PACKET // 6 + 1)])
def test_a_large_payload_without_a_line_break_follows_as_it_is(large: str) -> None:
    packet, payload = frames.encode_work(Work(Token("t"), JobId("j"), PRICES, 2, large, 1.0))
    assert parsed(packet) == [["t", "j", "prices", 2, frames.AS_IT_IS]]
    assert frames.FrameBuffer().feed(payload) == [large.encode()]


@pytest.mark.parametrize("length", [frames.LONGEST_PACKET // 2, frames.LONGEST_PACKET])
def test_a_payload_of_a_job_among_others_is_in_the_packet_if_it_has_room(length: int) -> None:
    work = Work(Token("t"), JobId("j"), PRICES, 2, "1" * (length - 100), 1.0)
    job, payload = frames.encode_job(work)
    is_short = length < frames.LONGEST_PACKET
    assert json.loads(job) == ["t", "j", "prices", 2, work.payload if is_short else None]
    assert parsed(payload) == ([] if is_short else [["t", work.payload]])


def frame(*fields: object) -> bytes:
    return json.dumps(fields).encode()


def ended(outcome: str, result: object, error: object, *, permanent: object = False, reusable: object = True) -> bytes:
    return frame("ended", "t", outcome, result, error, permanent, 0.5, reusable)


TOO_LONG = "x" * (MAX_TEXT + 1)


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (frame("ready"), frames.ChildReady()),
        (frame("progress", "t", 1, "half \0\x1b[2J"), Progressed(T, 1.0, "half \0\x1b[2J")),
        (frame("log", "t", 100, "x" * 2000), HandlerLogged(T, 100, "x" * 2000)),
        (frame("output", "t", "x" * MOST_KEPT, 1 << 53), frames.ChildOutput(T, "x" * MOST_KEPT, 1 << 53)),
        (frame("output", "t", "", 0), frames.ChildOutput(T, "", 0)),
        (
            ended("refused", None, "not here", reusable=False),
            frames.ChildEnded(AttemptResult(T, Outcome.REFUSED, error="not here", ran_s=0.5), reusable=False),
        ),
    ],
)
def test_a_frame_of_a_child(line: bytes, event: frames.FromChild) -> None:
    assert frames.decode(line) == event


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"printed by mistake", "is not JSON"),
        (b"", "is not JSON"),
        (b"\xff", "is not UTF-8"),
        (b"\xff\xfe[\0", "is not UTF-8"),
        (b"[" * 100_000, "is nested too deeply"),
        (b"[" + b"9" * 10_000 + b"]", "is not JSON"),
        (b"null", "is not one of the frames"),
        (b'{"ready": 1}', "is not one of the frames"),
        (frame("started", "t"), "is not one of the frames"),
        (frame("ready", "t"), "is not one of the frames"),
        (frame(["ready"]), "is not one of the frames"),
        (frame("progress", "t", 0.5), "is not one of the frames"),
        (frame("progress", "t", math.nan, ""), "is not JSON"),
        (frame("progress", "t", 1.01, ""), "must be from 0 to 1"),
        (frame("progress", "t", "1", ""), "expected a number"),
        (b'["progress","t",true,""]', "expected a number"),
        (frame("progress", "t", 0.5, "\ud800"), "lone surrogate"),
        (frame("progress", "t", 0.5, TOO_LONG), "longer than 2048"),
        (frame("progress", "t", 0.5, None), "expected a string"),
        (frame("progress", 7, 0.5, ""), "expected an id"),
        (frame("progress", "a/b", 0.5, ""), "is not a valid ID"),
        (frame("log", "t", 20, "\udfff"), "lone surrogate"),
        (frame("log", "t", 20, TOO_LONG), "longer than 2000"),
        (frame("log", "t", 10**30, ""), "must be from 0 to 100"),
        (frame("log", "t", "20", ""), "expected a whole number"),
        (frame("output", "t", "x" * (MOST_KEPT + 1), 0), "longer than 131072"),
        (frame("output", "t", "\udfff", 0), "lone surrogate"),
        (frame("output", "t", "", -1), "must be from 0"),
        (frame("output", "t", "", (1 << 53) + 1), "must be from 0"),
        (frame("output", "a/b", "", 0), "is not a valid ID"),
        (ended("fine", "1", None), "is not one of"),
        (ended("released", None, ""), "does not go with the rest"),
        (ended("lost", None, ""), "does not go with the rest"),
        (ended("ok", None, None), "does not go with the rest"),
        (ended("ok", "1", "too"), "does not go with the rest"),
        (ended("error", "1", "too"), "does not go with the rest"),
        (ended("error", None, None), "does not go with the rest"),
        (ended("ok", {"a": 1}, None), "expected a string"),
        (ended("ok", "\ud800", None), "lone surrogate"),
        (ended("ok", "x" * MAX_CONTENT, None), "larger than"),
        (ended("error", None, TOO_LONG), "longer than 2048"),
        (ended("error", None, "", permanent=0), "expected true or false"),
        (ended("error", None, "", reusable="yes"), "expected true or false"),
    ],
)
def test_what_a_child_does_not_send_is_an_error(line: bytes, fault: str) -> None:
    with pytest.raises(FieldError, match=fault):
        frames.decode(line)


texts = st.text(st.characters(), max_size=12)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts, lambda inner: st.lists(inner, max_size=4)
)
kinds = st.sampled_from(["ready", "progress", "log", "output", "ended"])
forged = st.tuples(kinds, st.lists(values, max_size=7)).map(lambda pair: json.dumps([pair[0], *pair[1]]).encode())


@given(forged | values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40))
def test_anything_is_an_event_that_can_be_sent_on_or_an_error(line: bytes) -> None:
    try:
        event = frames.decode(line)
    except FieldError:
        return
    assert repr(event).encode()
    for name in ("text", "fraction"):
        json.dumps(getattr(event, name, None), ensure_ascii=False, allow_nan=False).encode()


@given(st.text(st.characters(exclude_categories=())), texts)
def test_what_the_runner_sends_is_what_the_worker_reads(text: str, level: str) -> None:
    """The runner cleans every text of a handler; an error text is cut from both ends."""
    result = AttemptResult(T, Outcome.ERROR, error=describe(text, level), ran_s=0.5)
    assert frames.decode(frames.encode_result(result, ran_s=0.5, reusable=True)) == frames.ChildEnded(
        result, reusable=True
    )
    progress = frames.decode(frames.encode(frames.PROGRESS, T, 0.5, sendable(text)))
    assert isinstance(progress, Progressed)
    assert progress.text == sendable(text)
