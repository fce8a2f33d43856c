"""The dispatcher: the real turns, machine and store, on virtual time and a disk that can lose power."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from stockworker.adapters.sqlite import MEMORY
from stockworker.dispatcher.answers import respond
from stockworker.dispatcher.effects import Answered, Effect, Event, RunQuery, Save, ShowStats, Unreached
from stockworker.dispatcher.machine import DispatcherMachine
from stockworker.dispatcher.measures import unaccounted
from stockworker.dispatcher.policy import Allowance, Policy
from stockworker.dispatcher.ready_queue import Lane, lane_of
from stockworker.dispatcher.store_sqlite import SqliteJobStore
from stockworker.dispatcher.turn import DispatcherOutput, DispatcherTurns
from stockworker.protocol import codec, topics
from stockworker.protocol.body import MOST_WAITING
from stockworker.protocol.ids import make_token
from stockworker.protocol.lifecycle import LEASED, State
from stockworker.protocol.messages import Presence
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import Role
from stockworker.shell.turn import LinkChanged, Now
from tests.simulation.broker import Broker, SignIn
from tests.simulation.calm import Calm
from tests.simulation.invariants import Law, Laws
from tests.simulation.message_checks import MessageChecks
from tests.simulation.process import Process
from tests.simulation.shadow import Facts, Shadow
from tests.simulation.world import World

MIDDAY: Final = 1_700_000_000.0
DAY: Final = 86_400.0
_SESSION_EXPIRY_S: Final = DAY
_RECOVERY_S: Final = 5.0
_ANSWER_S: Final = 0.01
_MOST_ROWS: Final = 8
"""So few that many turns leave messages to the next one."""

_FORGET_S: Final = 130.0
"""Two intervals of pruning, and a reserve."""

_TRUSTED_S: Final = 3600.0
"""Steps of the clock beyond that since its start make the dispatcher forget nothing."""


class _WatchedStore(SqliteJobStore):
    """Tells of each commit."""

    committed: Callable[[list[Save], Mapping[State, int]], None]

    def commit(self, saves: Iterable[Save]) -> Mapping[State, int]:
        saves = list(saves)
        pruned = super().commit(saves)
        self.committed(saves, pruned)
        return pruned


class _WatchedMachine(DispatcherMachine):
    """Tells of each list of effects."""

    decided: Callable[[list[Effect]], None]

    def handle(self, events: Sequence[Event], now: Now) -> list[Effect]:
        effects = super().handle(events, now)
        self.decided(effects)
        return effects


class Dispatcher(Process):
    """See the module."""

    def __init__(  # noqa: PLR0917 (it meets everybody)
        self,
        world: World,
        broker: Broker,
        calm: Calm,
        policy: Policy,
        laws: Laws,
        facts: Facts,
        shadow: Shadow,
        checks: MessageChecks,
    ) -> None:
        super().__init__(world, broker, calm, laws, "dispatcher")
        self.policy = policy
        self._wall_offset = 0.0
        self._facts = facts
        self._shadow = shadow
        self._checks = checks

    # --- its life -----------------------------------------------------------------------------------------------------

    def begin(self) -> SignIn:
        self._booted_at = self.world.now
        self._steady_at_boot = self.wall
        self._store = _WatchedStore(MEMORY, connect=self.disk.connect)
        self._store.committed = self._commit
        self._facts.unreached.clear()
        self._presence = Presence(online=True, incarnation=make_token(self.dice), version="1")
        self._shadow.equals(self._store, thoroughly=False)
        now = self.now()
        latest = math.inf if self.disk.full else now.steady  # the service waits for room before it loads
        self._shadow.corrected(latest)
        snapshot = self._store.load(latest)
        self.machine = _WatchedMachine(self.policy, self.dice, self._presence, snapshot, now)
        self.machine.decided = lambda effects: self.decided(effects)  # noqa: PLW0108 (it may be set later)
        self._turns = DispatcherTurns(self.machine, self._store, self.policy.lease_s, most_rows=_MOST_ROWS)
        return SignIn(
            client_id="dispatcher",
            subscriptions=topics.subscriptions(Role.DISPATCHER, "dispatcher"),
            will=codec.encode(replace(self._presence, online=False)),
            clean_start=False,
            session_expiry_s=_SESSION_EXPIRY_S,
        )

    def end(self) -> None:
        pass

    def stop(self) -> None:
        """End in good order."""
        if self.alive and self.link is not None:
            self.link.close([codec.encode(replace(self._presence, online=False))])
            self.fail("stopped in good order")

    def give_up(self) -> None:
        self.fail("the link gave up")

    # --- its clocks ---------------------------------------------------------------------------------------------------

    @property
    def wall_offset(self) -> float:
        """What its wall clock is off by, in seconds."""
        return self._wall_offset

    @wall_offset.setter
    def wall_offset(self, offset_s: float) -> None:
        self._wall_offset = offset_s
        self._facts.clock_set_at = self.world.now

    @property
    def wall(self) -> float:
        return max(0.0, MIDDAY + self.world.now + self.wall_offset)  # no Linux lets its clock go below

    def now(self) -> Now:
        return Now(self._steady_at_boot + (self.world.now - self._booted_at), self.wall)

    def next_in_s(self) -> float:
        return self._turns.next_in_s(self.now())

    def left_to_read(self) -> int:
        return self.machine.ledger.ready._parked

    # --- a turn -------------------------------------------------------------------------------------------------------

    def take(self, inputs: list[Any]) -> DispatcherOutput:
        if LinkChanged(up=True) in inputs:
            self._facts.linked_since = self.world.now
        for item in inputs:
            if isinstance(item, Unreached):
                self._facts.unreached.update(item.tokens)
        self._shadow.begin_turn()
        self._facts.misled = self._checks.find_misled(
            inputs, self.machine.roster.workers, self.now().steady - self.policy.lease_s / 2
        )
        output = self._turns.take(inputs, self.now())
        now = self.now()
        self._checks.dispatcher_sends(output.packets, now.wall)
        if isinstance(output.asked, ShowStats):
            self._checks.dispatcher_answers(*respond(output.asked, self._store.reader()).packets)
        packets = [item for item in inputs if isinstance(item, Packet)]
        received = packets[: len(packets) - output.left]
        self._checks.dispatcher_received(received, self.machine.roster.workers, self.world.now)
        self._checks.dispatcher_assigned(self.machine.roster.workers, now, now.steady - self.policy.max_wait_s)
        return output

    def perform(self, output: DispatcherOutput) -> None:
        super().perform(output)
        asked, life = output.asked, self.lives
        if asked is not None:
            self.world.after(self.dice.uniform(0.0, _ANSWER_S), lambda: self._respond(asked, life))

    def _respond(self, asked: RunQuery | ShowStats, life: int) -> None:
        """Answer a query, some time after its turn, as another thread does."""
        if not self.alive or self.lives != life or self.link is None:
            return
        (packet,) = respond(asked, self._store.reader()).packets
        if isinstance(asked, RunQuery):
            self._checks.dispatcher_answers(packet)
        self.link.send(packet)
        self.put(Answered())

    def _commit(self, saves: list[Save], pruned: Mapping[State, int]) -> None:
        calmed_before = self._steady_at_boot + 600.0
        self._shadow.committed(saves, self.now(), calmed_before)
        self._shadow.pruned(saves, pruned, self._store, self.now())
        for job in self._shadow.new_leases:
            if job.token is not None:
                self._facts.granted[job.token] = self._facts.renewed[job.token] = self.world.now
        self.boundary("committed")

    def on_send(self, packet: Any) -> None:
        self.world.note(self.name, "says", packet.topic, packet.body[:200].decode(errors="replace"))

    # --- laws ---------------------------------------------------------------------------------------------------------

    def check(self, *, thoroughly: bool = False) -> None:
        """Memory and disk agree."""
        if not self.alive:
            return
        hold, ledger = self.laws.hold, self.machine.ledger
        self._shadow.equals(self._store, thoroughly=thoroughly)
        anew = DispatcherMachine(self.policy, self.dice, self._presence, self._store.load(), self.now()).ledger
        parked = {job_id: job for job_id, job in ledger.jobs.items() if job.parked}
        hold(Law.BOOKS_EQUAL_STORE, self._store.find(parked) == parked, "parked in memory:", parked)
        live = {job_id: replace(job, ready_at=0.0) for job_id, job in ledger.jobs.items() if job_id not in parked}
        again = {job_id: replace(job, ready_at=0.0) for job_id, job in anew.jobs.items()}
        hold(Law.BOOKS_EQUAL_STORE, live == again, "books:", live, "anew:", again)
        hold(Law.BOOKS_EQUAL_STORE, ledger.next_sequence >= anew.next_sequence, ledger.next_sequence)
        for ours, stored, expected in (
            (ledger.paused, anew.paused, self._shadow.paused),
            (ledger.drained, anew.drained, self._shadow.drained),
        ):
            hold(Law.BOOKS_EQUAL_STORE, ours == stored == expected, ours, stored, expected)
        if not self._turns._next_events:  # the machine learns in its next turn what was pruned
            hold(Law.TOTALS_EQUAL_STORE, +ledger.totals == +anew.totals, ledger.totals, anew.totals)
        lost = unaccounted(ledger, self._turns.tally)
        hold(Law.TOTALS_EQUAL_STORE, lost == 0, "unaccounted for:", lost)
        hold(Law.BOOKS_EQUAL_STORE, vars(ledger.usage) == vars(anew.usage), vars(ledger.usage), vars(anew.usage))
        queued = {job_id for job_id, job in ledger.jobs.items() if job.state is State.QUEUED}
        hold(Law.QUEUE_IS_QUEUED, ledger.ready._valid.keys() == queued, "queued:", queued)
        self._check_parked()
        leased = {job_id for job_id, job in ledger.jobs.items() if job.state in LEASED}
        by_job = {lease.attempt.job_id for lease in ledger.leases}
        owners = {job.worker for job in ledger.jobs.values() if job.worker is not None}
        by_worker = [lease.attempt.job_id for owner in owners for lease in ledger.leases.of_worker(owner)]
        hold(Law.HOLDERS_AGREE, by_job == leased, by_job, leased)
        hold(Law.HOLDERS_AGREE, sorted(by_worker) == sorted(leased), by_worker, leased)
        calm_s = self.calm.lasts_s(self.name)
        self._check_forgotten(min(calm_s, self.world.now - self._facts.clock_set_at))
        for worker in self.machine.roster.workers.values():
            slots, most = worker.slots, self.policy.workers.get("*", Allowance()).slots
            allowed = slots <= most and worker.window <= slots + MOST_WAITING
            hold(Law.ALLOWANCE_KEPT, allowed, worker, "may have", most)
        for job_id in leased:
            ran_s, timeout_s = ledger.leases[job_id].ran_s, ledger.jobs[job_id].spec.timeout_s
            longest_s = timeout_s + self.policy.timeout_grace_s + self.policy.lease_s
            hold(Law.OVERRUN_ENDED, ran_s <= longest_s, job_id, "ran:", ran_s, "of", longest_s)
            token = ledger.leases[job_id].attempt.token
            silent_s = min(calm_s, self.world.now - self._facts.renewed.get(token, 0.0))
            hold(Law.DEAD_WORK_RECOVERED, silent_s <= self.policy.lease_s + _RECOVERY_S, job_id, "silent:", silent_s)

    def _check_parked(self) -> None:
        """The parked jobs of a lane are exactly those that come after the front, and are counted."""
        lanes, hold = self.machine.ledger.ready._lanes, self.laws.hold
        alone = Counter[Lane]()
        for job_id, job in self._shadow.jobs.items():
            if not job.parked:
                continue
            after = lanes[lane_of(job)].parked_after
            late = after is not None and (job.ready_at, job.sequence) > after
            alone[lane_of(job)] += late
            if late and job.spec.expires_at is not None:
                expiry = self.machine.ledger.ready.parked_expiry
                hold(Law.PARKED_EXPIRE, job.spec.expires_at >= expiry, job, "the next is waited for at", expiry)
            hold(Law.FRONT_IN_MEMORY, late is not (job_id in self.machine.ledger.jobs), job, "after", after)
        hold(Law.FRONT_IN_MEMORY, +alone == +Counter({lane: each.parked for lane, each in lanes.items()}), alone)

    def _check_forgotten(self, calm_s: float) -> None:
        now = self.now()
        if calm_s > _FORGET_S and abs(now.wall - now.steady) < _TRUSTED_S:
            oldest = now.wall - self.policy.keep_ended_s - _FORGET_S
            left = [job for job in self._shadow.jobs.values() if job.ended_at is not None and job.ended_at < oldest]
            self.laws.hold(Law.FORGOTTEN_IN_TIME, not left, left, "at", now)
