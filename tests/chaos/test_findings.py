"""The check of a storm reports every broken promise, and the table shows it."""

from collections import Counter
from collections.abc import Callable
from typing import Final

import pytest

from stockworker.client import Completion
from stockworker.protocol.ids import JobId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptStatus
from tests.chaos.findings import Findings

JOBS: Final = ("job-0", "job-1")


def make_findings() -> Findings:
    """Findings of a storm in which the first job ran twice, and no promise was broken."""
    return Findings(
        seed=1,
        jobs=len(JOBS),
        receipts=dict.fromkeys(JOBS, ReceiptStatus.STORED),
        ended=[Completion(JobId(job_id), State.COMPLETED, None, None) for job_id in JOBS],
        performed=Counter({("kill", "worker"): 3, ("wipe", "broker"): 1}),
        states=dict.fromkeys(JOBS, State.COMPLETED),
        accepted=Counter({("job-0", 2): 1, ("job-1", 1): 1}),
        attempted={("job-0", 1), ("job-0", 2), ("job-1", 1)},
        results={job_id: job_id for job_id in JOBS},
        executions=Counter([("job-0", 1), ("job-0", 2), ("job-1", 1)]),
    )


def lose_a_job(findings: Findings) -> None:
    del findings.states["job-1"]


def accept_a_second_result(findings: Findings) -> None:
    findings.accepted["job-0", 1] += 1


def accept_without_execution(findings: Findings) -> None:
    del findings.executions["job-1", 1]


def execute_without_attempt(findings: Findings) -> None:
    findings.executions["job-1", 7] += 1


SPOILERS: Final[dict[str, Callable[[Findings], None]]] = {
    "lost": lose_a_job,
    "accepted twice": accept_a_second_result,
    "accepted and never executed": accept_without_execution,
    "executed and not in the store": execute_without_attempt,
}


def test_a_job_may_run_again() -> None:
    findings = make_findings()
    findings.judge()
    shown = "\n".join(findings.lines())
    assert figure(shown, "executions") == 3
    assert figure(shown, "of which repeated") == 1
    assert all(figure(shown, name) == 0 for name in SPOILERS)


@pytest.mark.parametrize("name", SPOILERS)
def test_a_broken_promise_is_counted_and_reported(name: str) -> None:
    findings = make_findings()
    SPOILERS[name](findings)
    assert figure("\n".join(findings.lines()), name) == 1
    with pytest.raises(AssertionError):
        findings.judge()


def leave_a_job(findings: Findings) -> None:
    findings.states["job-1"] = State.RUNNING


def swap_results(findings: Findings) -> None:
    findings.results = {"job-0": "job-1", "job-1": "job-0"}


def complete_twice(findings: Findings) -> None:
    findings.ended.append(findings.ended[0])


def reject_a_job(findings: Findings) -> None:
    findings.receipts["job-0"] = ReceiptStatus.REJECTED


def refuse_an_attempt(findings: Findings) -> None:
    findings.outcomes["refused"] += 1


@pytest.mark.parametrize("spoil", [refuse_an_attempt, leave_a_job, swap_results, complete_twice, reject_a_job])
def test_other_faults_are_reported(spoil: Callable[[Findings], None]) -> None:
    findings = make_findings()
    spoil(findings)
    with pytest.raises(AssertionError):
        findings.judge()


def test_faults_are_counted_by_kind_and_part() -> None:
    rows = {line[:18].strip(): line.split()[-1] for line in make_findings().lines() if line}
    assert rows["kill"] == "3"
    assert rows["wipe"] == "1"
    assert rows["all"] == "4"


def figure(shown: str, name: str) -> int:
    (line,) = [line for line in shown.splitlines() if line.startswith(f"{name}  ")]
    return int(line.removeprefix(name).replace(",", ""))
