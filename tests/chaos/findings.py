"""The findings of a storm: what happened, as a table, and whether a promise was broken."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from stockworker.client import Completion
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import LIVE, State
from stockworker.protocol.messages import ReceiptStatus
from tests.chaos.faults import KINDS
from tests.harness.fleet import Fleet
from tests.harness.ledger import Ledger


@dataclass(slots=True)
class Findings:
    """The findings of one storm; call `read` and `judge` once all services have exited.

    Attributes:
        seed: the seed of the plan.
        jobs: the number of jobs to submit.
        receipts: the receipts of the submitters, by job.
        ended: the completions that the waiting client received.
        performed: the number of faults, by role and kind.
        left_out: the faults that this machine does not allow.
        full_disks: the number of times a full disk ended a service.
        duration_s: from the start of the fleet until its end.
        states: the state of each job in the store.
        outcomes: of all attempts.
        accepted: the attempts whose result was accepted, by job and number.
        attempted: all attempts in the store, by job and number.
        results: for each job, the job that its result belongs to.
        executions: the number of times a handler began each attempt, by job and number.
    """

    seed: int
    jobs: int
    receipts: dict[str, ReceiptStatus] = field(default_factory=dict)
    ended: list[Completion] = field(default_factory=list)
    performed: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    full_disks: int = 0
    duration_s: float = 0.0
    states: dict[str, State] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    accepted: Counter[tuple[str, int]] = field(default_factory=Counter)
    attempted: set[tuple[str, int]] = field(default_factory=set)
    results: dict[str, str] = field(default_factory=dict)
    executions: Counter[tuple[str, int]] = field(default_factory=Counter)

    def read(self, fleet: Fleet, ledger: Ledger) -> None:
        """Read the decisions from the store, and the executions from the ledger of the handlers."""
        self.states = {
            job_id: State(state)
            for job_id, state in fleet.stored("SELECT substr(id, instr(id, ':') + 1), state FROM job")
        }
        attempts = fleet.stored("SELECT substr(job_id, instr(job_id, ':') + 1), number, outcome FROM attempt")
        self.attempted = {(job_id, number) for job_id, number, _ in attempts}
        self.accepted = Counter((job_id, number) for job_id, number, outcome in attempts if outcome == "ok")
        self.outcomes = Counter(str(outcome) for _, _, outcome in attempts)
        bodies = fleet.stored("SELECT substr(id, instr(id, ':') + 1), body FROM job JOIN result USING (sequence)")
        self.results = {job_id: f"job-{json.loads(body)['number']}" for job_id, body in bodies}
        self.executions = Counter((each.job_id, each.attempt) for each in ledger.all())

    @property
    def lost(self) -> set[str]:
        """Jobs with a receipt that have not ended."""
        return {job_id for job_id in self.receipts if job_id not in self.states or self.states[job_id] in LIVE}

    @property
    def accepted_twice(self) -> set[str]:
        """Jobs with more than one accepted result."""
        accepted = Counter(job_id for job_id, _ in self.accepted)
        return {job_id for job_id, count in accepted.items() if count > 1}

    @property
    def accepted_without_execution(self) -> set[tuple[str, int]]:
        """Attempts with an accepted result that no handler began."""
        return self.accepted.keys() - self.executions.keys()

    @property
    def executed_without_attempt(self) -> set[tuple[str, int]]:
        """Attempts that a handler began but the store does not have."""
        return self.executions.keys() - self.attempted

    def judge(self) -> None:
        """Check that no job with a receipt is lost, none has two accepted results, and every result belongs to its job."""
        ids = {f"job-{number}" for number in range(self.jobs)}
        assert self.receipts.keys() == ids
        assert set(self.receipts.values()) <= {ReceiptStatus.STORED, ReceiptStatus.DUPLICATE}
        assert self.lost == set()
        assert self.accepted_twice == set()
        assert self.states == dict.fromkeys(ids, State.COMPLETED)
        assert Counter(ended.job_id for ended in self.ended) == dict.fromkeys(ids, 1)
        assert {ended.state for ended in self.ended} == {State.COMPLETED}
        assert {job_id for job_id, _ in self.accepted} == ids
        assert self.results == {job_id: job_id for job_id in ids}
        assert self.accepted_without_execution == set()
        assert self.executed_without_attempt == set()
        assert self.outcomes[Outcome.REFUSED] == 0, "each worker can run each job, so none refuses one"

    def lines(self) -> Iterator[str]:
        """The table of what happened."""
        yield from self._faults()
        executions = self.executions.total()
        by_job = Counter[str]()
        for (job_id, _), count in self.executions.items():
            by_job[job_id] += count
        yield ""
        yield from _figures(
            {
                "jobs with a receipt": len(self.receipts),
                "lost": len(self.lost),
                "accepted twice": len(self.accepted_twice),
                "accepted and never executed": len(self.accepted_without_execution),
                "executed and not in the store": len(self.executed_without_attempt),
                "executions": executions,
                "of which repeated": executions - len(by_job),
                "jobs executed again": sum(count > 1 for count in by_job.values()),
                "executions of one job, at most": max(by_job.values(), default=0),
                "services ended by a full disk": self.full_disks,
                **{f"attempts: {outcome}": count for outcome, count in sorted(self.outcomes.items())},
            }
        )
        yield f"{'duration':<32}{self.duration_s:>9,.0f} s"
        yield f"{'seed':<32}{self.seed:>11}"

    def _faults(self) -> Iterator[str]:
        yield f"{'fault':<18}{''.join(f'{role:>12}' for role in KINDS)}{'all':>8}"
        for kind in sorted({kind for kinds in KINDS.values() for kind in kinds}):
            counts = [self.performed[kind, role] if kind in KINDS[role] else None for role in KINDS]
            cells = "".join(f"{'-' if count is None else count:>12}" for count in counts)
            yield f"{kind.replace('_', ' '):<18}{cells}{sum(count or 0 for count in counts):>8}"
        totals = [sum(count for (_, whose), count in self.performed.items() if whose == role) for role in KINDS]
        yield f"{'all':<18}{''.join(f'{total:>12}' for total in totals)}{sum(totals):>8}"
        if self.left_out:
            yield f"left out: {self.left_out.total()} (to fill a disk takes the right to mount one: run it as root)"


def _figures(figures: dict[str, int]) -> Iterator[str]:
    for name, value in figures.items():
        yield f"{name:<32}{value:>11,}"
