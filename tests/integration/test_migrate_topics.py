"""Jobs move from the topics of an old worker to a real dispatcher, with kills."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import command
from tests.harness.advice import follows
from tests.harness.fleet import Fleet
from tests.harness.old_queues import OldJob, numbered
from tests.harness.old_topics import TOPIC_QUEUES, TopicQueue, session_queue
from tests.harness.waiting import wait_until

COUNT = 300


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """No worker runs, so that jobs stay as they were submitted."""
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=0) as fleet:
        yield fleet


def program(fleet: Fleet, queue: TopicQueue, folder: Path, *words: str) -> list[str]:
    shared = ("migrate", queue.url, *queue.options, "--report", str(folder / "report.jsonl"))
    return command.arguments(fleet.config_file("client"), *shared, *words)


def stored(fleet: Fleet, kind: str) -> list[int]:
    rows = fleet.stored("SELECT body FROM payload JOIN job USING (sequence) WHERE type = ?", kind)
    return sorted(json.loads(body)["number"] for (body,) in rows)


@pytest.mark.parametrize("kind", TOPIC_QUEUES)
def test_jobs_of_old_topics_move_once_and_bad_ones_stay(kind: str, fleet: Fleet, tmp_path: Path) -> None:
    """Killed twice, with receipts that had no consequence at the old broker: the next run submits the same jobs."""
    bad = [OldJob(COUNT + 1, kind, b"{broken"), OldJob(COUNT + 2, kind, json.dumps("x" * 300_000).encode())]
    with TOPIC_QUEUES[kind](tmp_path) as queue:
        queue.add([*numbered(range(COUNT), type=kind), *bad])
        for goal in (1, COUNT // 2):
            with subprocess.Popen(program(fleet, queue, tmp_path, "--rate", "100", "--quiet")) as process:
                wait_until(lambda: len(stored(fleet, kind)) >= goal, "jobs arrive")  # noqa: B023
                process.send_signal(signal.SIGKILL)
        done = subprocess.run(program(fleet, queue, tmp_path), check=False, capture_output=True, text=True)
        again = subprocess.run(program(fleet, queue, tmp_path), check=False, capture_output=True, text=True)
        left = [each.packet.body for each in queue.there()]

    assert (done.returncode, again.returncode) == (1, 1), done.stderr
    assert again.stdout == "0 jobs moved (0 of them were known), 2 refused, 0 rejected\n"
    assert stored(fleet, kind) == list(range(COUNT))
    assert len(left) == len(bad)
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    refused = {line["record"].partition("#")[0] for line in lines if line["result"] == "refused"}
    topics = {f"jobs/queue/normal/{kind}{f'/{job.number}' if queue.retained else ''}" for job in bad}
    assert refused == topics


def test_two_copies_of_a_job_are_one(fleet: Fleet, tmp_path: Path) -> None:
    with session_queue(tmp_path) as queue:
        queue.add(numbered([1, 1, 2], type="copies"))
        done = subprocess.run(program(fleet, queue, tmp_path), check=False, capture_output=True, text=True)
        left = queue.there()
    assert done.stdout == "3 jobs moved (1 of them were known), 0 refused, 0 rejected\n"
    assert (stored(fleet, "copies"), left) == ([1, 2], [])


@follows(
    "…: … has no retained messages. Name other topics after the address, such as ?topic=jobs/%23. Messages of a session are not "
    "visible before they move: for those, begin with --preset mqtt"
)
def test_a_look_at_a_session_explains_what_is_not_visible(fleet: Fleet, tmp_path: Path) -> None:
    with session_queue(tmp_path) as queue:
        inspected = command.run(fleet.config_file("client"), "migrate", queue.url, "--inspect")
        queue.add(numbered([1, 2], type="looked-at"))
        shown = subprocess.run(
            program(fleet, queue, tmp_path, "--dry-run"), check=False, capture_output=True, text=True
        )
        subprocess.run(program(fleet, queue, tmp_path), check=True)
        verified = subprocess.run(
            program(fleet, queue, tmp_path, "--verify"), check=False, capture_output=True, text=True
        )
        back = subprocess.run(program(fleet, queue, tmp_path, "--back"), check=False, capture_output=True, text=True)
    assert "visible before they move: for those, begin with --preset mqtt" in inspected.errors
    assert "those of the session old-worker-1 are not visible before they move" in shown.stderr
    assert verified.stdout.splitlines()[1] == "dispatcher: 2 moved jobs: 2 queued, 0 unknown"
    assert verified.returncode == 0
    assert (
        "--back needs records that stay in the old queue; RabbitMQ, MQTT and `moved: delete` keep none" in back.stderr
    )
