"""What commands print: tables, durations, errors, endings."""

import io
import sys

import pytest

from stockworker.cli.printing import completion_fields, describe
from stockworker.client import Completion
from stockworker.protocol.ids import JobId
from stockworker.protocol.lifecycle import State
from stockworker.terminal.colour import When, choose
from stockworker.terminal.output import StatusLine, complain, print_json, print_lines
from stockworker.terminal.tables import local_time, short_duration, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_has_numbers_at_the_right_and_gaps_for_nothing() -> None:
    assert list(table(("NAME", "JOBS"), [("a", 5), ("longer", 10)])) == [
        "NAME    JOBS",
        "a          5",
        "longer    10",
    ]
    assert list(table(("A", "B"), [(None, "")])) == ["A  B", "-  -"]
    assert list(table(("A", "B"), [])) == ["A  B"]


def test_a_table_is_cut_to_the_terminal_and_can_not_steer_it() -> None:
    assert list(table(("A", "B"), [("x\x1b[2J\n", "y" * 50)], width=12)) == [f"{'A':<11}…", "x\\x1b[2J\\n …"]


def test_a_narrow_table_spares_columns_and_then_cuts_the_widest() -> None:
    header, row = ("JOB", "TYPE", "PRIORITY", "REASON"), ("job-1", "t" * 30, "normal", "r" * 90)
    shown = [list(table(header, [row], width, spare=("PRIORITY",), cut=("TYPE", "REASON"))) for width in (200, 60, 40)]
    assert [lines[0].split() for lines in shown] == [
        [*header],
        ["JOB", "TYPE", "PRIORITY", "REASON"],
        ["JOB", "TYPE", "REASON"],
    ]
    assert shown[0][1].split() == [*row]
    assert shown[1][1].split() == ["job-1", "t" * 19 + "…", "normal", "r" * 20 + "…"]
    assert shown[2][1].split() == ["job-1", "t" * 14 + "…", "r" * 15 + "…"]
    assert max(map(len, shown[2])) <= 40


def test_colours_are_for_terminals_and_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(when: When, stream: io.StringIO) -> str:
        monkeypatch.setattr(sys, "stdout", stream)
        choose(when)
        print_lines(table(("STATE",), [("failed",), ("\x1b[31mfailed",)]))
        return stream.getvalue()

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain = "STATE\nfailed\n\\x1b[31mfailed\n"
    coloured = "\x1b[1mSTATE\x1b[0m\n\x1b[31mfailed\x1b[0m\n\\x1b[31mfailed\n"
    try:
        assert shown(When.AUTO, io.StringIO()) == plain
        assert shown(When.AUTO, Terminal()) == coloured
        assert shown(When.NEVER, Terminal()) == plain
        assert shown(When.ALWAYS, io.StringIO()) == coloured
        monkeypatch.setenv("NO_COLOR", "1")
        assert shown(When.AUTO, Terminal()) == plain
    finally:
        choose(When.AUTO)


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [(-1, "0s"), (0, "0s"), (59.4, "59s"), (60, "1m 0s"), (303, "5m 3s"), (7260, "2h 1m"), (90000, "1d 1h")],
)
def test_a_duration_is_short(duration_s: float, text: str) -> None:
    assert short_duration(duration_s) == text


def test_a_time_names_its_offset() -> None:
    assert local_time(0)[10:].strip()[-6] in "+-"


def test_an_error_is_a_line_for_each_problem(capsys: pytest.CaptureFixture[str]) -> None:
    complain("first\nsecond\x1b[31m")

    assert capsys.readouterr().err == "stockworker: error: first\nstockworker: error: second\\x1b[31m\n"


def test_json_is_ascii_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": "\x9b2J\nü\ud800"})

    assert capsys.readouterr().out == '{"a": "\\u009b2J\\n\\u00fc\\ud800"}\n'


def test_a_status_line_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, hidden, silent = Terminal(), io.StringIO(), Terminal()
    for stream, quiet in ((shown, False), (hidden, False), (silent, True)):
        monkeypatch.setattr(sys, "stderr", stream)
        line = StatusLine(quiet=quiet)
        line.show("half\x07way")
        line.clear()

    assert shown.getvalue() == "\r\x1b[Khalf\\x07way\r\x1b[K"
    assert hidden.getvalue() == silent.getvalue() == ""


def ended(state: State, result: str | None = None, reason: str | None = None) -> Completion:
    return Completion(JobId("a"), state, result, reason)


@pytest.mark.parametrize(
    ("completion", "fields"),
    [
        (ended(State.COMPLETED, '{"x": [1]}'), {"state": "completed", "result": {"x": [1]}}),
        (ended(State.COMPLETED), {"state": "completed", "result": None}),
        (ended(State.COMPLETED, "no JSON"), {"state": "completed", "result": "no JSON"}),
        (ended(State.FAILED, reason="boom\nat line 1"), {"state": "failed", "reason": "boom\nat line 1"}),
        (ended(State.CANCELLED), {"state": "cancelled"}),
    ],
)
def test_a_completion_for_programs(completion: Completion, fields: dict[str, object]) -> None:
    assert completion_fields(completion) == {"job_id": "a", "id": "a", **fields}


def test_a_completion_for_people_is_one_line() -> None:
    assert describe(ended(State.FAILED, reason="boom\x07\nat line 1")) == "a failed: boom\\x07"
    assert describe(ended(State.EXPIRED)) == "a expired"
