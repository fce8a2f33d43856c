"""The scenario of a seed: a fleet, its load, its faults, and how long it lasts."""

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Final, TextIO

from stockworker.dispatcher.policy import Allowance, JobDefaults, Policy, Prefetch, QueueLimits
from stockworker.protocol.ids import JobId, JobType, Tag, UniqueKey
from stockworker.protocol.job import Priority
from stockworker.protocol.messages import Submission
from stockworker.worker.effects import Capabilities
from stockworker.worker.machine import Intervals
from tests.simulation.executor import Behaviour
from tests.simulation.faults import Faults
from tests.simulation.fleet import Fleet, Plan
from tests.simulation.invariants import Law

TYPES: Final = (JobType("price_update"), JobType("data_import"), JobType("technical_analysis"))
GPU: Final = Tag("gpu")
_ENDS: Final = {
    "ok": 70,
    "error": 8,
    "permanent": 2,
    "crash": 4,
    "worker": 2,
    "machine": 1,
    "hangs": 4,
    "refused": 2,
}


@dataclass(frozen=True, slots=True)
class Weather:
    """How much happens. Rates are per hour.

    Attributes:
        hours: how long faults go on; what has begun then is brought to its end afterwards.
        weight: how often it is chosen.
        requests: of each client; most are submissions, of up to 8 jobs.
        poll_interval_s, lease_s: of the fleet; what is quiet is not asked often.
    """

    weight: int
    hours: float
    requests: float
    faults: float
    poll_interval_s: tuple[float, ...]
    lease_s: tuple[float, ...]


WEATHERS: Final = {
    "storm": Weather(6, 0.5, 120.0, 120.0, (1.0, 5.0), (3.0, 10.0, 30.0)),
    "rough": Weather(5, 2.0, 40.0, 30.0, (5.0, 20.0), (10.0, 30.0)),
    "fair": Weather(3, 8.0, 10.0, 6.0, (20.0, 60.0), (30.0, 120.0)),
    "quiet": Weather(1, 24.0, 2.0, 1.0, (120.0, 600.0), (300.0, 1800.0)),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run contained."""

    seed: int
    weather: str
    hours: float
    steps: int
    jobs: int
    attempts: int
    faults: Counter[str]
    checked: Counter[Law]


def run(seed: int, stream: TextIO | None = None) -> Outcome:
    """Run the scenario of `seed`.

    Raises:
        Violation: a law was broken.
    """
    try:
        return _run(seed, stream)
    except Exception as error:
        error.add_note(f"seed {seed}; replay with: python -m tests.simulation --seed {seed} --trace")
        raise


def _run(seed: int, stream: TextIO | None) -> Outcome:
    dice = Random(seed)  # noqa: S311 (that it can be foretold is its purpose)
    ((name, weather),) = dice.choices(list(WEATHERS.items()), [weather.weight for weather in WEATHERS.values()])
    fleet = Fleet(seed, _plan(dice, weather, Random(f"limits of {seed}"), Random(f"fronts of {seed}")), stream)  # noqa: S311 (as above)
    until = 3600.0 * weather.hours
    Faults(fleet, weather.faults * dice.choice((0.0, 0.3, 1.0, 2.0)), until)
    for number in range(len(fleet.clients)):
        Load(fleet, number, weather.requests, until)
    fleet.run(until)
    fleet.settle()
    return Outcome(
        seed,
        name,
        fleet.world.now / 3600.0,
        fleet.world.step,
        fleet.shadow.stored,
        len(fleet.shadow.attempts),
        fleet.facts.faults,
        fleet.laws.checked,
    )


def _plan(dice: Random, weather: Weather, limits: Random, fronts: Random) -> Plan:
    lease_s = dice.choice(weather.lease_s)
    policy = Policy(
        lease_s=lease_s,
        max_wait_s=dice.choice((30.0, 300.0, 900.0)),
        worker_timeout_s=dice.choice((60.0, 90.0)),
        keep_ended_s=dice.choice((600.0, 7 * 86_400.0)),
        forget_worker_s=dice.choice((600.0, 86_400.0)),
        defaults=JobDefaults(
            timeout_s=dice.choice((60.0, 600.0)),
            max_attempts=dice.choice((1, 3)),
            backoff_s=dice.choice((0.5, 5.0)),
            max_crashes=dice.choice((1, 3)),
        ),
        queue=QueueLimits(jobs=fronts.choice((0, 8, 32_768)), front=fronts.choice((1, 2, 5))),
        workers={"*": Allowance(slots=limits.choice((1, 2, 64)))},
        notice_result_bytes=limits.choice((0, 4096)),
        timeout_grace_s=limits.choice((10.0, 300.0)),
        prefetch={TYPES[0]: Prefetch(dice.choice((1, 8, 64)), lease_s)} if dice.random() < 0.3 else {},
    )
    capabilities = [Capabilities(dice.choice((1, 1, 2, 4, 8)), TYPES, (GPU,))]  # one of them can run everything
    for _ in range(dice.randint(0, 4)):
        types = tuple(sorted(dice.sample(TYPES, dice.randint(1, 3))))
        capabilities.append(Capabilities(dice.choice((1, 2, 4)), types, (GPU,) if dice.random() < 0.3 else ()))
    intervals = Intervals(dice.choice(weather.poll_interval_s), dice.choice((30.0, 60.0)))
    return Plan(policy, intervals, tuple(capabilities), clients=dice.randint(1, 3))


class Load:
    """What the user of one client wants."""

    def __init__(self, fleet: Fleet, number: int, per_hour: float, until: float) -> None:
        self._fleet = fleet
        self._world = fleet.world
        self._client = fleet.clients[number]
        self._dice = fleet.world.dice(f"load {number}")
        self._per_hour = per_hour
        self._until = until
        self._wish_later()

    def _wish_later(self) -> None:
        delay_s = self._dice.expovariate(self._per_hour / 3600.0)
        self._world.after(delay_s, self._wish)

    def _wish(self) -> None:
        if self._world.now >= self._until:
            return
        dice, client, known = self._dice, self._client, self._client.known
        wish = dice.random()
        if wish < 0.7 or not known:
            self._submit()
        elif wish < 0.77:
            client.cancel(dice.choice(known[-20:]))
        elif wish < 0.82:
            client.retry(dice.choice(known[-20:]))
        elif wish < 0.83:
            client.retry_all()
        elif wish < 0.90:
            client.query(tuple(dict.fromkeys(dice.choices(known[-50:], k=5))))
        elif wish < 0.92:
            client.list()
        elif wish < 0.94:
            client.stats()
        elif wish < 0.97:
            self._hold()
        elif wish < 0.98:
            client.submit_bare(self._job(None, dice.choice(TYPES), Priority.NORMAL))
        else:
            someone = dice.choice(self._fleet.clients)
            if someone.known:
                again = dice.choice(someone.known)
                client.submit((self._job(again, dice.choice(TYPES), Priority.HIGH),))
                client.cancel(again)
        self._wish_later()

    def _hold(self) -> None:
        """Pause a type or drain a worker, and end that later."""
        dice, client = self._dice, self._client
        of_type = dice.choice((True, False))
        job_type, worker_id = dice.choice(TYPES), dice.choice(self._fleet.workers).worker_id

        def set_to(*, on: bool) -> None:
            if of_type:
                client.pause(job_type, paused=on)
            else:
                client.drain(worker_id, drained=on)

        set_to(on=True)
        length_s = min(dice.uniform(5.0, 600.0), self._until - self._world.now)
        self._world.after(length_s, lambda: set_to(on=False))

    def _submit(self) -> None:
        dice, client = self._dice, self._client
        job_type, priority = dice.choice(TYPES), dice.choice(list(Priority))
        many = dice.choice((1, 1, 1, 3, 8))
        client.submit(tuple(self._job(client.new_id(), job_type, priority) for _ in range(many)))

    def _job(self, job_id: JobId | None, job_type: JobType, priority: Priority) -> Submission:
        dice, wall = self._dice, self._fleet.dispatcher.wall
        ends = dice.choices(list(_ENDS), list(_ENDS.values()))[0]
        lease_s = self._fleet.plan.policy.lease_s
        ran_s = dice.choice((0.001, 0.05, 0.5, 2.0, 10.0, 40.0, min(3 * lease_s, 500.0)))
        behaviour = Behaviour(
            round(ran_s * dice.uniform(0.2, 1.0), 4), ends, dice.choice((1, 2, 1000)), deaf=dice.random() < 0.1
        )
        return Submission(
            job_id=job_id,
            type=job_type,
            priority=priority,
            payload=behaviour.payload(),
            not_before=wall + dice.uniform(-5.0, 600.0) if dice.random() < 0.1 else None,
            expires_at=wall + dice.uniform(5.0, 900.0) if dice.random() < 0.1 else None,
            timeout_s=dice.choice((None, None, 5.0, 50.0)),
            max_attempts=dice.choice((None, None, 1, 2)),
            max_crashes=dice.choice((None, None, 1, 2)),
            unique=UniqueKey(f"key-{dice.randint(1, 3)}") if dice.random() < 0.1 else None,
            tags=frozenset({GPU}) if dice.random() < 0.1 else frozenset(),
        )
