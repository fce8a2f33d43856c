"""One turn of the dispatcher: packets become events, the machine decides, the store commits, packets come out."""

# The order is decide, commit, output, and it is here only. Synchronous, without a broker and without a clock of its
# own: the service runs it in the thread that owns the store, the simulation on virtual time.
#
# Ended jobs are in the store alone, and so are parked ones (`ready_queue`). So a turn begins with one look-up of the jobs that
# its events name and that are not in memory, which the machine receives as its first event, `StoredJobs`. The
# next turn begins with what is known after the commit: how many jobs were pruned (`Pruned`), the parked jobs that come
# into memory (`Refilled`), and those that have expired (`Expired`).
#
# **The longest turn.** The watchdog ends a dispatcher whose turn takes about 22 s (three quarters of WatchdogSec=), so no
# peer may make a turn that long. Work is counted in rows: a job of a submission, an attempt of a report, a lease, type or
# tag of a request, and at least one for each message. A turn handles messages until they have `MOST_ROWS` rows, and leaves
# the others to the next turn. A submission has up to 256 jobs, and another message up to 4,096 entries in each list
# (`protocol.wire`), so a turn has at most
#
#     512 rows, and those of one more message: 3 lists of 4,096 entries      12,800 rows
#
# plus work that follows from the time or the state and has bounds of its own: 1,000 jobs that are due or expire
# (`alarms`), 1,000 that are pruned, 512 that are assigned with their payloads (`roster`), 16,384 looks at workers for
# explanations (`machine`). The most expensive rows are new jobs, at 0.16 ms each on a slow machine with two processors, and
# a turn has at most 767 of them. All others are cheaper, and 12,800 of them take below 2 s. The payloads of 512 jobs are
# 120 MiB at most, below 1 s. So the longest turn is several times shorter than what the watchdog allows.
#
# **The cost of a turn.** In µs of processor time for each job, without the sync of the disk (two virtual processors):
#
# ==================================  ====  ====  ====  ====
# jobs in the turn                       1    10    32   256
# ==================================  ====  ====  ====  ====
# store new jobs                        89    31    24    20
# settle jobs, and assign as many      137    51    41    37
# ==================================  ====  ====  ====  ====
#
# So most of a small turn is its fixed part, and a third of the rest is SQLite. Live jobs must not appear in it: a set
# operation with `dict.keys()` looks at all of them. Measured without gain: fewer or later garbage collections, fewer columns
# in the updates of a job, and no index of live jobs. A turn does not begin while the one before commits: if that commit
# failed, the machine would be ahead of the store by two turns, and the next one would have read what was never stored.

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, get_args

from stockworker.dispatcher.effects import (
    Effect,
    Event,
    Expired,
    LimitOutputs,
    Offer,
    Prune,
    Pruned,
    Refilled,
    RunQuery,
    Save,
    SaveAttempt,
    SaveDrain,
    SaveJob,
    SaveOutput,
    SavePause,
    ShowStats,
    StoredJobs,
    Unreached,
    Unread,
    Unwatched,
)
from stockworker.dispatcher.machine import DispatcherMachine
from stockworker.dispatcher.owners import resolve
from stockworker.dispatcher.ready_queue import ReadExpired, Refill
from stockworker.dispatcher.store import JobStore
from stockworker.dispatcher.tally import Tally
from stockworker.errors import DecodeError
from stockworker.logs.events import JobMoved, LogEvent, MessageRefused
from stockworker.protocol import codec, topics
from stockworker.protocol.body import MAX_TEXT, in_batches, text_bytes
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import ClientId, JobId, WorkerId, check_job_id
from stockworker.protocol.job import JobRecord
from stockworker.protocol.messages import (
    Ack,
    Assign,
    Assignment,
    CancelJob,
    Message,
    Monitor,
    Query,
    Receipt,
    ReceiptEntry,
    ReceiptStatus,
    Report,
    Request,
    RetryJob,
    Submit,
    Transition,
)
from stockworker.protocol.packet import Packet
from stockworker.protocol.reply import own_reply, read_reply
from stockworker.protocol.topics import Role
from stockworker.shell.departures import departures
from stockworker.shell.turn import Now, Send, TurnOutput


@dataclass(frozen=True, slots=True)
class DispatcherOutput(TurnOutput):
    """What to do once a turn is committed.

    Attributes:
        asked: what to answer from the store, by `stockworker.dispatcher.answers`, outside the turn. Then `Answered` must
            be an input of a turn.
    """

    asked: RunQuery | ShowStats | None


ASKS_EVERY_S: Final = 1.0
"""How often a message with steps of jobs asks whether a client has subscribed to them: its acknowledgement shows that."""

MOST_ROWS: Final = 512
"""Rows after which a turn leaves further messages to the next one."""

_SAVES: Final = get_args(Save)

Input = Packet | Event | Unread
"""What a turn is about. A packet is decoded, and unread ones are counted; an event goes to the machine as it is."""


class DispatcherTurns:
    """Takes turns with one machine and one store.

    Args:
        machine: makes the decisions.
        store: keeps the jobs.
        lease_s: how long a lease is valid, in seconds: workers get it with each assignment.
        verbose: log each step of each job as well, whether a client watches them or not.
        most_rows: see `MOST_ROWS`.

    Attributes:
        tally: what was committed.
    """

    def __init__(
        self,
        machine: DispatcherMachine,
        store: JobStore,
        lease_s: float,
        *,
        verbose: bool = False,
        most_rows: int = MOST_ROWS,
    ) -> None:
        self._machine = machine
        self._store = store
        self._lease_s = lease_s
        self._verbose = verbose
        self._most_rows = most_rows
        self._next_events: list[Event] = []
        self._asks_at = 0.0
        self.tally = Tally(sum(machine.ledger.totals.values()))

    def take(self, items: Sequence[Input], now: Now) -> DispatcherOutput:
        """Decide and commit. When this returns, everything that led to the packets is durable.

        Raises:
            StoreError: nothing of this turn is durable, and the machine must not be used any more.
        """
        events, self._next_events = self._next_events, []
        effects: list[Effect] = []
        refused: list[str | None] = []
        rows = left = 0
        for item in items:
            if isinstance(item, Unread):
                self._machine.counters["messages_refused"] += item.count
            elif not isinstance(item, Packet):
                events.append(item)
            elif rows >= self._most_rows:
                left += 1
            else:
                rows += self._read(item, events, effects, refused)
        self.tally.handled(events)
        effects += self._machine.handle([*self._stored_jobs(events), *events], now)
        saves: list[Save] = []
        others: list[Effect] = []
        for effect in effects:
            if isinstance(effect, _SAVES):
                saves.append(effect)
            else:
                others.append(effect)
        pruned = self._store.commit(saves) if saves else {}
        self.tally.committed(saves, now)
        if pruned:
            self._next_events.append(Pruned(tuple(pruned.items())))
        output = self._output(saves, others, now, left)
        return replace(output, refused=tuple(refused)) if refused else output

    def next_in_s(self, now: Now) -> float:
        """Seconds until the next turn must be taken, even if nothing happens before."""
        return self._machine.next_in_s(now)

    def _read(self, packet: Packet, events: list[Event], effects: list[Effect], refused: list[str | None]) -> int:
        """Decode a packet into an event, or refuse it; return its rows."""
        try:
            event = resolve(codec.decode(packet))
        except DecodeError as error:
            effects.extend(self._refuse(packet, error))
            refused.append(topics.sender_of(packet.topic))
            return 1
        events.append(event)
        return _rows(event)

    def _stored_jobs(self, events: Sequence[Event]) -> list[Event]:
        """Look up the jobs that `events` name and that are not in memory.

        That includes the job IDs of all submissions. A client repeats a submission until it gets a receipt, so whether
        an ID is new can only be known from the store: a job that is taken in twice would run twice.
        """
        # `difference`, because a subtraction of `keys()` looks at every live job.
        named = {job_id for event in events for job_id in _named_jobs(event)}.difference(self._machine.ledger.jobs)
        found = self._store.find(named) if named else {}
        return [StoredJobs(tuple(found.values()))] if found else []

    def _refuse(self, packet: Packet, error: DecodeError) -> list[Effect]:
        self._machine.counters["messages_refused"] += 1
        event = MessageRefused(topic=error.topic, reason=error.reason, sender=topics.sender_of(error.topic))
        return [event, *(Send(message) for message in refusal(packet, error))]

    def _output(self, saves: Sequence[Save], effects: Sequence[Effect], now: Now, left: int) -> DispatcherOutput:
        new = {
            each.job.spec.job_id: each.payload
            for each in saves
            if isinstance(each, SaveJob) and each.payload is not None
        }
        packets: list[Packet] = []
        log: list[LogEvent] = []
        asked: RunQuery | ShowStats | None = None
        for effect in effects:
            match effect:
                case Send(message=Monitor() as steps):
                    packets.extend(self._asking(packet, now) for packet in departures(steps, log))
                    if self._verbose:
                        log.extend(map(_moved, steps.transitions))
                case Send(message=message, spare=True):
                    packets.extend(codec.changed_packet(packet, qos=0) for packet in departures(message, log))
                case Send(message=message):
                    packets += departures(message, log)
                case Offer(worker_id=worker_id, jobs=jobs):
                    packets.extend(self._offer(worker_id, jobs, new, now))
                case RunQuery() | ShowStats():
                    asked = effect
                case Refill():
                    self._next_events.append(Refilled(effect, tuple(self._store.parked(effect))))
                case ReadExpired():
                    expired, following = self._store.expired(effect)
                    self._next_events.append(Expired(tuple(expired), following))
                case LogEvent():
                    log.append(effect)
                case SaveJob() | SaveAttempt() | SaveOutput() | LimitOutputs() | SavePause() | SaveDrain() | Prune():
                    raise AssertionError("saves are committed, and lead to nothing more")
        return DispatcherOutput(tuple(packets), tuple(log), asked, left=left)

    def _asking(self, steps: Packet, now: Now) -> Packet:
        """Let a message with steps of jobs ask the broker, periodically, whether a client has subscribed to them."""
        if self._verbose or now.steady < self._asks_at:
            return steps
        self._asks_at = now.steady + ASKS_EVERY_S
        return codec.changed_packet(steps, qos=1, tag=Unwatched())

    def _offer(self, worker_id: WorkerId, jobs: Sequence[JobRecord], new: dict[JobId, str], now: Now) -> list[Packet]:
        """Encode assignments. The payloads of jobs that this turn has stored are at hand; all others are read."""
        stored = self._store.payloads([job for job in jobs if job.spec.job_id not in new])
        payloads = {**stored, **new} if new else stored
        leases = [_assignment(job, payloads[job.spec.job_id], now) for job in jobs]
        packets = []
        entries = [(lease.token, codec.encode_entry(lease)) for lease in leases]
        for batch in in_batches(
            entries, lambda entry: text_bytes(entry[1])
        ):  # as it is written: no second look at a payload
            packet = codec.encode_entries(Assign(worker_id, self._lease_s, ()), [text for _, text in batch])
            packets.append(codec.changed_packet(packet, tag=Unreached(worker_id, tuple(token for token, _ in batch))))
        return packets


def _rows(message: Message) -> int:
    """How much work a message makes, see the head of this module."""
    match message:
        case Submit(jobs=jobs):
            return max(1, len(jobs))
        case Report(attempts=attempts):
            return max(1, len(attempts))
        case Request(leases=leases, types=types, tags=tags):
            return 1 + len(leases) + len(types) + len(tags)
        case _:
            return 1


def _named_jobs(event: Event) -> Iterable[JobId]:
    match event:
        case Submit(jobs=jobs):
            return [job.job_id for job in jobs if job.job_id is not None]
        case CancelJob(job_id=job_id) | RetryJob(job_id=job_id):
            return [job_id]
        case Report(attempts=attempts):
            return [attempt.job_id for attempt in attempts]
        case Query(ids=ids, explain=True):
            return ids
        case _:
            return ()


def _moved(step: Transition) -> JobMoved:
    return JobMoved(job=step.job_id, type=step.type, state=step.state, attempt=step.attempt, worker=step.worker)


def _assignment(job: JobRecord, payload: str, now: Now) -> Assignment:
    if job.token is None:
        raise AssertionError(f"{job.spec.job_id} is offered without a lease")
    spec = job.spec
    return Assignment(
        spec.job_id,
        spec.type,
        job.attempt,
        job.token,
        spec.timeout_s,
        payload,
        no_crash_budget=job.crashes + 1 >= spec.max_crashes,
        expires_in_s=None if spec.expires_at is None else max(0.0, spec.expires_at - now.wall),
    )


def refusal(packet: Packet, error: DecodeError) -> list[Message]:
    """Answer the sender of a malformed message, if the message shows where to."""
    reply = read_reply(packet.properties)
    try:
        address = topics.parse(packet.topic)
    except ValueError:
        pass  # a level of the topic is invalid, but the message may still have a reply address
    else:
        if Role.WORKER in topics.BY_KIND[address.kind].publishers and address.values:
            return [Ack(WorkerId(address.values[0]), error=error.reason[:MAX_TEXT])]
        client_id = address.by_level.get("client_id")
        if client_id is not None:
            reply = own_reply(ClientId(client_id), reply)
    if reply is None:
        return []
    return [Receipt(reply, (ReceiptEntry(_named_job(packet), ReceiptStatus.REJECTED, error.reason[:MAX_TEXT]),))]


def _named_job(packet: Packet) -> JobId | None:
    for name, value in packet.properties.user:
        if name == "id":
            try:
                return check_job_id(value)
            except ValueError:
                return None
    return None
