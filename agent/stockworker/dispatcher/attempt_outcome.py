"""What follows for a job from the outcome of an attempt. Pure, a part of the dispatcher's machine."""

# =====================  ========  =======  =========================================================
# outcome                failures  crashes  the job
# =====================  ========  =======  =========================================================
# ok                                        has completed
# error, timed_out       +1                 waits for its next attempt
# crashed                +1        +1       waits for its next attempt
# lost                             +1       is queued again
# released, refused                         is queued again, and its token is not valid any more
# cancelled                                 the same, if no client has asked for it
# =====================  ========  =======  =========================================================
#
# Three rules come before the last column:
#
# - A client has asked to cancel the job: it is cancelled, unless the outcome is ok. A result that exists is not thrown
#   away.
# - The error is permanent, or a budget is used up (`max_attempts` for failures, `max_crashes` for crashes): it fails.
# - A lost lease counts as a crash only if the job is blamed for it, see `stockworker.dispatcher.leases`.
#
# A lost attempt has no failure: nothing is known about the job, and its worker may just be cut off. It has a budget of
# its own because a job that takes down each machine must not travel through the whole fleet.

from collections import Counter
from typing import Any

from stockworker.dispatcher.ledger import Ledger
from stockworker.protocol.ids import Entropy
from stockworker.protocol.job import JobRecord, Outcome
from stockworker.protocol.lifecycle import State, Trigger
from stockworker.protocol.messages import AttemptReport, LeaseStatus
from stockworker.shell.turn import Now

_UNBLAMED = frozenset({Outcome.RELEASED, Outcome.REFUSED})
"""Outcomes that do not count against the job."""


class AttemptOutcomes:
    """Applies outcomes of attempts to the ledger."""

    def __init__(self, ledger: Ledger, entropy: Entropy, counters: Counter[str]) -> None:
        self._ledger = ledger
        self._entropy = entropy
        self._counters = counters

    def report(self, job: JobRecord, report: AttemptReport, now: Now) -> JobRecord:
        """Apply a worker's report about its attempt at a leased job."""
        self._counters[f"attempts_{report.outcome}"] += 1
        self._ledger.close(job.spec.job_id, report.outcome, now.wall, report.ran_s, report.error, report.output)
        if report.outcome is Outcome.CANCELLED and job.cancel_requested:
            return self._end(job, Trigger.CANCELLED, now, report.error or "cancelled while it ran")
        if report.outcome is Outcome.LOST:
            # No other report will follow: the worker has nothing of the attempt but its loss.
            return self._lost(job, report.error or f"worker {job.worker} was lost", now, token=None)
        if report.outcome in _UNBLAMED or report.outcome is Outcome.CANCELLED:
            return self._give_back(job, Trigger.RELEASED, report.error, now)
        started = (Trigger.STARTED,) if job.state is State.ASSIGNED else ()
        if report.outcome is Outcome.OK:
            ended = {"ended_at": now.wall, "reason": None, "cancel_requested": False}
            return self._ledger.move(job, *started, Trigger.SUCCEEDED, result=report.result or "null", **ended)
        if started:
            job = self._ledger.move(job, *started)
        return self._failed(job, report, now)

    def overrun(self, job: JobRecord, ran_s: float, now: Now) -> JobRecord:
        """End an attempt whose worker claims to run it after its time-out. No report of it is accepted any more."""
        if job.token is None:
            raise AssertionError(f"{job.spec.job_id} runs without a lease")
        error = (
            f"worker {job.worker} did not end it after its time-out of {job.spec.timeout_s:g} s: it claimed to run it for "
            f"{ran_s:.0f} s"
        )
        report = AttemptReport(job.token, Outcome.TIMED_OUT, None, error, ran_s=ran_s, job_id=job.spec.job_id)
        self._counters["attempts_overrun"] += 1
        self._ledger.close(job.spec.job_id, report.outcome, now.wall, report.ran_s, report.error)
        return self._failed(job, report, now, token=None)

    def _failed(self, job: JobRecord, report: AttemptReport, now: Now, **changes: Any) -> JobRecord:
        crashed = report.outcome is Outcome.CRASHED
        failures, crashes = job.failures + 1, job.crashes + crashed
        changes |= {"failures": failures, "crashes": crashes}
        text = report.error or str(report.outcome)
        if job.cancel_requested:
            return self._end(job, Trigger.CANCELLED, now, text, **changes)
        given_up = None
        if report.permanent:
            given_up = text
        elif crashed and crashes >= job.spec.max_crashes:
            given_up = f"{text} ({crashes} crashes; max_crashes is {job.spec.max_crashes})"
        elif failures >= job.spec.retry.max_attempts:
            given_up = f"{text} (attempt {failures} of {job.spec.retry.max_attempts})"
        if given_up is not None:
            return self._end(job, Trigger.GAVE_UP, now, given_up, **changes)
        delay_s = job.spec.retry.delay_s(failures, self._entropy)
        return self._ledger.move(job, Trigger.BACKED_OFF, reason=text, ready_at=now.steady + delay_s, **changes)

    def lose(self, job: JobRecord, now: Now) -> JobRecord:
        """Apply the loss of a lease. `stockworker.dispatcher.leases` explains when the job is blamed."""
        self._counters["leases_lost"] += 1
        blamed = job.state is State.RUNNING or self._ledger.leases[job.spec.job_id].status is not LeaseStatus.WAITING
        reason = f"worker {job.worker} was lost"
        self._ledger.close(job.spec.job_id, Outcome.LOST, now.wall, None, reason)
        return self._lost(job, reason, now, blamed=blamed)

    def _lost(self, job: JobRecord, reason: str, now: Now, *, blamed: bool = True, **changes: Any) -> JobRecord:
        """Queue the job again, unless its crash budget is used up."""
        crashes = job.crashes + blamed
        if job.cancel_requested:
            return self._end(job, Trigger.CANCELLED, now, reason, crashes=crashes, token=None)
        if crashes >= job.spec.max_crashes:
            text = f"{reason} ({crashes} crashes; max_crashes is {job.spec.max_crashes})"
            return self._end(job, Trigger.GAVE_UP, now, text, crashes=crashes, token=None)
        return self._ledger.lose(job, blamed=blamed, reason=reason, **changes)

    def release(self, job: JobRecord, reason: str, now: Now) -> JobRecord:
        """Queue a job again that its worker never received, or no longer has. Nothing counts against the job."""
        self._ledger.close(job.spec.job_id, Outcome.RELEASED, now.wall, None, reason)
        return self._give_back(job, Trigger.RELEASED, reason, now)

    def _give_back(self, job: JobRecord, trigger: Trigger, reason: str | None, now: Now) -> JobRecord:
        if job.cancel_requested:
            return self._end(job, Trigger.CANCELLED, now, reason or "cancelled", token=None)
        return self._ledger.move(job, trigger, token=None, reason=reason)

    def _end(self, job: JobRecord, trigger: Trigger, now: Now, reason: str, **changes: Any) -> JobRecord:
        return self._ledger.move(job, trigger, ended_at=now.wall, reason=reason, **changes)
