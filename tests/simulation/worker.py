"""A worker: the real machine and journal, on virtual time, with a modelled executor."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from stockworker.adapters.sqlite import MEMORY
from stockworker.protocol import codec, topics
from stockworker.protocol.ids import Token, WorkerId, make_token
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import Disconnect
from stockworker.protocol.topics import Role
from stockworker.shell.turn import Now
from stockworker.worker.effects import (
    Accept,
    Capabilities,
    Drain,
    Effect,
    Entry,
    Event,
    Forget,
    MarkStarted,
    RecordOutcome,
    Start,
    Stop,
)
from stockworker.worker.journal import Journal
from stockworker.worker.machine import Intervals, WorkerIdentity, WorkerMachine
from stockworker.worker.turn import WorkerOutput, WorkerTurns
from stockworker.worker.work import Work
from tests.simulation.broker import Broker, SignIn
from tests.simulation.calm import Calm
from tests.simulation.executor import Executor
from tests.simulation.invariants import Law, Laws
from tests.simulation.message_checks import MessageChecks
from tests.simulation.process import Process
from tests.simulation.shadow import Facts
from tests.simulation.world import World

_MOST_EXTRA = 256
"""Leases that a worker holds at most beyond its slots (see `stockworker.worker.window`)."""


class _WatchedJournal(Journal):
    """Tells of each commit."""

    committed: Callable[[Collection[Entry]], None]

    def commit(self, entries: Collection[Entry]) -> None:
        super().commit(entries)
        self.committed(entries)


class _WatchedMachine(WorkerMachine):
    """Tells of each list of effects."""

    decided: Callable[[list[Effect]], None]

    def handle(self, events: Sequence[Event], now: float) -> list[Effect]:
        effects = super().handle(events, now)
        self.decided(effects)
        return effects


class Worker(Process):
    """See the module.

    Attributes:
        worker_id: in the fleet; a twin has another's, and a name of its own.
        refuses: whether handlers may be missing.
        noted: what the journal has, by token: how it ended, or None.
        leaving: it ends when it is done.
        reboots: called when a job takes the machine down.
    """

    def __init__(  # noqa: PLR0917 (it meets everybody)
        self,
        world: World,
        broker: Broker,
        calm: Calm,
        name: str,
        worker_id: WorkerId,
        capabilities: Capabilities,
        intervals: Intervals,
        laws: Laws,
        facts: Facts,
        checks: MessageChecks,
    ) -> None:
        super().__init__(world, broker, calm, laws, name)
        self.worker_id = worker_id
        self.capabilities = capabilities
        self.intervals = intervals
        self.noted: dict[Token, Outcome | None] = {}
        self.leaving = False
        self.refuses = True
        self.reboots: Callable[[], None] = lambda: None
        self._facts = facts
        self._checks = checks
        self._started: set[Token] = set()
        self._start_by: dict[Token, float] = {}

    # --- its life -----------------------------------------------------------------------------------------------------

    def begin(self) -> SignIn:
        boot = make_token(self.dice)
        self.leaving = False
        self._facts.booted[self.worker_id], self._facts.boots[self.worker_id] = self.world.now, boot
        self._ran: set[Token] = set()
        self._journal = _WatchedJournal(MEMORY, connect=self.disk.connect)
        self._journal.committed = self._commit
        entries = self._journal.load()
        self.noted = {entry.assignment.token: entry.report.outcome if entry.report else None for entry in entries}
        self._started = {entry.assignment.token for entry in entries if entry.started}
        identity = WorkerIdentity(self.worker_id, boot, "1")
        self.machine = _WatchedMachine(identity, self.intervals, self.capabilities, entries, self.world.now)
        self.machine.decided = self._decided
        self._turns = WorkerTurns(self.machine, self._journal)
        self.executor = Executor(self.world, self.dice, self.capabilities.slots, self.put)
        self.executor.refuses = self.refuses
        self.executor.takes_down = self._taken_down
        self.executor.began = self._began
        will = codec.encode(Disconnect(self.worker_id, boot))
        return SignIn(self.worker_id, topics.subscriptions(Role.WORKER, self.worker_id), will)

    def end(self) -> None:
        self.executor.close()

    def leave(self, patience_s: float) -> None:
        """Stop in good order: finish or give back what is held, and end."""
        if self.alive and not self.leaving:
            self.leaving = True
            self.calm.begin(self.name, "leaving")
            self.put(Drain(patience_s, leave=True))

    def give_up(self) -> None:
        self.world.note(self.name, "gives up its link: another client uses its ID")
        self.leave(60.0)

    @property
    def drains(self) -> bool:
        return self.machine._drain is not None

    def next_in_s(self) -> float:
        return self._turns.next_in_s(Now(self.world.now, self.world.now))

    # --- a turn -------------------------------------------------------------------------------------------------------

    def take(self, inputs: list[Any]) -> WorkerOutput:
        return self._turns.take(inputs, Now(self.world.now, self.world.now))

    def _decided(self, effects: list[Effect]) -> None:
        self.decided(effects)
        starts = [effect for effect in effects if isinstance(effect, Start)]
        self.laws.hold(Law.DRAINED_STARTS_NOTHING, not (self.drains and starts), self.name, starts)
        for start in starts:
            start_by = self._start_by.get(start.work.token)
            self.laws.hold(Law.STARTED_IN_TIME, start_by is None or self.world.now <= start_by, start, "by", start_by)

    def _commit(self, entries: Collection[Entry]) -> None:
        for entry in entries:
            match entry:
                case Accept(assignment=assignment):
                    self.noted[assignment.token] = None
                    self._facts.accepted.add(assignment.token)
                    left_s = self._facts.left_s.get(assignment.token)
                    if left_s is not None:
                        self._start_by[assignment.token] = self.world.now + left_s
                case RecordOutcome(report=report):
                    self.noted[report.token] = report.outcome
                    self._facts.reported[report.token].add(report.outcome)
                    if report.permanent:
                        self._facts.permanent.add(report.token)
                    self.laws.hold(Law.RESULT_SYNCED, self.disk.synced, report)
                case Forget(token=token):
                    self.noted.pop(token, None)
                    self._started.discard(token)
                case MarkStarted():
                    pass
        self.boundary("committed")

    def perform(self, output: Any) -> None:
        orders: tuple[Start | Stop, ...] = output.orders
        for order in orders:
            self.boundary("perform")
            match order:
                case Start(work=work):
                    self._start(work)
                case Stop(token=token):
                    self.executor.stop(token)
        if output.leave and self.link is not None:
            self.boundary("perform")
            self.link.close(output.packets)
            self._say_goodbye()
        else:
            super().perform(output)

    def _say_goodbye(self) -> None:
        self.calm.end(self.name, "leaving")
        self.fail("left in good order")

    def on_send(self, packet: Any) -> None:
        self.world.note(self.name, "says", packet.topic, packet.body[:200].decode(errors="replace"))
        self._checks.worker_sends(packet, self.worker_id, self.noted)

    # --- running ------------------------------------------------------------------------------------------------------

    def _start(self, work: Work) -> None:
        rows = self.disk.rows("SELECT started FROM lease WHERE token = ?", work.token)
        self.laws.hold(Law.STARTED_FROM_JOURNAL, rows == [(1,)], work, rows)
        self.laws.hold(Law.STARTED_ONCE, work.token not in self._started | self._ran, work)
        self._started.add(work.token)
        self._ran.add(work.token)
        submitted = self._facts.payloads[work.job_id] | self._facts.payloads[None]
        self.laws.hold(Law.PAYLOAD_UNCHANGED, work.payload in submitted, work)
        self.executor.start(work)

    def _began(self, work: Work) -> None:
        runs = self.executor.runs
        self.laws.hold(Law.SLOTS_KEPT, len(runs) <= self.capabilities.slots, self.name, "runs", runs)
        alike = [run for run in runs.values() if run.work.job_id == work.job_id]
        self.laws.hold(Law.ONE_ATTEMPT_AT_ONCE, len(alike) == 1, alike)
        self.world.note(self.name, "runs", work.job_id, work.attempt, work.token, work.payload)

    def _taken_down(self, work: Work, what: str) -> None:
        # The first power cut of a machine leaves no trace: the start was not synced. And while two machines share a
        # name, the dispatcher takes one of them for restarted, without blame.
        known = what != "machine" or work.attempt > 1
        if known and not self._facts.faults["twin_joined"]:
            self._facts.taken_down[work.job_id].add(work.token)
        self.world.note(self.name, "is hit by", work.job_id, what)
        self._facts.faults[f"job_kills_{what}"] += 1
        if what == "worker":
            self.fail(f"killed by {work.job_id}")
        elif what == "machine":
            self.reboots()

    def check(self) -> None:
        """The journal holds what it should."""
        ((rows,),) = self.disk.rows("SELECT count(*) FROM lease")
        bound = 2 * (self.capabilities.slots + _MOST_EXTRA)
        self.laws.hold(Law.JOURNAL_BOUNDED, rows <= bound, self.name, rows)
