"""The mutants that are made, which of them are tried, and what a run reports."""

import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.__main__ import Run, equivalents, show, sources
from tests.mutation.mutators import Mutant, mutants
from tests.mutation.sample import Equivalent, Try, chosen_modules, importers, sample, stages
from tests.mutation.suite import ROOT, Called, noting

NOTHING = Called(0.0, frozenset())


def changes(source: str) -> list[str]:
    return [mutant.change for mutant in mutants(source)]


def a_mutant(
    name: str = "f", line: int = 1, change: str = "a -> b", *, in_function: bool = True, text: str = "x = a"
) -> Mutant:
    return Mutant(name, in_function, line, text, change, "")


# --- mutants ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", ["a < b -> a <= b", "a < b -> a >= b"]),
        ("x = a is not b", ["a is not b -> a is b"]),
        ("x = not a", ["not a -> a"]),
        ("x = a and b", ["a and b -> a or b", "a and b -> b", "a and b -> a"]),
        ("x = a + 1", ["a + 1 -> a - 1", "1 -> 2"]),
        ("x = True", ["True -> False"]),
        ("x = a if b else c", ["b -> not b"]),
        ("x = [a for a in b if not c]", ["not c -> c", "not c -> c"]),
        ("f(a, k=b)", ["f(a, k=b) -> nothing", "f(a, k=b) -> f(a)"]),
        ("x = f(a, b)", ["f(a, b) -> f(b, a)"]),
        ("x = min(a, b)", ["min(a, b) -> max(a, b)"]),
        ("x = {a: b, c: d}", ["{a: b, c: d} -> {c: d}", "{a: b, c: d} -> {a: b}"]),
        ("a.b = c", ["a.b = c -> nothing"]),
        ("a += b", ["a += b -> nothing"]),
        ("del a[b]", ["del a[b] -> nothing"]),
        ("raise a", ["raise a -> nothing"]),
        ("if a:\n    b", ["a -> not a"]),
        ("while a:\n    break", ["a -> not a", "break -> continue"]),
        ("def f():\n    return a", ["a -> None"]),
        ("def f():\n    return False", ["False -> True"]),
        ("match a:\n    case 1 if b:\n        c()", ["b -> not b", "c() -> nothing"]),
    ],
)
def test_each_kind_of_mistake_is_a_mutant(source: str, expected: list[str]) -> None:
    assert changes(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""A text."""',
        "x: list[1] = a",
        "x = 'text'",
        "x = f'{a + 1}'",
        "def f(a: int | None) -> int | None: ...",
        "X = int | None",
        "match a:\n    case 1:\n        b",
        "raise AssertionError(a)",
        "if TYPE_CHECKING:\n    x = 1",
        "def f():\n    return None",
        "x = cast(1, a)",
        "x = f(a, strict=b)",
        "x = f(a, a)",
    ],
)
def test_what_can_not_change_a_decision_is_no_mutant(source: str) -> None:
    assert changes(source) == []


def test_a_mutant_changes_one_place_and_keeps_the_precedence() -> None:
    source = "class C:\n    def f(self):\n        # \N{EURO SIGN}\n        return a * (b\n            or c)  # end\n"
    found = [mutant for mutant in mutants(source) if mutant.change == "b or c -> b and c"]
    places = [(mutant.name, mutant.in_function, mutant.line, mutant.text) for mutant in found]
    assert places == [("C.f", True, 4, "return a * (b")]
    assert found[0].source == source.replace("b\n            or c", "(b and c)")


def test_a_mutant_belongs_to_the_outermost_function_or_to_a_class() -> None:
    source = "x = 1\nclass C:\n    y = 2\n    def f(self, d=3):\n        def g():\n            return 4\n"
    places = [(mutant.name, mutant.in_function) for mutant in mutants(source)]
    assert places == [("", False), ("C", False), ("C.f", True), ("C.f", True), ("C.f", True)]


def test_each_outer_function_notes_its_calls() -> None:
    source = """class C:
    def f(self):
        'A text.'
        def g(): ...
        return g
async def h(): ...
"""
    calls: list[str] = []
    names: dict[str, Any] = {"_note_call": calls.append}
    exec(compile(noting(source, "m.py"), "m", "exec"), names)  # noqa: S102 (what the recorder does)
    names["C"]().f()()
    with suppress(StopIteration):
        names["h"]().send(None)
    assert calls == ["m.py::C.f", "m.py::h"]
    assert names["C"].f.__doc__ == "A text."


@pytest.mark.parametrize("module", ["dispatcher/owners", "protocol/fields", "worker/turn"])
def test_each_mutant_of_a_real_module_is_another_program(module: str) -> None:
    source = sources()[module].read_text()
    found = mutants(source)
    assert len(found) > 20
    for mutant in found:
        assert mutant.source != source
        compile(mutant.source, module, "exec")


# --- the choice -------------------------------------------------------------------------------------------------------


def test_a_sample_is_repeated_by_its_seed_and_has_one_mutant_for_each_line() -> None:
    found = {module: [a_mutant(line=place // 3, change=str(place)) for place in range(30)] for module in ("a", "b")}
    chosen = list(sample(found, 6, seed=1))
    assert chosen == list(sample(found, 6, seed=1)) != list(sample(found, 6, seed=2))
    assert [each.module for each in chosen] == ["a", "b"] * 6
    lines = [each.mutant.line for each in chosen if each.module == "a"]
    assert len(set(lines)) == 6
    assert len(list(sample(found, 99, seed=1))) == 20


def test_a_change_of_a_module_keeps_the_other_mutants_of_a_sample() -> None:
    """Else the luck of another choice could refuse a change that is good."""
    before = [a_mutant(f"f{place}", line=place, change=str(place)) for place in range(100)]
    moved = [a_mutant(f"f{place}", line=place + 9, change=str(place)) for place in range(100)]
    added = [a_mutant(f"new{place}", line=200 + place) for place in range(10)]

    def names(found: list[Mutant]) -> set[str]:
        return {each.mutant.name for each in sample({"m": found}, 20, seed=1)}

    assert names(moved) == names(before)
    brought = {name for name in names(moved + added) if name.startswith("new")}
    assert names(moved + added) - brought < names(before)
    assert len(names(before) - names(moved + added)) == len(brought)


def test_the_modules_that_decide_are_chosen_by_default() -> None:
    chosen = chosen_modules([*sources()], [])
    assert {"dispatcher/machine", "worker/journal", "protocol/fields", "sealing/envelope", "shell/arrivals"} <= {
        *chosen
    }
    assert not {"dispatcher/service", "worker/runner", "adapters/mqtt", "cli/submit"} & {*chosen}


def test_modules_are_chosen_by_patterns() -> None:
    assert chosen_modules(["a/b", "a/c", "d/e"], ["a/*", "d/e"]) == ["a/b", "a/c", "d/e"]
    with pytest.raises(ValueError, match="'a/x' is not a module"):
        chosen_modules(["a/b"], ["a/x"])


def test_the_tests_of_a_function_come_in_the_order_of_their_distance() -> None:
    tests = {
        "t1::far": Called(1.0, frozenset({"m.py::f", "m.py::g", "n.py::h"})),
        "t2::near": Called(1.0, frozenset({"m.py::f"})),
        "t3::other": Called(1.0, frozenset({"m.py::g"})),
        **{
            f"t{number}::later": Called(1.0, frozenset({"m.py::f", *map(str, range(number))})) for number in range(4, 7)
        },
        **{f"t7::{number}": Called(0.0, frozenset({"m.py::f", *map(str, range(9))})) for number in range(1000)},
    }
    near = ["t2::near", "t1::far", "t4::later", "t5::later"]
    assert stages(a_mutant("f"), "m", tests) == [near, ["t6::later", "t3::other"]]
    assert stages(a_mutant("f"), "unknown", tests) == []


def test_outside_of_functions_all_tests_of_the_module_may_notice_it() -> None:
    tests = {"t1::a": Called(1.0, frozenset({"m.py::g"})), "t2::b": Called(1.0, frozenset({"m.py::C", "x", "y"}))}
    assert stages(a_mutant("C", in_function=False), "m", tests) == [["t2::b", "t1::a"]]


def test_last_come_the_tests_of_the_modules_that_import_it() -> None:
    """A module of constants calls nothing, and a function that makes a table runs once for all tests."""
    tests = {"t1::a": Called(1.0, frozenset({"n.py::g"})), "t2::b": Called(1.0, frozenset({"m.py::f"}))}
    around = importers({"p/n": "from stockworker.m import x", "n": "from stockworker.p.m import y\nimport os"})
    assert around["m"] == {"p/n"}
    assert around["p/m"] == {"n"}
    assert stages(a_mutant("f"), "m", tests, {"m": {"n"}}) == [["t2::b", "t1::a"]]
    assert stages(a_mutant("f"), "m", tests, {"m": {"other"}}) == [["t2::b"]]


# --- the result -------------------------------------------------------------------------------------------------------


def test_each_equivalent_mutant_exists_and_has_a_reason() -> None:
    """One whose code has changed must be judged again."""
    made = {module: mutants(sources()[module].read_text()) for module in {known.module for known in equivalents()}}
    for known in equivalents():
        assert any(known.covers(known.module, mutant) for mutant in made[known.module]), f"it no longer exists: {known}"
        assert len(known.reason.split()) > 2
    assert len(set(equivalents())) == len(equivalents())


def test_an_equivalent_mutant_can_be_one_of_several_with_the_same_change() -> None:
    known = Equivalent("m", "f", "1 -> 2", "a and b are the same", text="x = 1")
    assert known.covers("m", a_mutant(change="1 -> 2", text="x = 1"))
    assert not known.covers("m", a_mutant(change="1 -> 2", text="y = 1"))


def test_an_equivalent_mutant_is_not_tried_and_one_without_a_test_has_survived(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = Equivalent("m", "f", "a -> b", "a and b are the same")
    run = Run({"t1::a": NOTHING}, [known], jobs=1, until=None)
    assert run.all([Try("m", a_mutant()), Try("m", a_mutant(change="a -> c"))]) == {
        "m": Counter({"equivalent": 1, "survived": 1})
    }
    assert capsys.readouterr().out == "survived: agent/stockworker/m.py:1 (f): a -> c\n"


def test_no_mutant_begins_after_the_time_is_up() -> None:
    run = Run({"t1::a": NOTHING}, [], jobs=1, until=0.0)
    assert run.all([Try("m", a_mutant())]) == {"m": Counter({"no time": 1})}


@pytest.mark.parametrize(
    ("killed", "survived", "status"), [(2, 1, 0), (1, 2, 1), (38, 2, 0), (37, 3, 1), (228, 12, 0), (227, 13, 1)]
)
def test_one_mutant_or_five_percent_of_them_may_survive(
    capsys: pytest.CaptureFixture[str], killed: int, survived: int, status: int
) -> None:
    """In a small sample one survivor is more than five percent, and may be an equivalent mutant."""
    results = {"m": Counter(killed=killed, survived=survived, equivalent=3)}
    assert show(results, 95.0) == status
    out = capsys.readouterr().out
    assert f"{killed:4} of {killed + survived:4} noticed" in out
    assert ", 3 equivalent" in out
    assert ("below the goal of 95 %" in out) is bool(status)


def test_a_run_without_results_reaches_the_goal() -> None:
    assert show({"m": Counter({"no time": 1})}, 95.0) == 0


_PROGRAM = """
import os, sys
from tests.mutation.suite import PRODUCT, Change, record, recorded, start
from pathlib import Path

TESTS = ["tests/unit/test_retry.py"]
path = PRODUCT / "protocol" / "retry.py"
source = path.read_text()
for text in (source, source.replace("2.0", "3.0")):
    process = start(TESTS, Change(path, text), cpu_s=1.0)
    print("noticed" if os.waitpid(process, 0)[1] else "survived")
to = Path(sys.argv[1])
os.waitpid(record(TESTS, to, to.with_suffix(".log")), 0)
called = {name for each in recorded([to]).values() for name in each.functions}
print("protocol/retry.py::RetryPolicy.delay_s" in called, "protocol/retry.py::RetryPolicy" in called)
"""


def test_a_test_notices_a_change_and_the_functions_that_it_calls_are_recorded(tmp_path: object) -> None:
    """In a program of its own, which has imported nothing of the product."""
    command = [sys.executable, "-c", _PROGRAM, f"{tmp_path}/calls.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["survived", "noticed", "True", "True"], done.stderr


_FAILING = """
def test_a(): raise ValueError
def test_b(): pass
"""

_RECORD = """
import os, sys
import tests.conftest  # has the profile of Hypothesis
from tests.mutation.suite import record, recorded
from pathlib import Path

to = Path(sys.argv[1], "calls.json")
status = os.waitpid(record([f"{sys.argv[1]}/test_some.py"], to, to.with_suffix(".log")), 0)[1]
print(os.waitstatus_to_exitcode(status), *(name.partition("::")[2] for name in recorded([to])))
"""


def test_a_test_that_fails_without_a_change_notices_no_mutant(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(_FAILING)
    command = [sys.executable, "-c", _RECORD, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1", "test_b"], done.stderr
