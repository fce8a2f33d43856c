import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.handlers.spec import Limits
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.body import MAX_CONTENT, MAX_TEXT
from stockworker.protocol.ids import JobType, Token
from stockworker.protocol.job import Outcome
from stockworker.worker.outcome import accept_result, describe, find_shortage, judge_command, judge_death

TOKEN = Token("t")


@given(st.text(st.characters()), st.text(st.characters()))
def test_an_error_text_can_always_travel(summary: str, detail: str) -> None:
    text = describe(summary * 100, detail * 100)
    assert len(text) <= MAX_TEXT
    text.encode()


def test_an_error_text_keeps_the_beginning_of_the_summary_and_the_end_of_the_detail() -> None:
    assert describe(" what \n", "\n why \n") == "what\nwhy"
    assert describe("what") == "what"
    text = describe("a" * 10 + "b" * MAX_TEXT, "c" * MAX_TEXT + "d" * 10)
    assert (text[:10], text[-10:], len(text)) == ("a" * 10, "d" * 10, MAX_TEXT)


def test_a_result_must_fit_into_a_message() -> None:
    assert accept_result(TOKEN, "null") == AttemptResult(TOKEN, Outcome.OK, result="null")
    assert accept_result(TOKEN, "1" * (MAX_CONTENT - 2)).outcome is Outcome.OK
    assert accept_result(TOKEN, "1" * (MAX_CONTENT - 1)).permanent
    assert accept_result(TOKEN, '"' * (MAX_CONTENT // 2)).permanent


@pytest.mark.parametrize(
    ("returncode", "limits", "outcome", "error"),
    [
        (0, Limits(), Outcome.CRASHED, "the process exited with code 0\nbye"),
        (None, Limits(), Outcome.CRASHED, "the process ended, and the kernel has no exit status of it\nbye"),
        (-signal.SIGKILL, Limits(), Outcome.CRASHED, "the process was killed by SIGKILL, and not by this worker"),
        (-signal.SIGABRT, Limits(), Outcome.CRASHED, "the process was killed by SIGABRT\nbye"),
        (-signal.SIGXCPU, Limits(cpu_s=3), Outcome.TIMED_OUT, "CPU limit of 3 s exceeded\nbye"),
        (-signal.SIGXCPU, Limits(), Outcome.TIMED_OUT, "CPU limit exceeded\nbye"),
    ],
)
def test_a_death_is_told_by_its_cause(returncode: int | None, limits: Limits, outcome: Outcome, error: str) -> None:
    attempt_result = judge_death(TOKEN, returncode, b"bye\n", limits)
    assert (attempt_result.outcome, attempt_result.permanent) == (outcome, False)
    assert (attempt_result.error or "").startswith(error)


@pytest.mark.parametrize(
    ("printed", "problem"),
    [
        (b"1e999", "it result is inf, and JSON has no such number"),
        (b'{"a": [0, -1e999]}', "it result['a'][1] is -inf, and JSON has no such number"),
        (b"[NaN]", "it is not JSON: NaN is not JSON (RFC 8259, section 6)"),
    ],
)
def test_a_number_that_json_cannot_hold_is_no_result_of_a_command(printed: bytes, problem: str) -> None:
    judged = judge_command(TOKEN, 0, printed, b"", Limits())
    assert (judged.outcome, judged.permanent) == (Outcome.ERROR, True)
    assert (judged.error or "").startswith(f"exit code 0, but standard output is not a result: {problem}")


@pytest.mark.parametrize(
    ("events", "memory_bytes", "shortage"),
    [
        ({}, 512 << 20, ""),
        ({"max": 9, "oom": 0, "oom_kill": 0}, 512 << 20, ""),
        ({"oom": 1, "oom_kill": 3}, 512 << 20, "it needed more memory than handlers.resize.limits.memory, 512M"),
        ({"oom": 1, "oom_kill": 3}, 1000, "it needed more memory than handlers.resize.limits.memory, 1000"),
        ({"oom": 1, "oom_kill": 3}, 3 << 40, "it needed more memory than handlers.resize.limits.memory, 3T"),
        ({"max": 9, "oom": 0, "oom_kill": 1}, 512 << 20, "the machine, or this worker as a whole, was out of memory"),
        ({"oom_kill": 1}, None, "the machine, or this worker as a whole, was out of memory"),
    ],
)
def test_the_kernel_s_counters_tell_whose_memory_was_short(
    events: dict[str, int], memory_bytes: int | None, shortage: str
) -> None:
    assert find_shortage(events, JobType("resize"), Limits(memory_bytes=memory_bytes)) == shortage


def test_an_attempt_that_was_killed_for_memory_has_crashed_and_is_told_why() -> None:
    attempt_result = judge_command(TOKEN, -signal.SIGKILL, b"", b"bye\n", Limits(), "it needed more")
    assert (attempt_result.outcome, attempt_result.permanent) == (Outcome.CRASHED, False)
    assert attempt_result.error == "killed by the kernel: it needed more\nbye"
    assert "kernel" not in (
        judge_command(TOKEN, -signal.SIGTERM, b"", b"bye\n", Limits(), "it needed more").error or ""
    )


@given(st.integers(-64, 255), st.binary(), st.binary())
def test_every_command_has_an_ending_that_can_travel(returncode: int, output: bytes, errors: bytes) -> None:
    attempt_result = judge_command(TOKEN, returncode, output, errors, Limits())
    assert (
        (attempt_result.outcome is Outcome.OK) == (attempt_result.error is None) == (attempt_result.result is not None)
    )
    (attempt_result.error or "").encode()
    if returncode != 0:
        assert attempt_result.permanent == (returncode == 65)


@pytest.mark.parametrize("printed", [b"", b" \n", b"null\n"])
def test_a_command_that_prints_nothing_has_no_result(printed: bytes) -> None:
    judged = judge_command(TOKEN, 0, printed, b"", Limits())
    assert (judged.outcome, judged.result) == (Outcome.OK, "null")
