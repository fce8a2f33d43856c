"""Requests of clients: new jobs, cancellations, retries. Pure, a part of the dispatcher's machine."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, fields
from operator import attrgetter
from typing import Any, Final

from stockworker.dispatcher.ledger import Ledger
from stockworker.dispatcher.owners import may_use
from stockworker.dispatcher.policy import JobLimits, Policy
from stockworker.protocol import topics
from stockworker.protocol.ids import PROBE, ClientId, Entropy, JobId, UniqueKey, full_id, make_job_id, owner_of
from stockworker.protocol.job import IN_THE_PAST, NEVER_RUNS, JobOptions, JobRecord, JobSpec
from stockworker.protocol.lifecycle import LEASED, TERMINAL, State, Trigger
from stockworker.protocol.messages import CancelJob, ReceiptEntry, ReceiptStatus, Submission
from stockworker.protocol.sealed import is_sealed
from stockworker.shell.turn import Now

_DIGEST_BYTES: Final = 16

_LIMITED: Final = tuple(each.name for each in fields(JobLimits))
"""The options that have a limit."""

_OPTIONS: Final = tuple(each.name for each in fields(JobOptions))
_asked: Final = attrgetter(*_OPTIONS)
_NOTHING: Final = _asked(JobOptions())
"""What most submissions ask for."""


class Submissions:
    """Turns requests of clients into changes of the ledger, and returns a receipt for each.

    Attributes:
        disk_full: the disk of the store has too little room for new jobs. Room remains for the results of the others.
    """

    def __init__(self, ledger: Ledger, policy: Policy, entropy: Entropy, counters: Counter[str]) -> None:
        self._ledger = ledger
        self._policy = policy
        defaults = asdict(policy.defaults)
        self._expires_after_s: float | None = defaults.pop("expires_after_s")
        self._defaults = _within(defaults, policy.job_limits)
        self._defaults_of_type = {
            job_type: _within(defaults, limits) for job_type, limits in policy.job_limits_of_type.items()
        }
        self._entropy = entropy
        self._counters = counters
        self.disk_full = False

    def submit(self, submission: Submission, client_id: ClientId | None, now: Now) -> ReceiptEntry:
        """Store a job, unless its ID or its unique key is taken.

        Args:
            submission: the job, under its full ID if it has one.
            client_id: who submits it, and owns it; None is a client that is not verified, and the shared owner.
            now: the time.
        """
        job_id = submission.job_id or full_id(make_job_id(now.wall, self._entropy), client_id)
        refused = self._not_acceptable(job_id, submission, client_id)
        if refused is not None:
            self._counters["submissions_rejected"] += 1
            return ReceiptEntry(job_id, ReceiptStatus.REJECTED, refused)
        known = self._ledger.find(job_id)
        if known is not None:
            return self._submitted_before(known.spec, submission)
        holder = self._ledger.holder(client_id, submission.type, submission.unique)
        if holder is not None:
            self._counters["submissions_duplicate"] += 1
            return ReceiptEntry(job_id, ReceiptStatus.DUPLICATE, _key_is_taken(holder, submission.unique), holder)
        payload = submission.payload.encode(errors="surrogatepass")
        spec, size = self._spec(submission, job_id, _digest(submission.payload, payload), now), len(payload)
        refused = self._refusal(submission, spec, size, now)
        if refused is not None:
            self._counters["submissions_rejected"] += submission.type != PROBE
            return ReceiptEntry(job_id, ReceiptStatus.REJECTED, refused)
        later = submission.not_before is not None and submission.not_before > now.wall
        job = JobRecord(
            spec=spec,
            sequence=self._ledger.next_sequence,
            state=State.SCHEDULED if later else State.QUEUED,
            submitted_at=now.wall,
            ready_at=now.steady,
            payload_bytes=size,
        )
        self._ledger.add(job, submission.payload)
        self._counters["jobs_stored"] += 1
        return ReceiptEntry(job_id, ReceiptStatus.STORED)

    def _not_acceptable(self, job_id: JobId, submission: Submission, client_id: ClientId | None) -> str | None:
        owner = owner_of(job_id)
        if owner != client_id:
            return f"job {job_id} belongs to {owner}; only {owner} may submit it, on a topic with its own client ID"
        if client_id is None and not self._policy.accept_shared_jobs:
            return (
                "this dispatcher accepts jobs of verified clients only. Publish to "
                f"{topics.queue(submission.priority, submission.type)}/CLIENT_ID, with the ID of this client"
            )
        return None

    def _submitted_before(self, known: JobSpec, submission: Submission) -> ReceiptEntry:
        """Confirm a job that is stored already; or reject another job under its ID, which would never run."""
        digest = _digest(submission.payload, submission.payload.encode(errors="surrogatepass"))
        differs = None not in {digest, known.payload_digest} and digest != known.payload_digest
        if known.type == submission.type and not differs:
            self._counters["submissions_duplicate"] += 1
            return ReceiptEntry(known.job_id, ReceiptStatus.DUPLICATE)
        self._counters["submissions_rejected"] += 1
        what = "with another payload" if differs else f"of type {known.type}"
        reason = f"a job {what} is stored under this ID. Submit the new job under another ID"
        return ReceiptEntry(known.job_id, ReceiptStatus.REJECTED, reason)

    def _refusal(self, submission: Submission, spec: JobSpec, payload_bytes: int, now: Now) -> str | None:
        if self.disk_full:
            return (
                "the dispatcher stores no new jobs, because the disk of its job store is nearly full. Make room there; "
                "the dispatcher notices that by itself"
            )
        if submission.expires_at is not None and submission.expires_at <= now.wall:
            return IN_THE_PAST
        if submission.expires_at is not None and submission.expires_at <= (submission.not_before or 0.0):
            return NEVER_RUNS
        return self._asks_too_much(submission) or self._ledger.usage.excess(spec, payload_bytes, self._policy.limits)

    def _asks_too_much(self, submission: Submission) -> str | None:
        """Explain which option is beyond its limit. A limit refuses, and does not change what was asked for.

        A job with a shorter time-out than its submitter has asked for would be stopped in its middle. The submitter can
        only learn that in time from a refusal.
        """
        asked = _asked(submission)
        if asked == _NOTHING:
            return None
        own = submission.type in self._policy.job_limits_of_type
        where = f"dispatcher.types.{submission.type}" if own else "dispatcher.job_limits"
        limits = self._policy.job_limits_of_type.get(submission.type, self._policy.job_limits)
        for option in _LIMITED:
            wanted, most = getattr(submission, option), getattr(limits, option)
            if wanted is not None and wanted > most:
                name, unit = (option.removesuffix("_s"), " s") if option.endswith("_s") else (option, "")
                bounds = f"{name} is {wanted:.15g}{unit}, and the dispatcher allows at most {most:.15g}{unit}"
                return f"{bounds} ({where}.{name})"
        return None

    def _spec(self, submission: Submission, job_id: JobId, digest: bytes | None, now: Now) -> JobSpec:
        options = self._defaults_of_type.get(submission.type, self._defaults).copy()
        asked = _asked(submission)
        if asked != _NOTHING:
            options |= {name: value for name, value in zip(_OPTIONS, asked, strict=True) if value is not None}
        if submission.expires_at is None and self._expires_after_s is not None:
            options["expires_at"] = max(now.wall, submission.not_before or 0.0) + self._expires_after_s
        options["backoff_max_s"] = max(options["backoff_s"], options["backoff_max_s"])
        priority = submission.priority
        return JobSpec(job_id=job_id, type=submission.type, priority=priority, payload_digest=digest, **options)

    def refuse_cancel(self, order: CancelJob) -> ReceiptEntry | None:
        """Return a receipt that refuses the order, if the client may not cancel this job."""
        if order.by_operator or may_use(order.job_id, order.client_id):
            return None
        owner = owner_of(order.job_id)
        reason = f"job {order.job_id} belongs to {owner}; only {owner} or an operator may cancel it"
        return ReceiptEntry(order.job_id, ReceiptStatus.REJECTED, reason)

    def cancel(self, job_id: JobId, now: Now) -> ReceiptEntry:
        """Cancel a job that waits, or request the cancellation of one that a worker has."""
        job = self._ledger.find(job_id)
        if job is None or job.state in TERMINAL:
            return _ended(job_id, job, {State.CANCELLED: ReceiptStatus.CANCELLED})
        if job.state in LEASED:
            self._ledger.amend(job, cancel_requested=True)
            return ReceiptEntry(job_id, ReceiptStatus.CANCELLING)
        self._ledger.move(
            job, Trigger.CANCELLED, token=None, ended_at=now.wall, reason="cancelled before a worker had it"
        )
        return ReceiptEntry(job_id, ReceiptStatus.CANCELLED)

    def retry(self, job_id: JobId, now: Now) -> ReceiptEntry:
        """Queue a failed job again, with all its attempts."""
        job = self._ledger.find(job_id)
        if job is not None and job.state not in TERMINAL:
            reason = f"the job is {job.state}; only a failed job can be retried"
            return ReceiptEntry(job_id, ReceiptStatus.REJECTED, reason)
        if job is None or job.state is not State.FAILED:
            return _ended(job_id, job, {})
        holder = self._ledger.holder(owner_of(job_id), job.spec.type, job.spec.unique)
        if holder is not None:
            # The key exists to prevent two jobs. The operator can cancel the other one first.
            return ReceiptEntry(job_id, ReceiptStatus.REJECTED, _key_is_taken(holder, job.spec.unique), holder)
        self._ledger.reopen(
            job,
            ready_at=now.steady,
            failures=0,
            crashes=0,
            token=None,
            cancel_requested=False,
            ended_at=None,
            reason=None,
        )
        return ReceiptEntry(job_id, ReceiptStatus.REOPENED)


def _ended(job_id: JobId, job: JobRecord | None, confirmed: Mapping[State, ReceiptStatus]) -> ReceiptEntry:
    if job is None:
        return ReceiptEntry(job_id, ReceiptStatus.REJECTED, "no such job")
    if job.state in confirmed:
        return ReceiptEntry(job_id, confirmed[job.state])
    return ReceiptEntry(job_id, ReceiptStatus.REJECTED, f"the job is already {job.state}")


def _digest(payload: str, encoded: bytes) -> bytes | None:
    """See `JobSpec.payload_digest`."""
    return None if is_sealed(payload) else hashlib.sha256(encoded).digest()[:_DIGEST_BYTES]


def _within(defaults: Mapping[str, Any], limits: JobLimits) -> dict[str, Any]:
    """The defaults, none of them beyond its limit."""
    return {name: min(value, getattr(limits, name, value)) for name, value in defaults.items()}


def _key_is_taken(holder: JobId, unique: UniqueKey | None) -> str:
    return f"job {holder} holds the unique key {unique}"
