"""The laws about messages: of every client, and of the dispatcher after a commit."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Literal

from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.owners import may_use, resolve
from stockworker.dispatcher.policy import Policy
from stockworker.dispatcher.ready_queue import Lane, lane_of
from stockworker.errors import DecodeError
from stockworker.protocol import codec, topics
from stockworker.protocol.body import MAX_BODY
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId, owner_of
from stockworker.protocol.job import JobRecord, Outcome
from stockworker.protocol.lifecycle import INITIAL, LEASED, TERMINAL, TRANSITIONS, State
from stockworker.protocol.messages import (
    Ack,
    Answer,
    Assign,
    CancelJob,
    Disconnect,
    LeaseStatus,
    Message,
    Monitor,
    Notice,
    NoticeEntry,
    Notices,
    Receipt,
    ReceiptStatus,
    Report,
    Request,
    RetryJob,
    SetDrain,
    SetPause,
    Stats,
    Transition,
)
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import OWN_LEVEL, Role
from stockworker.shell.turn import Now
from tests.simulation.invariants import Law, Laws
from tests.simulation.shadow import Facts, Shadow

_STEPS = {(State(old), new) for (old, _), new in TRANSITIONS.items()}


@lru_cache(4096)
def read(packet: Packet) -> Message:
    """What a packet means. Cached, because idle processes repeat their messages.

    Raises:
        DecodeError: it means nothing.
    """
    return codec.decode(packet)


@lru_cache(4096)
def _may_publish(topic: str, role: Role, own_id: str) -> bool:
    """Whether this topic is one that this one of this role publishes to."""
    try:
        address = topics.parse(topic)
    except ValueError:
        return False
    line = topics.BY_KIND[address.kind]
    level = OWN_LEVEL.get(role)
    own = address.by_level.get(level or "", own_id) == own_id
    return own and (role in line.publishers or (role is Role.CLIENT and Role.OPERATOR in line.publishers))


def _readable(packets: Iterable[Packet]) -> Iterator[Message]:
    for packet in packets:
        with suppress(DecodeError):
            yield read(packet)


class MessageChecks:
    """Checks every message."""

    def __init__(self, laws: Laws, facts: Facts, shadow: Shadow, policy: Policy) -> None:
        self._hold = laws.hold
        self._policy = policy
        self._facts = facts
        self._shadow = shadow

    def sent(self, packet: Packet, role: Role, own_id: str) -> Message | None:
        """A client publishes a packet; returns what it means."""
        self._hold(Law.SMALL_ENOUGH, len(packet.body) <= MAX_BODY, packet.topic, len(packet.body))
        self._hold(Law.NOTHING_RETAINED, not packet.retain, packet)
        self._hold(Law.SENT_BY_RIGHT, _may_publish(packet.topic, role, own_id), own_id, "says", packet.topic)
        try:
            return read(packet)
        except DecodeError as error:
            self._hold(Law.SENT_BY_RIGHT, None, packet.topic, error)
            return None

    # --- the dispatcher, after a commit -------------------------------------------------------------------------------

    def dispatcher_sends(self, packets: Sequence[Packet], wall: float) -> None:
        """The dispatcher has committed a turn, and will send these packets."""
        messages = [self.sent(packet, Role.DISPATCHER, "dispatcher") for packet in packets]
        steps = [step for message in messages if isinstance(message, Monitor) for step in message.transitions]
        self._steps(steps)
        ends = {(step.job_id, step.state) for step in steps if step.state in TERMINAL}
        owed = {end for end in ends if owner_of(end[0]) is not None}
        for message in messages:
            match message:
                case Receipt():
                    self._receipt(message, ends)
                case Notices():
                    for entry in message.entries:
                        self._notice(entry, entry.result, owed)
                        fine = owner_of(entry.job_id) == message.client_id
                        self._hold(Law.NOTICE_TO_SUBMITTER, fine, entry, "is for", message.client_id)
                        owed.discard((entry.job_id, entry.state))
                case Notice():
                    self._notice(message, message.result, ends)
                    ends.discard((message.job_id, message.state))
                case Ack():
                    self._ack(message)
                case Assign():
                    self._assign(message, wall)
                case _:
                    pass
        self._hold(Law.NOTICE_AFTER_COMMIT, not ends | owed, "no notice of", ends | owed)

    def dispatcher_answers(self, packet: Packet) -> None:
        """The dispatcher has made an answer to a query: jobs as they are now, or statistics as they are in this turn."""
        match self.sent(packet, Role.DISPATCHER, "dispatcher"):
            case Answer() as message:
                self._answer(message)
            case Stats(states=states) if self._shadow.untouched:  # what a turn prunes is counted from the next one on
                counted = {state: count for state, count in states if count}
                self._hold(Law.STATS_ARE_TRUE, counted == dict(+self._shadow.totals), counted, self._shadow.totals)
            case _:
                pass

    def _steps(self, steps: Sequence[Transition]) -> None:
        states = dict(self._shadow.before)
        for step in steps:
            before = states.get(step.job_id)
            fine = step.job_id in states and (
                step.state in INITIAL if before is None else (before, step.state) in _STEPS
            )
            self._hold(Law.TRANSITION_IN_TABLE, fine, step, "after", before)
            states[step.job_id] = step.state
        for job_id, state in states.items():
            self._hold(
                Law.TRANSITION_IN_TABLE, state is self._shadow.jobs[job_id].state, job_id, "was reported as", state
            )

    def _receipt(self, message: Receipt, ends: set[tuple[JobId, State]]) -> None:
        for entry in message.entries:
            if entry.status is ReceiptStatus.REJECTED:
                continue
            job_id = entry.holder or entry.job_id
            job = None if job_id is None else self._shadow.jobs.get(job_id, self._shadow.forgotten.get(job_id))
            fine = job is not None or entry.status in (ReceiptStatus.DISPATCH_STOPPED, ReceiptStatus.DISPATCH_RESUMED)
            if job is not None and entry.status is ReceiptStatus.CANCELLED:
                fine = job.state is State.CANCELLED or (job.spec.job_id, State.CANCELLED) in ends
            elif job is not None and entry.status is ReceiptStatus.CANCELLING:
                fine = job.cancel_requested or job.state in TERMINAL
            elif job is not None and entry.status is ReceiptStatus.REOPENED:
                fine = job.state is not State.FAILED
            self._hold(Law.RECEIPT_AFTER_COMMIT, fine, entry, "but on disk is", job)
            if job_id is not None and job_id not in self._shadow.forgotten:
                self._facts.receipted.add(job_id)

    def _notice(
        self, message: Notice | NoticeEntry, result: str | Literal[False] | None, ends: set[tuple[JobId, State]]
    ) -> None:
        job, stored = self._shadow.jobs.get(message.job_id), self._shadow.results.get(message.job_id)
        public = isinstance(message, Notice) and len((stored or "").encode()) > self._policy.notice_result_bytes
        fine = (
            job is not None
            and (message.job_id, message.state) in ends
            and message.state in (job.state, State.FAILED)
            and result == (False if public else stored)
        )
        self._hold(Law.NOTICE_AFTER_COMMIT, fine, message, "but on disk is", job)

    def _ack(self, message: Ack) -> None:
        for token in message.stored:
            attempt = self._shadow.attempts.get(token)
            fine = attempt is not None and attempt.outcome in self._facts.reported[token]
            self._hold(Law.STORED_AFTER_COMMIT, fine, token, "is called stored, but on disk is", attempt)
        for token in message.stale:
            is_open = token in self._shadow.open_leases[message.worker_id]
            self._hold(Law.STALE_IS_STALE, not is_open, token, "is called stale")

    def _assign(self, message: Assign, wall: float) -> None:
        for lease in message.leases:
            attempt = self._shadow.attempts.get(lease.token)
            job = self._shadow.jobs.get(lease.job_id)
            fine = attempt is not None and (attempt.job_id, attempt.number, attempt.worker) == (
                lease.job_id,
                lease.attempt,
                message.worker_id,
            )
            self._hold(Law.ASSIGNED_AFTER_COMMIT, fine and job is not None, lease, "but on disk is", attempt)
            if job is not None and job.spec.expires_at is not None:
                left_s = max(0.0, job.spec.expires_at - wall)
                self._facts.left_s[lease.token] = max(left_s, self._facts.left_s.get(lease.token, 0.0))
            submitted = self._facts.payloads[lease.job_id] | self._facts.payloads[None]
            self._hold(Law.PAYLOAD_UNCHANGED, lease.payload in submitted, lease)

    def _answer(self, message: Answer) -> None:
        for view in message.jobs:
            job = self._shadow.jobs.get(view.job_id)
            fine = job is not None and (view.state, view.attempt, view.worker, view.ended_at) == (
                job.state,
                job.attempt,
                job.worker,
                job.ended_at,
            )
            fine = fine and view.result in (None, self._shadow.results.get(view.job_id))
            self._hold(Law.ANSWER_IS_TRUE, fine, view, "but on disk is", job)

    # --- messages to the dispatcher -----------------------------------------------------------------------------------------------

    def find_misled(self, inputs: Sequence[object], workers: dict[WorkerId, Worker], heard_since: float) -> set[str]:
        """Disconnected or silent workers of which a turn gets a message of an earlier incarnation."""
        found = set[str]()
        away = {worker.worker_id for worker in workers.values() if not worker.online or worker.seen < heard_since}
        for message in _readable(item for item in inputs if isinstance(item, Packet)):
            match message:
                case Disconnect(worker_id=worker_id):
                    away.add(worker_id)
                case Request(worker_id=worker_id, incarnation=incarnation):
                    if worker_id in away and incarnation != self._facts.boots.get(worker_id):
                        found.add(worker_id)
                case _:
                    pass
        return found

    # --- what was asked for -------------------------------------------------------------------------------------------

    def dispatcher_received(self, packets: Sequence[Packet], workers: dict[WorkerId, Worker], now: float) -> None:
        """The dispatcher has taken a turn with these messages of others: what people ordered was done."""
        cancels, retries = set[JobId](), set[JobId]()
        paused, drained = dict[JobType, bool](), dict[WorkerId, bool]()
        for message in map(resolve, _readable(packets)):
            match message:
                case CancelJob(job_id=job_id):
                    if may_use(job_id, message.client_id):
                        cancels.add(job_id)
                case RetryJob(job_id=job_id):
                    retries.add(job_id)
                case SetPause(job_type=job_type, paused=on):
                    paused[job_type] = on
                case SetDrain(worker_id=worker_id, drained=on):
                    drained[worker_id] = on
                case Request():
                    self._claimed(message, workers.get(message.worker_id), now)
                case _:
                    pass
        wrong: list[str] = [job_type for job_type, on in paused.items() if (job_type in self._shadow.paused) is not on]
        wrong += [worker_id for worker_id, on in drained.items() if (worker_id in self._shadow.drained) is not on]
        self._hold(Law.HOLD_HEEDED, not wrong, wrong, "are not as they were ordered")
        before = self._shadow.before
        for job_id in cancels - retries:
            job = self._shadow.jobs.get(job_id)
            if job is not None and before.get(job_id, job.state) is not None:
                self._hold(Law.CANCEL_HEEDED, job.cancel_requested or job.state in TERMINAL, job)
        for job_id in retries:
            job = self._shadow.jobs.get(job_id)
            if job is not None and job.spec.unique is None and before.get(job_id, job.state) is State.FAILED:
                self._hold(Law.RETRY_HEEDED, job.state is not State.FAILED, job)

    def _claimed(self, message: Request, worker: Worker | None, now: float) -> None:
        claimed = {lease.token for lease in message.leases}
        self._facts.waiting -= claimed
        self._facts.waiting |= {lease.token for lease in message.leases if lease.status is LeaseStatus.WAITING}
        if worker is not None and message.incarnation == worker.incarnation:
            # Only the accepted incarnation renews leases: not one that started earlier, nor the other of two machines
            # with one name.
            self._facts.renewed.update(dict.fromkeys(claimed & self._shadow.open_leases[message.worker_id], now))

    # --- who got what -------------------------------------------------------------------------------------------------

    def dispatcher_assigned(self, workers: dict[WorkerId, Worker], now: Now, aged_before: float) -> None:
        """The new leases of a turn went to the right workers, in the right order."""
        new = self._shadow.new_leases
        if not new:
            return
        heads = self._heads()
        for job in new:
            stopped = job.spec.type in self._shadow.paused or job.worker in self._shadow.drained
            self._hold(Law.HOLDS_KEPT, not stopped, job, "was given out though its type or worker is stopped")
            in_time = job.spec.expires_at is None or job.spec.expires_at > now.wall
            self._hold(Law.NOT_AFTER_ITS_TIME, in_time, job, "was given out at", now)
        by_worker: defaultdict[WorkerId, list[JobRecord]] = defaultdict(list)
        for job in new:
            if job.worker is not None and job.state in LEASED:
                by_worker[job.worker].append(job)
        for worker_id, jobs in by_worker.items():
            worker = workers.get(worker_id)
            self._hold(Law.CAPABLE_WORKER, worker is not None and worker.online, worker_id, "got", jobs)
            if worker is not None:
                count = len(self._shadow.open_leases[worker_id])
                most = max([worker.window, *(worker.slots + ahead.jobs for ahead in self._policy.prefetch.values())])
                self._hold(Law.CREDIT_KEPT, count <= most, worker_id, "holds", count, "of", most)
                for job in jobs:
                    self._in_order(job, worker, heads, aged_before)
                self._by_turns(jobs, worker, heads, aged_before)

    def _by_turns(
        self, jobs: list[JobRecord], worker: Worker, heads: dict[Lane, JobRecord], aged_before: float
    ) -> None:
        """No owner was served twice by the worker while another waited who got nothing in this turn."""

        def rank(job: JobRecord) -> int:
            return -1 if job.ready_at <= aged_before else job.spec.priority

        served = {lane_of(job).owner for job in self._shadow.new_leases}
        twice = {key for key, count in Counter((lane_of(job).owner, rank(job)) for job in jobs).items() if count > 1}
        for lane, other in heads.items():
            if lane.owner not in served and worker.may_run(lane.type, lane.tags):
                ahead = [owner for owner, of_rank in twice if of_rank == rank(other)]
                self._hold(Law.TURNS_TAKEN, not ahead, other, "waited for two jobs of", ahead)

    def _heads(self) -> dict[Lane, JobRecord]:
        """The first of those that still wait."""
        heads: dict[Lane, JobRecord] = {}
        for job in self._shadow.jobs.values():
            if job.state is State.QUEUED and job.spec.type not in self._shadow.paused:
                lane = lane_of(job)
                first = heads.get(lane)
                if first is None or (job.ready_at, job.sequence) < (first.ready_at, first.sequence):
                    heads[lane] = job
        return heads

    def _in_order(self, job: JobRecord, worker: Worker, heads: dict[Lane, JobRecord], aged_before: float) -> None:
        able = job.spec.type in worker.types and job.spec.tags <= worker.tags
        self._hold(Law.CAPABLE_WORKER, able, worker, "got", job)
        aged = job.ready_at <= aged_before
        for other in heads.values():
            if not worker.may_run(other.spec.type, other.spec.tags):
                continue
            facts = (job, "went before", other, "aged before", aged_before)
            if other.ready_at <= aged_before:
                self._hold(Law.AGED_FIRST, aged, *facts)
            elif not aged:
                self._hold(Law.STRICT_PRIORITY, job.spec.priority <= other.spec.priority, *facts)
            if lane_of(other) == lane_of(job):
                first = (job.ready_at, job.sequence) < (other.ready_at, other.sequence)
                self._hold(Law.FIRST_COME, first, *facts)

    # --- workers ------------------------------------------------------------------------------------------------------

    def worker_sends(self, packet: Packet, worker_id: WorkerId, journal: dict[Token, Outcome | None]) -> None:
        """A worker sends a packet, while this is in its journal."""
        match self.sent(packet, Role.WORKER, worker_id):
            case Report(attempts=attempts):
                for attempt in attempts:
                    noted = journal.get(attempt.token)
                    self._hold(Law.REPORT_FROM_JOURNAL, noted is attempt.outcome, attempt, "but noted is", noted)
            case Request(leases=leases):
                for lease in leases:
                    finished = journal.get(lease.token) is not None
                    fine = lease.token in journal and finished is (lease.status is LeaseStatus.FINISHED)
                    self._hold(Law.CLAIM_FROM_JOURNAL, fine, lease, "but noted is", journal.get(lease.token))
            case _:
                pass
