"""The whole system in one process: a broker, a dispatcher, workers and clients, and the supervisor that restarts them."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, TextIO

from stockworker.dispatcher.policy import Policy
from stockworker.protocol.ids import WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.worker.effects import Capabilities
from stockworker.worker.machine import Intervals
from tests.simulation.broker import Broker
from tests.simulation.calm import Calm
from tests.simulation.client import Client
from tests.simulation.dispatcher import DAY, Dispatcher
from tests.simulation.invariants import Law, Laws
from tests.simulation.message_checks import MessageChecks
from tests.simulation.process import Process
from tests.simulation.shadow import Facts, Shadow
from tests.simulation.worker import Worker
from tests.simulation.world import World

_CHECK_EVERY: Final = 1000
"""Steps between two checks of what is expensive to check."""

_LOOK_EVERY: Final = 50
"""Steps between two looks whether all is done."""

_RESTART_S: Final = (1.0, 5.0)
"""After a process has died by itself."""

_FREE_EVERY_S: Final = 60.0
_SETTLING_S: Final = 6 * 3600.0
"""Longest time until everything has ended, once the faults have stopped."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the fleet is made of."""

    policy: Policy
    intervals: Intervals
    capabilities: tuple[Capabilities, ...]
    clients: int


class Fleet:
    """See the module.

    Attributes:
        down: processes that are not to be restarted yet.
    """

    def __init__(self, seed: int, plan: Plan, stream: TextIO | None = None) -> None:
        self.world = World(seed, stream)
        self.plan = plan
        self.laws = Laws(self.world)
        self.facts = Facts()
        self.calm = Calm(self.world)
        self.broker = Broker(self.world)
        self.shadow = Shadow(self.laws, self.facts, self.calm, plan.policy, _soon_s(plan))
        self.checks = MessageChecks(self.laws, self.facts, self.shadow, plan.policy)
        self.dispatcher = Dispatcher(
            self.world, self.broker, self.calm, plan.policy, self.laws, self.facts, self.shadow, self.checks
        )
        self.workers = [
            self._worker(f"w{number}", WorkerId(f"w{number}"), capabilities)
            for number, capabilities in enumerate(plan.capabilities, 1)
        ]
        self.twins: list[Worker] = []
        self.clients = [
            Client(self.world, self.broker, f"c{number}", self.laws, self.facts, self.checks)
            for number in range(1, plan.clients + 1)
        ]
        self.down: set[str] = set()
        self._dice: Random = self.world.dice("fleet")
        self._supervise(self.dispatcher)
        for process in (self.dispatcher, *self.workers):
            process.boot()
        for client in self.clients:
            client.boot()

    @property
    def peers(self) -> list[Process | Client]:
        """All that connect to the broker."""
        return [self.dispatcher, *self.workers, *self.twins, *self.clients]

    def _worker(self, name: str, worker_id: WorkerId, capabilities: Capabilities) -> Worker:
        worker = Worker(
            self.world,
            self.broker,
            self.calm,
            name,
            worker_id,
            capabilities,
            self.plan.intervals,
            self.laws,
            self.facts,
            self.checks,
        )
        worker.reboots = lambda: self.power_cut(worker, self._dice.uniform(15.0, 120.0))
        self._supervise(worker)
        return worker

    # --- coming and going ---------------------------------------------------------------------------------------------

    def _supervise(self, process: Process) -> None:
        """Start a process again that has ended, as systemd does."""

        def restart(_reason: str) -> None:
            self.world.after(self._dice.uniform(*_RESTART_S), lambda: self.boot(process))

        process.died = restart

    def boot(self, process: Process) -> None:
        """Start a process, unless it runs, or is not to."""
        if not process.alive and process.name not in self.down:
            process.boot()

    def kill(self, process: Process, down_s: float, *, dark: bool = False) -> None:
        """End a process, and start it again after a while."""
        process.kill("power cut" if dark else "killed", dark=dark)
        self.down.add(process.name)

        def rise() -> None:
            self.down.discard(process.name)
            self.boot(process)

        self.world.after(down_s, rise)

    def power_cut(self, process: Process, down_s: float) -> None:
        """The machine of a process goes dark, and comes back after a while."""
        self.kill(process, down_s, dark=True)
        process.disk.power_cut(all_lost=self._dice.random() < 0.7)

    def add_twin(self, worker: Worker, stays_s: float) -> None:
        """A machine that was made from a copy of a worker's disk joins, and leaves again."""
        twin = self._worker(f"{worker.name}-twin{len(self.twins)}", worker.worker_id, worker.capabilities)
        twin.disk = worker.disk.copy()
        twin.disk.at_boundary = twin.boundary
        self.twins.append(twin)
        self.calm.begin(worker.name, twin.name)
        twin.boot()

        def end() -> None:
            self.down.add(twin.name)
            twin.kill("taken away")
            self.calm.end(worker.name, twin.name)

        self.world.after(stays_s, end)

    # --- time ---------------------------------------------------------------------------------------------------------

    def run(self, until: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Let time pass; do expensive checks only every `_CHECK_EVERY` steps."""
        checked_at = self.world.step
        while not self.world.run(until, _LOOK_EVERY):
            if self.world.step - checked_at >= _CHECK_EVERY:
                checked_at = self.world.step
                self.check()
            if enough():
                return

    def check(self, *, thoroughly: bool = False) -> None:
        self.dispatcher.check(thoroughly=thoroughly)
        for worker in (*self.workers, *self.twins):
            worker.check()
        for worker in self.workers:
            self._check_drain(worker)
        self._check_poison()

    def _check_drain(self, worker: Worker) -> None:
        known_s = self.world.now - self.shadow.drain_set_at.get(worker.worker_id, 0.0)
        if worker.alive and min(known_s, self.calm.lasts_s("dispatcher", worker.name)) > _soon_s(self.plan):
            drained = worker.worker_id in self.shadow.drained
            self.laws.hold(Law.DRAIN_REPEATED, drained is worker.drains, worker.name, "is drained:", drained)

    def _check_poison(self) -> None:
        for job_id, tokens in self.facts.taken_down.items():
            job = self.shadow.jobs.get(job_id)
            if job is None:
                continue
            # Two kinds of leases run without blame: those taken back while their assignment was under way, and those
            # lost when the dispatcher last knew that they wait.
            known = {
                token
                for token in tokens - self.shadow.excused
                if self.shadow.lives[token] == self.shadow.life[job_id]
                and self.shadow.attempts[token].outcome is not Outcome.RELEASED
            }
            self.laws.hold(Law.POISON_CONTAINED, len(known) <= job.spec.max_crashes, job, "took down", known)

    # --- the end ------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """The faults have stopped: everything comes to its end in bounded time."""
        world, hold = self.world, self.laws.hold
        world.note("fleet", "settles")
        self.dispatcher.wall_offset += 10 * DAY  # whatever anybody waits for has come
        for worker in self.workers:
            worker.refuses = False
            worker.leave(30.0)
        for client in self.clients:
            client.hurry()
        self._free_all()
        until = world.now + _SETTLING_S
        self.run(until, self.settled)
        live = {job_id: job for job_id, job in self.shadow.jobs.items() if job.state not in TERMINAL}
        hold(Law.EVERY_JOB_ENDS, not live, "these live on:", live)
        for client in self.clients:
            hold(Law.EVERY_QUESTION_ANSWERED, not client.unanswered, client.name, client.unanswered)
            hold(Law.EVERY_WAIT_ENDS_RIGHT, not client.waits, client.name, client.waits)
            for job_id, state in client.noticed.items():
                if job_id in self.facts.pruned:
                    continue
                fine = state is self.shadow.jobs[job_id].state or (
                    state is State.FAILED and job_id in self.facts.retries
                )
                hold(Law.EVERY_WAIT_ENDS_RIGHT, fine, job_id, "was reported as", state, self.shadow.jobs[job_id])
        for worker in self.workers:
            hold(Law.JOURNALS_EMPTY, not worker.noted, worker.name, worker.noted)
            ((rows,),) = worker.disk.rows("SELECT count(*) FROM lease")
            hold(Law.JOURNALS_EMPTY, not rows, worker.name, rows)
        for worker_id, worker in ((worker.worker_id, worker) for worker in self.workers):
            known = self.dispatcher.machine.roster.workers.get(worker_id)
            fine = worker.alive and self._is_back(worker)
            hold(Law.FLEET_IS_BACK, fine, worker_id, known)
        for job_id in self.facts.receipted:
            job = self.shadow.jobs.get(job_id)
            hold(Law.NOTHING_LOST, job is not None and job.state in TERMINAL, job_id, job)
        self.check(thoroughly=True)

    def _free_all(self) -> None:
        """End every pause and drain; and again, since an order may be under way still, or be repeated by its client."""
        for job_type in sorted(self.shadow.paused):
            self.clients[0].pause(job_type, paused=False)
        for worker_id in sorted(self.shadow.drained):
            self.clients[0].drain(worker_id, drained=False)
        self.world.after(_FREE_EVERY_S, self._free_all)

    def settled(self) -> bool:
        """Whether no client and no job waits for anything any more."""
        return (
            not sum(count for state, count in self.shadow.totals.items() if state not in TERMINAL)
            and not any(client.unanswered or client.waits for client in self.clients)
            and all(worker.alive and not worker.noted and not worker.leaving for worker in self.workers)
            and self.dispatcher.alive
            and self.calm.lasts_s(*(process.name for process in (self.dispatcher, *self.workers))) > 1.0
            and all(self._is_back(worker) for worker in self.workers)
        )

    def _is_back(self, worker: Worker) -> bool:
        known = self.dispatcher.machine.roster.workers.get(worker.worker_id)
        return known is not None and known.online and not self.dispatcher.machine.ledger.leases.count(known.worker_id)


def _soon_s(plan: Plan) -> float:
    """The longest time until a connected worker has sent a request, and gets again what it has not received."""
    return 2 * min(plan.intervals.poll_interval_s, plan.policy.lease_s / 3) + plan.policy.reoffer_s + 8.0
