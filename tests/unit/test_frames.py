import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.errors import ConfigError
from stockworker.handlers.spec import CommandHandler, HandlerSpec, Limits, PythonHandler
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.ids import JobId, JobType, Token
from stockworker.protocol.job import Outcome
from stockworker.worker import frames
from stockworker.worker.work import Work

PRICES = JobType("prices")


@given(st.lists(st.lists(st.text(st.characters()), max_size=4), max_size=5), st.integers(1, 9))
def test_frames_do_not_depend_on_how_they_were_cut(sent: list[list[str]], size: int) -> None:
    written = b"".join(frames.encode(*frame) for frame in sent)
    buffer = frames.FrameBuffer()
    chunks = [written[start : start + size] for start in range(0, len(written), size)]
    assert [frame for chunk in chunks for frame in buffer.feed(chunk)] == sent


def test_what_is_no_frame_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        frames.FrameBuffer().feed(b"printed by mistake\n")


def test_a_child_is_told_of_python_handlers_only() -> None:
    handlers: dict[JobType, HandlerSpec] = {
        PRICES: PythonHandler("package.module:handle", {"depth": 2}, Limits(memory_bytes=1, open_files=3)),
        JobType("legacy"): CommandHandler(("php", "job.php"), {"key": "value"}),
    }
    (frame,) = frames.FrameBuffer().feed(frames.encode_configuration(["/opt/handlers"], handlers))
    assert frame == [["/opt/handlers"], {"prices": ["package.module:handle", {"depth": 2}, [1, None, 3]]}]


def test_what_its_control_group_limits_a_child_is_not_told_of() -> None:
    handlers = {PRICES: PythonHandler("m:f", {}, Limits(memory_bytes=1, cpu_s=2, processors=0.5))}
    for controllers, told in (((), [1, 2, None]), (("cpu",), [1, 2, None]), (("memory",), [None, 2, None])):
        (frame,) = frames.FrameBuffer().feed(frames.encode_configuration([], handlers, controllers))
        assert frame[1]["prices"][2] == told


@pytest.mark.parametrize("handler", [PythonHandler("m:f", {"at": math.nan}), CommandHandler(("x",), {"at": math.inf})])
def test_settings_that_are_no_json_are_an_error_of_the_configuration(handler: HandlerSpec) -> None:
    with pytest.raises(ConfigError, match=r"handlers\.prices\.settings: Out of range float"):
        frames.encode_configuration([], {PRICES: handler})


def test_an_attempt_and_its_result_are_one_frame_each() -> None:
    work = Work(Token("t"), JobId("j"), PRICES, 2, '{"a": "\n"}', 1.0)
    result = AttemptResult(Token("t"), Outcome.OK, result='"\n"')
    written = frames.encode_work(work) + frames.encode_result(result, reusable=True)
    started, ended = frames.FrameBuffer().feed(written)
    assert started == ["t", "j", "prices", 2, '{"a": "\n"}']
    assert ended == ["ended", "t", "ok", '"\n"', None, False, True]
    assert frames.decode_result(ended) == (result, True)
