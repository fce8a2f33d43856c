"""Each parser keeps its promise for the corpus and for some mutants, and the fuzzer finds what is broken on purpose."""

import json
import re
from pathlib import Path

import pytest

from tests.fuzz import __main__ as command
from tests.fuzz.fuzzing import CORPUS, Fuzzer, Target, TooMuchWork, corpus, describe, execute, save
from tests.fuzz.targets import TARGETS

MUTANTS = 100


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_keeps_its_promise(name: str) -> None:
    fuzzer = Fuzzer(name, TARGETS[name], seed=1)
    assert fuzzer.report.executions == len(corpus(name, TARGETS[name])) > 3
    for _ in range(MUTANTS):
        fuzzer.step()
    assert {kind: trace for kind, (_, trace) in fuzzer.report.findings.items()} == {}


def test_every_corpus_has_a_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


def fragile(content: bytes) -> None:
    """Breaks at a number that no input of the corpus has, behind a check."""
    found = json.loads(content)
    if isinstance(found, dict) and type(found.get("size")) is int:
        check_size(found["size"])


def check_size(size: int) -> None:
    if size > 1 << 60:
        raise OverflowError("too large")


def lenient(content: bytes) -> None:
    try:
        fragile(content)
    except (ValueError, RecursionError):
        return


FRAGILE = Target(lenient, [b"{", b'"size"'], [b'{"size": 12}', b"[]"])


def test_a_defect_is_found_and_repeated_by_its_seed() -> None:
    runs = []
    for _ in range(2):
        fuzzer = Fuzzer("fragile", FRAGILE, seed=7)
        while not fuzzer.report.findings and fuzzer.report.executions < 5_000:
            fuzzer.step()
        runs.append((fuzzer.report.executions, fuzzer.report.findings))
    assert runs[0] == runs[1]
    ((kind, (content, trace)),) = runs[0][1].items()
    assert re.fullmatch(r"OverflowError in test_fuzz.py:\d+", kind)
    assert "too large" in trace
    with pytest.raises(OverflowError):
        execute(FRAGILE, content)


def test_too_much_work_is_a_finding() -> None:
    def endless(content: bytes) -> None:
        while content:
            len(content)

    with pytest.raises(TooMuchWork) as raised:
        execute(Target(endless), b"x")
    assert describe(raised.value) == "TooMuchWork"
    execute(Target(endless), b"")


def test_a_finding_can_be_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "TARGETS", {"fragile": FRAGILE})
    monkeypatch.setattr(command, "FINDINGS", tmp_path)
    report = command.fuzz("fragile", 7, 600.0, 50_000)
    assert command.show({"fragile": report}, 7) == 1
    (file,) = tmp_path.iterdir()
    assert f"python -m tests.fuzz fragile --replay {file}" in capsys.readouterr().out
    assert command.replay("fragile", file) == 1
    assert command.replay("fragile", save(tmp_path, "good", b"[]")) == 0
    assert command.replay("fragile", tmp_path / "missing") == 2
