"""`stockworker top` in a real terminal, with a real fleet: what a person sees, and what keys do."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockworker.client import Client
from stockworker.protocol.lifecycle import State
from tests.harness import command
from tests.harness.advice import follows
from tests.harness.fleet import Fleet, owned, python_handlers
from tests.harness.jobs import as_client, run_job, until_running, until_state
from tests.harness.terminal import on_terminal
from tests.harness.tmux import Tmux
from tests.harness.waiting import wait_until

WORKER = "host-1"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = {
        "worker": {"max_concurrent_jobs": 1, "poll_interval": 0.5},
        "dispatcher": {"job_defaults": {"max_attempts": 1}},
        "handlers": {
            **python_handlers("echo", "fail"),
            "shell": {"command": ["/bin/sh", "-c", 'read -r script; eval "$script"']},
        },
    }
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1, settings=settings) as fleet:
        run_job(fleet, "fail", id="broken")
        yield fleet


def top(fleet: Fleet, folder: Path, *words: str, identity: str = "operator", **options: str) -> Tmux:
    environment = {"NO_COLOR": "1", "TZ": "UTC"}
    arguments = command.arguments(fleet.config_file(identity), "top", *words)
    return Tmux(folder, arguments, environment=environment, **options)  # type: ignore[arg-type]


def drained(fleet: Fleet) -> bool:
    async def ask(client: Client) -> bool:
        return any(worker.drained for worker in (await client.stats()).workers)

    return as_client(fleet, ask, "operator")


def test_a_worker_is_drained_and_used_again_by_keys(fleet: Fleet, tmp_path: Path) -> None:
    with top(fleet, tmp_path) as screen:
        screen.await_text("workers: 1 online", f"> {WORKER}  online", owned("broken"), "jobs: ")
        screen.type("d")
        screen.await_text(f"drain worker {WORKER}? y: yes, any other key: no")
        screen.type("n")
        screen.await_text(f"did not drain {WORKER}")
        assert not drained(fleet)
        screen.type("d", "y")
        screen.await_text(f"drain {WORKER}: done", "1 drained")
        assert drained(fleet)
        screen.type("d")
        screen.await_text(f"undrain worker {WORKER}?")
        screen.type("y")
        screen.await_text(f"undrain {WORKER}: done")
        screen.await_no_text("1 drained")
        assert not drained(fleet)
        screen.type("q")
        assert screen.await_end() == (0, True)


def test_a_job_is_found_read_and_cancelled_by_keys(fleet: Fleet, tmp_path: Path) -> None:
    async def begin(client: Client) -> None:
        await client.submit("shell", text="exec sleep 600", id="endless")
        await until_running(client, "endless")

    as_client(fleet, begin)
    with top(fleet, tmp_path) as screen:
        screen.await_text(f"> {WORKER}")
        screen.type("Enter")
        screen.await_text(
            f"worker {WORKER}", "types: data_import, echo, fail, ", owned("broken")[:8], owned("endless")[:8]
        )
        screen.type("/", *"run")
        screen.await_text("show only rows with: run_")
        screen.type("Enter")
        screen.await_no_text("failed")
        screen.type("Enter")
        screen.await_text(f"job {owned('endless')}", "exec sleep 600", "attempt 1 assigned to host-1")
        screen.type("c")
        screen.await_text(f"cancel job {owned('endless')}?")
        screen.type("y")
        until_state(fleet, owned("endless"), State.CANCELLED)
        screen.await_text("cancelled")
        screen.type("C-c")
        assert screen.await_end() == (130, True)


def test_a_failed_job_is_retried_and_its_type_paused(fleet: Fleet, tmp_path: Path) -> None:
    async def paused(client: Client) -> set[str]:
        return {queue.type for queue in (await client.stats()).queues if queue.paused}

    as_client(fleet, lambda client: client.pause("fail"), "operator")
    with top(fleet, tmp_path) as screen:
        screen.await_text("fail  ", "paused")
        screen.type("Tab")
        screen.await_text(f"> {owned('broken')}")
        screen.type("r", "y")
        until_state(fleet, owned("broken"), State.QUEUED)
        screen.await_text("no failed job")
        screen.type("Tab")
        screen.await_text("> fail")
        screen.type("p", "y")
        screen.await_text("resume fail: done")
        wait_until(lambda: not as_client(fleet, paused, "operator"), "that nothing is paused")
        until_state(fleet, owned("broken"), State.FAILED)
        screen.await_text("failed")


def test_it_shows_that_the_connection_is_lost_and_back(fleet: Fleet, tmp_path: Path) -> None:
    with top(fleet, tmp_path) as screen:
        screen.await_text(f"> {WORKER}")
        fleet.broker.kill()
        screen.await_text("NO CONNECTION; shown is the state", f"> {WORKER}")
        fleet.broker.start()
        screen.await_no_text("NO CONNECTION")
        screen.await_text(f"> {WORKER}  online")
        screen.type("q")
        assert screen.await_end() == (0, True)


def test_it_follows_the_size_of_the_terminal(fleet: Fleet, tmp_path: Path) -> None:
    with top(fleet, tmp_path, term="linux") as screen:
        screen.await_text(f"> {WORKER}", "?:help")
        screen.resize(30, 10)
        screen.await_text("at least 40 x 12")
        for columns, lines in ((120, 40), (40, 12), (80, 24)):
            screen.resize(columns, lines)
            screen.await_text(f"> {WORKER}", *("q:quit",) * (columns > 40))
            assert len(screen.screen()) == lines
        assert "\x1b[3" not in "".join(screen.screen(colours=True))
        screen.type("?")
        screen.await_text("Ctrl-L", "draw the screen again")
        screen.type("Escape")
        screen.await_text(f"> {WORKER}")
        screen.type("C-l", "q")
        assert screen.await_end() == (0, True)


def test_a_client_sees_the_fleet_and_may_not_drain(fleet: Fleet, tmp_path: Path) -> None:
    with top(fleet, tmp_path, identity="client") as screen:
        screen.await_text(f"> {WORKER}")
        screen.type("d", "y")
        screen.await_text(f"drain {WORKER}: ", "refused")
        assert not drained(fleet)


def test_a_signal_restores_the_terminal(fleet: Fleet, tmp_path: Path) -> None:
    with top(fleet, tmp_path) as screen:
        screen.await_text(f"> {WORKER}")
        screen.signal(signal.SIGTERM)
        assert screen.await_end() == (143, True)


def test_one_screen_as_text(fleet: Fleet) -> None:
    lines = command.run(fleet.config_file("operator"), "top", "--once").output.splitlines()
    assert lines[0].startswith("stockworker: dispatcher ")
    assert any(line.startswith(f"> {WORKER}") for line in lines)
    shown = on_terminal(fleet.config_file("operator"), "top", "--once", environment={"NO_COLOR": "1", "LINES": "30"})
    assert len(shown.splitlines()) == 30
    assert max(map(len, shown.splitlines())) <= 80


@follows("`stockworker top --once` prints one screen as text")
def test_without_a_terminal_it_names_the_other_way(fleet: Fleet, tmp_path: Path) -> None:
    done = command.run(fleet.config_file("operator"), "top")
    assert (done.status, done.output) == (2, "")
    assert done.errors == (
        "stockworker: error: standard input and output must be a terminal; `stockworker top --once` prints one screen as text\n"
    )
    assert f"> {WORKER}" in command.run(fleet.config_file("operator"), "top", "--once").output
    for term in ("dumb", "no-such-terminal"):
        folder = tmp_path / term
        folder.mkdir()
        with top(fleet, folder, term=term) as screen:
            screen.await_text(f"the terminal '{term}' (TERM) can't move its cursor")
            assert screen.await_end() == (2, True)
