"""The configuration of handlers that run many jobs in one process: contradictions, and what has no effect."""

from pathlib import Path

import pytest

from stockworker import config
from tests.harness.config_files import errors, writer


def body(handler: str, slots: int = 100) -> str:
    return f"job_processor: {{worker: {{max_concurrent_jobs: {slots}}}, handlers: {{a: {{{handler}}}}}}}"


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ("command: [x], concurrency: 2", "each job of a command has its own process; remove 'concurrency'"),
        ("python: 'm:f', concurrency: 2, isolation: per_job", "share a process of their type; remove 'isolation'"),
        ("python: 'm:f', concurrency: 2, isolation: shared", "share a process of their type; remove 'isolation'"),
        ("python: 'm:f', concurrency: 2, limits: {cpu: 5}", "is not known; remove 'limits.cpu'"),
        ("python: 'm:f', concurrency: 0", "must be a whole number, 1 to 1000"),
    ],
)
def test_a_contradiction_is_explained(tmp_path: Path, handler: str, expected: str) -> None:
    (error,) = errors(writer(tmp_path)(body(handler)))
    assert "handlers.a.concurrency: " in error
    assert expected in error


def test_more_concurrency_than_slots_is_warned_of(tmp_path: Path) -> None:
    def found(slots: int) -> list[str]:
        problems = config.problems(writer(tmp_path)(body("python: 'm:f', concurrency: 100", slots)))
        return [problem.show() for problem in problems if "concurrency" in problem.key]

    assert found(100) == []
    (text,) = found(5)
    assert ": warning: handlers.a.concurrency: " in text
    assert text.endswith("so at most 5 jobs run at the same time; raise that")
