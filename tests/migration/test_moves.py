"""Jobs move from each kind of old queue while the migrator and the dispatcher are killed ten times.

Too long for `make test`: `make test-migration` moves 3,000 jobs, and `make test-migration-full` 20,000. A kind of old queue in
`tests/harness/old_queues.py` is here without more. Old workers share a queue with the migration, but not MQTT topics: these
have only producers beside it.
"""

import itertools
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from stockworker.adapters import clock
from stockworker.migration.source import Standing
from tests.harness import command
from tests.harness.fleet import Fleet
from tests.harness.old_queues import OLD_QUEUES, OldJob, OldQueue, numbered, opened
from tests.harness.old_topics import TOPIC_QUEUES, TopicQueue
from tests.harness.waiting import wait_until

KILLS: Final = 10
ADDED: Final = 50
TAKEN: Final = 0.2
PRIORITIES: Final = ("high", "normal", "low")
DELAY_S: Final = 7 * 86_400


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """No worker runs, so that jobs stay as they were submitted. A table that is created again has the same IDs again."""
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=0) as fleet:
        yield fleet


KINDS: Final[dict[str, Callable[[Path], AbstractContextManager[OldQueue]]]] = {**OLD_QUEUES, **TOPIC_QUEUES}


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    """How many jobs each old queue has: `--jobs`."""
    jobs: int = request.config.getoption("--jobs")
    return jobs


# One process runs all tests of a kind, so that each server of old queues starts once.
@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in KINDS])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OldQueue]:
    with KINDS[request.param](tmp_path) as queue:
        yield queue


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.node.callspec.params["queue"]
    return f"{request.node.originalname.removeprefix('test_')[:20]}-{name}"


def program(fleet: Fleet, queue: OldQueue, report: Path, *words: str) -> list[str]:
    shared = ("migrate", queue.url, *queue.options, "--report", str(report))
    return command.arguments(fleet.config_file("client"), *shared, *words)


@contextmanager
def running(arguments: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command, killed at the end if it still runs."""
    with (folder / "migrate.log").open("ab") as log, subprocess.Popen(arguments, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: "subprocess.Popen[bytes]", condition: Callable[[], bool], what: str, folder: Path) -> None:
    """Wait for a condition while the command runs."""
    wait_until(lambda: condition() or process.poll() is not None, what, 120)
    assert process.poll() is None, f"{process.returncode}: {(folder / 'migrate.log').read_text()}"


def stored(fleet: Fleet) -> int:
    """The jobs of the store, none of which it has deleted: a count would read all of them at each look."""
    ((newest,),) = fleet.stored("SELECT coalesce(max(sequence), 0) FROM job")
    return int(newest)


def bad_jobs(kind: str, first: int) -> list[OldJob]:
    """Malformed, not UTF-8, and larger than a message can be."""
    numbers = itertools.count(first)
    payloads = [b"{malformed"] * 20 + [b'"\xff\xfe"'] * 10 + [json.dumps("x" * 300_000).encode()] * 3
    return [OldJob(next(numbers), f"{kind}-a", payload) for payload in payloads]


def good_jobs(kind: str, count: int, later: int) -> list[OldJob]:
    """Mixed types, priorities, attempts and delays."""
    return [
        replace(
            job,
            type=f"{kind}-{'abc'[job.number % 3]}",
            priority=PRIORITIES[job.number // 3 % 3],
            attempts=job.number % 3,
            scheduled_at=later if job.number % 10 == 0 else None,
        )
        for job in numbered(range(1, count + 1))
    ]


def expected(job: OldJob) -> tuple[object, ...]:
    delay = None if job.scheduled_at is None else float(job.scheduled_at)
    return job.number, job.type, PRIORITIES.index(job.priority), delay


def interrupt(fleet: Fleet, arguments: list[str], folder: Path, count: int) -> None:
    """Kill the migrator and the dispatcher in turn, each time when some more jobs have arrived."""
    step = count // (KILLS + 4)  # some are left after the last kill
    for kill in range(KILLS):
        with running(arguments, folder) as process:
            goal = (kill + 1) * step
            until(process, lambda: stored(fleet) >= goal, "jobs arrive", folder)  # noqa: B023
            if kill % 2 == 0:
                fleet.dispatcher.kill()
                fleet.dispatcher.start()
                goal += step // 2
                until(process, lambda: stored(fleet) >= goal, "jobs arrive at the next dispatcher", folder)  # noqa: B023
            process.kill()


@pytest.mark.timeout(600)
def test_kills_lose_and_double_nothing(fleet: Fleet, queue: OldQueue, kind: str, count: int, tmp_path: Path) -> None:
    good, bad = good_jobs(kind, count, int(clock.wall()) + DELAY_S), bad_jobs(kind, count + 1)
    queue.add([*good[: count // 2], *bad, *good[count // 2 :]])
    report = tmp_path / "report.jsonl"
    arguments = program(fleet, queue, report)

    interrupt(fleet, arguments, tmp_path, count)
    done = subprocess.run(arguments, check=False, capture_output=True, text=True)

    assert done.returncode == 1, done.stderr  # there are bad ones
    rows = fleet.stored(
        "SELECT body, type, priority, not_before, max_attempts FROM job JOIN payload USING (sequence) WHERE type LIKE ?",
        f"{kind}-%",
    )
    arrived = {json.loads(body)["number"]: (body, *rest) for body, *rest in rows}
    assert len(rows) == len(arrived) == count
    approximately = 2.0 if queue.mapping.kind == "queue" else 0.0  # a message has its delay, not its time
    for job in good:
        body, name, priority, not_before, attempts = arrived[job.number]
        assert (json.loads(body)["number"], name, priority) == expected(job)[:3]
        assert (not_before is None) == (job.scheduled_at is None)
        assert not_before is None or abs(not_before - (job.scheduled_at or 0)) <= approximately
        assert attempts == 3 - job.attempts
    refused = [line for line in map(json.loads, report.read_text().splitlines()) if line["result"] == "refused"]
    assert len({line["record"] for line in refused}) == len(bad)
    assert waiting_count(queue) == len(bad)
    verified = subprocess.run([*arguments, "--verify"], check=False, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stderr


def waiting_count(queue: OldQueue) -> int:
    """How many records the old queue has; a malformed one may have no number that can be read."""
    with opened(queue) as source:
        return source.counts()[Standing.PENDING]


@pytest.mark.timeout(600)
def test_the_bridge_shares_jobs_with_old_workers(
    fleet: Fleet, queue: OldQueue, kind: str, count: int, tmp_path: Path
) -> None:
    arguments = program(fleet, queue, tmp_path / "report.jsonl", "--follow", "--interval", "50ms")
    taken: list[int] = []
    share = 0 if isinstance(queue, TopicQueue) else TAKEN
    bridged = count // 10
    numbers = iter(range(bridged))
    while chunk := list(itertools.islice(numbers, bridged // 4)):
        with running(arguments, tmp_path) as bridge:
            before = stored(fleet)
            for start in range(0, len(chunk), ADDED):
                added = chunk[start : start + ADDED]
                queue.add(replace(job, type=f"{kind}-a") for job in numbered(added))
                takes = int(share * len(added))
                taken += [number for number in (queue.take() for _ in range(takes)) if number is not None]
            until(bridge, lambda: stored(fleet) > before, "the bridge moves jobs", tmp_path)  # noqa: B023
            bridge.send_signal(signal.SIGKILL)
    with running(arguments, tmp_path) as bridge:
        queue.add([replace(job, type=f"{kind}-a") for job in numbered([bridged])])
        until(bridge, lambda: stored(fleet) + len(taken) > bridged, "each job has an owner", tmp_path)
        bridge.send_signal(signal.SIGTERM)
        assert bridge.wait(30) == 0

    rows = fleet.stored("SELECT body FROM job JOIN payload USING (sequence) WHERE type LIKE ?", f"{kind}-%")
    moved = [json.loads(body)["number"] for (body,) in rows]
    assert sorted([*moved, *taken]) == list(range(bridged + 1))


def test_the_proposed_mapping_moves_jobs_that_can_return(
    fleet: Fleet, queue: OldQueue, kind: str, tmp_path: Path
) -> None:
    queue.add(replace(job, type=f"{kind}-a") for job in numbered(range(1, 101)))
    config, report = fleet.config_file("operator"), ("--report", str(tmp_path / "report.jsonl"))
    named = f"{queue.url}?queue={queue.mapping.containers[0]}" if queue.mapping.kind == "queue" else queue.url
    visible = "session=" not in queue.url
    proposed = command.run(config, "migrate", named, "--inspect")
    file = tmp_path / "proposed.yml"
    file.write_text(proposed.output if visible else "migration: {preset: mqtt}\n")
    described = ("migrate", queue.url, "--mapping", str(file), *report)

    assert (proposed.status == 0) == visible, proposed.errors
    shown = command.run(config, *described, "--dry-run")
    assert f"{100 if visible else 0} jobs can be moved, 0 can't" in shown.errors, shown.errors
    assert command.run(config, *described).output.startswith("100 jobs moved (0 of them were known), 0 refused")
    assert command.run(config, *described, "--verify").status == 0
    back = command.run(config, *described, "--back")
    if queue.keeps_moved:
        assert back.output == "100 jobs returned to the old queue\n"
        assert sorted(queue.waiting()) == list(range(1, 101))
        assert command.run(config, *described).output.startswith("100 jobs moved (0 of them were known), 0 refused")
    else:
        assert "--back needs records that stay in the old queue" in back.errors
    assert stored(fleet) == (200 if queue.keeps_moved else 100)  # the first life of each job is cancelled
