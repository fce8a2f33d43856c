"""People find jobs: short IDs, tables of 80 columns, filters, pages, orders about many jobs, the whole story of a job."""

import re
from collections.abc import Iterator

import pytest

from stockworker.client import Client
from stockworker.errors import JobAmbiguous
from stockworker.protocol.ids import JobId
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import State
from tests.harness import command
from tests.harness.advice import follows
from tests.harness.command import Finished
from tests.harness.fleet import Fleet, owned, python_handlers
from tests.harness.jobs import as_client, run_job, until_running
from tests.harness.terminal import on_terminal

WORKER = "host-1"
WAITING = ("echo-1", "echo-2", "echo-22", "other")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = {
        "worker": {"max_concurrent_jobs": 1, "poll_interval": 0.5},
        "dispatcher": {"job_defaults": {"max_attempts": 2, "backoff": 0.01}},
        "handlers": {
            **python_handlers("echo", "fail", "say", "show_progress"),
            "shell": {"command": ["/bin/sh", "-c", 'read -r script; eval "$script"']},
        },
    }
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1, settings=settings, clients=("client", "stranger")) as fleet:

        async def submit(client: Client) -> None:
            for job_id in WAITING:
                await client.submit("echo", job_id, id=job_id, tags=["on-the-moon"], unique=job_id)

        as_client(fleet, submit)
        yield fleet


def error(text: str) -> dict[str, object]:
    """A payload of `say`, which then fails with this text."""
    return {"way": "error", "text": text, "times": 1}


def run(fleet: Fleet, *words: str, identity: str = "client") -> Finished:
    return command.run(fleet.config_file(identity), *words)


def listed(fleet: Fleet, *words: str, identity: str = "client") -> list[str]:
    return [line["job_id"] for line in run(fleet, "list", *words, "--json", identity=identity).json_lines]


# --- short IDs --------------------------------------------------------------------------------------------------------


def test_every_command_accepts_the_beginning_of_an_id(fleet: Fleet) -> None:
    done, _ = run_job(fleet, "shell", text="echo 7", id="unmistakable")
    assert run(fleet, "status", "unm", "--json").json["job_id"] == done.job_id
    assert run(fleet, "why", "unm", "--json").json["job_id"] == done.job_id
    assert run(fleet, "show", "unm", "--json").json["job_id"] == done.job_id
    assert run(fleet, "result", "unm").output == "7\n"
    assert run(fleet, "result", "unm", "--wait").output == "7\n"
    assert run(fleet, "wait", "unm").output == f"{done.job_id} completed\n"
    assert listed(fleet, "--after", "unm") == [*reversed(WAITING)]
    rejected = run(fleet, "cancel", "unm")
    assert (rejected.status, rejected.errors) == (
        1,
        f"stockworker: error: job {done.job_id}: the job is already completed\n",
    )
    assert run(fleet, "retry", owned("unm"), identity="operator").status == 1


def test_an_ambiguous_beginning_lists_the_jobs_and_sends_nothing(fleet: Fleet) -> None:
    done = run(fleet, "cancel", "other", "echo-")
    assert (done.status, done.output) == (3, "")
    assert done.errors == (
        "stockworker: error: echo- is the beginning of several job IDs: echo-1, echo-2, echo-22. Add characters until one is "
        "left\n"
    )
    assert run(fleet, "status", "other", "--json").json["state"] == "queued"
    assert run(fleet, "status", "echo-2", "--json").json["job_id"] == "echo-2"  # a whole ID comes first
    assert run(fleet, "status", "echo-22", "--json").json["job_id"] == "echo-22"


def test_a_beginning_finds_no_job_of_another_client(fleet: Fleet) -> None:
    done = run(fleet, "status", "echo-22", identity="stranger")
    assert (done.status, done.output) == (3, "")
    assert run(fleet, "status", "echo-2", ":echo", identity="stranger").status == 3
    assert run(fleet, "status", "client:oth", identity="stranger").status == 77
    assert run(fleet, "status", "client:oth", "--json", identity="operator").json["job_id"] == "client:other"


def test_the_api_resolves_beginnings(fleet: Fleet) -> None:
    async def resolve(client: Client) -> list[JobId]:
        with pytest.raises(JobAmbiguous, match="echo-1, echo-2, echo-22"):
            await client.resolve(["echo"])
        return list(await client.resolve(["oth", "unknown", "echo-1", "oth"]))

    assert as_client(fleet, resolve) == ["other", "unknown", "echo-1", "other"]


# --- a terminal of 80 columns -----------------------------------------------------------------------------------------


def test_a_list_keeps_what_matters_on_a_small_terminal(fleet: Fleet) -> None:
    for _ in range(2):
        run_job(fleet, "say", error("no data for AAPL since the exchange closed, and nothing is in the store either"))
    lines = on_terminal(
        fleet.config_file("operator"), "list", "--type", "say", environment={"NO_COLOR": "1"}
    ).splitlines()
    assert {"JOB", "TYPE", "STATE", "AGE", "WORKER", "REASON"} <= {*lines[0].split()}
    assert max(map(len, lines)) <= 80
    for line in lines[1:]:
        assert re.fullmatch(r"client:[0-9a-f-]+ +\w+ +failed +\d+s .*host-1 +\w.*…", line), line
        short = line.split()[0]
        assert len(short) < len("client:") + 36
        assert run(fleet, "status", short, "--json", identity="operator").json["type"] == "say"


def test_colours_are_for_terminals_only(fleet: Fleet) -> None:
    config, words = fleet.config_file("client"), ("list", "--type", "echo")
    assert "\x1b[1mJOB" in on_terminal(config, *words)
    assert "\x1b" not in on_terminal(config, *words, environment={"NO_COLOR": "1"})
    assert "\x1b" not in on_terminal(config, *words, "--color", "never")
    assert "\x1b" not in run(fleet, *words).output
    assert "\x1b[1mJOB" in run(fleet, *words, "--color", "always").output


@pytest.mark.parametrize("words", [["stats"], ["workers"], ["check"]], ids=" ".join)
def test_no_line_is_wider_than_the_terminal(fleet: Fleet, words: list[str]) -> None:
    shown = on_terminal(fleet.config_file("operator"), *words, environment={"NO_COLOR": "1"})
    assert shown
    assert max(map(len, shown.splitlines())) <= 80


# --- filters and pages ------------------------------------------------------------------------------------------------


def test_a_filter_selects_jobs(fleet: Fleet) -> None:
    failed, _ = run_job(fleet, "say", error("no data for MSFT"), id="msft")
    done, _ = run_job(fleet, "echo", 1, id="fine")
    worker = WORKER
    assert listed(fleet, "--reason", "for msft") == [failed.job_id]
    assert listed(fleet, "--worker", worker, "--type", "echo", "--state", "completed", "--limit", "1") == [done.job_id]
    assert listed(fleet, "--worker", "nobody") == []
    assert listed(fleet, "--tag", "on-the-moon") == [*reversed(WAITING)]
    assert listed(fleet, "--unique", "echo-22") == ["echo-22"]
    assert listed(fleet, "--before", "1h") == []
    assert {"msft", "fine", *WAITING} <= {*listed(fleet, "--since", "1h")}
    assert listed(fleet, "--since", "2100-01-01T00:00:00Z") == []
    assert owned("msft") in listed(fleet, "--reason", "MSFT", identity="operator")
    assert listed(fleet, "--reason", "MSFT", identity="stranger") == []


@follows("more jobs match; the next page begins with --after …, and --limit sets its length")
def test_a_list_that_ends_early_shows_the_next_page(fleet: Fleet) -> None:
    words = ("list", "--tag", "on-the-moon", "--json")
    first = run(fleet, *words, "--limit", "3")
    assert [line["job_id"] for line in first.json_lines] == ["other", "echo-22", "echo-2"]
    assert first.errors == (
        "stockworker: more jobs match; the next page begins with --after echo-2, and --limit sets its length\n"
    )
    second = run(fleet, *words, "--limit", "3", "--after", "echo-2")
    assert ([line["job_id"] for line in second.json_lines], second.errors) == (["echo-1"], "")
    assert run(fleet, *words, "--limit", "4").errors == ""


@follows("more workers match; the next page begins with --after …, and --limit sets its length")
def test_workers_are_listed_page_by_page(fleet: Fleet) -> None:
    assert run(fleet, "drain", "absent", "--force", identity="operator").status == 0
    try:
        first = run(fleet, "workers", "--limit", "1", "--json")
        assert first.json["worker_id"] == "absent"
        assert first.errors == (
            "stockworker: more workers match; the next page begins with --after absent, and --limit sets its length\n"
        )
        second = run(fleet, "workers", "--limit", "1", "--after", "absent", "--json")
        assert (second.json["worker_id"], second.errors) == (WORKER, "")
        assert run(fleet, "workers", "--state", "drained", "--json").json["worker_id"] == "absent"
        assert run(fleet, "workers", "--state", "online", "--type", "echo", "--json").json["worker_id"] == WORKER
        assert run(fleet, "workers", "--type", "unheard-of", "--json").output == ""
    finally:
        run(fleet, "undrain", "absent", identity="operator")


def test_a_search_goes_through_many_jobs_in_pages(fleet: Fleet) -> None:
    async def search(client: Client) -> list[JobId]:
        wanted = JobFilter(State.QUEUED, limit=1)
        return [view.job_id async for view in client.search(wanted)]

    assert as_client(fleet, search) == [*reversed(WAITING)]


# --- orders about many jobs -------------------------------------------------------------------------------------------


@follows("would … … jobs; to … exactly these, use --expect … without --dry-run")
def test_selected_jobs_are_cancelled(fleet: Fleet) -> None:
    async def submit(client: Client) -> None:
        for number in range(5):
            await client.submit("echo", number, tags=["on-mars"], id=f"mars-{number}")

    as_client(fleet, submit)
    words = ("cancel", "--all", "--tag", "on-mars")
    dry = run(fleet, *words, "--dry-run")
    assert sorted(dry.output.split()) == [f"mars-{number}" for number in range(5)]
    assert dry.errors == (
        "stockworker: would cancel 5 jobs; to cancel exactly these, use --expect 5 without --dry-run\n"
    )
    wrong = run(fleet, *words, "--expect", "4")
    assert (wrong.status, wrong.output) == (2, "")
    assert wrong.errors == "stockworker: error: 5 jobs are selected, and not 4; nothing was sent\n"
    done = run(fleet, *words, "--expect", "5")
    assert (done.status, sorted(done.output.splitlines())) == (0, [f"mars-{number} cancelled" for number in range(5)])
    assert run(fleet, *words).errors == "stockworker: no jobs to cancel found\n"


def test_an_order_about_all_jobs_must_be_meant(fleet: Fleet) -> None:
    done = run(fleet, "cancel", "--all")
    assert (done.status, done.output) == (2, "")
    assert "cancel --all requires an option that selects jobs, or --expect" in done.errors
    assert run(fleet, "cancel", "other", "--type", "echo").status == 2
    assert run(fleet, "cancel", "--all", "--dry-run").output.split() == [*reversed(WAITING)]


def test_selected_failed_jobs_run_again(fleet: Fleet) -> None:
    for number in range(2):
        run_job(fleet, "say", error("once more"), id=f"again-{number}")
    done = run(fleet, "retry", "--all", "--reason", "once more", "--expect", "2", identity="operator")
    assert (done.status, sorted(done.output.splitlines())) == (
        0,
        [f"client:again-{number} reopened" for number in range(2)],
    )


# --- the story of a job -----------------------------------------------------------------------------------------------


def test_the_whole_story_of_a_failed_job(fleet: Fleet) -> None:
    job, _ = run_job(
        fleet, "fail", {"symbol": "AAPL"}, id="story", timeout_s=60, unique="k", not_before=1.7e9, expires_at=4e9
    )
    told = run(fleet, "show", job.job_id, "--json").json
    assert told["payload"] == {"symbol": "AAPL"}
    assert (told["state"], told["unique"], told["timeout_s"], told["max_attempts"]) == ("failed", "k", 60.0, 2)
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["error", "error"]
    assert all("in fail" in attempt["error"] for attempt in told["attempts"])

    text = run(fleet, "show", job.job_id).output
    assert '  "symbol": "AAPL"' in text
    assert text.count("in fail") == 2
    steps = [line[27:].strip() for line in text.partition("timeline:\n")[2].split("\n\n")[0].splitlines()]
    worker = WORKER
    assert [re.sub(r" after \d+s", "", step) for step in steps] == [
        "submitted",
        f"attempt 1 assigned to {worker}",
        "attempt 1 ended: error",
        f"attempt 2 assigned to {worker}",
        "attempt 2 ended: error",
        "failed",
    ]


def test_the_story_of_a_running_job_has_its_progress(fleet: Fleet) -> None:
    async def start(client: Client) -> JobId:
        job_id = await client.submit("show_progress", None, id="under-way")
        await until_running(client, job_id)
        return job_id

    job_id = as_client(fleet, start)
    told = run(fleet, "show", job_id, "--listen", "30s", "--json").json
    assert told["progress"] == {"fraction": 0.5, "text": "half way"}
    assert run(fleet, "cancel", job_id).status == 0
    assert run(fleet, "wait", job_id).status == 1


def test_the_story_of_a_completed_job_has_its_result(fleet: Fleet) -> None:
    job, _ = run_job(fleet, "shell", text="echo '[1, 2]'", id="told")
    assert run(fleet, "show", job.job_id, "--json").json["result"] == [1, 2]
    assert run(fleet, "show", "nothing").status == 3


# --- completion -------------------------------------------------------------------------------------------------------


def test_a_shell_gets_the_words_that_it_completes(fleet: Fleet) -> None:
    assert set(WAITING) <= set(run(fleet, "words", "jobs").output.split())
    assert owned("echo-1") in run(fleet, "words", "jobs", identity="operator").output.split()
    assert {"echo", "shell"} <= set(run(fleet, "words", "types").output.split())
    assert run(fleet, "words", "workers").output == f"{WORKER}\n"
