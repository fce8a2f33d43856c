"""A handler is hostile or broken: its texts and its frames harm its own attempt, and neither its worker nor other jobs."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from stockworker.client import Client, Completion, make_submission
from stockworker.protocol.body import MAX_TEXT
from stockworker.protocol.lifecycle import State
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.jobs import as_client, end_of, until_running
from tests.harness.peer import Peer, connected
from tests.harness.waiting import TIMEOUT_S

TEXTS: Final = {
    "a lone surrogate": ("x\\ud800", 1),
    "the half of a file name": ("\\udcff", 1),
    "NUL": ("\\u0000", 1),
    "terminal escapes": ("\\u001b[2J\\u009b2J\\u202e\\u2028", 1),
    "a new line of the log": ('\\n<2>{\\"event\\": \\"forged\\"}\\r', 1),
    "a MiB": ("\\u20ac", 1 << 20),
    "a MiB of surrogates": ("\\ud800", 1 << 20),
}
"""As JSON spells them, and how often in a row."""

WAYS: Final = ("progress", "result", "error", "permanent error", "log", "log level", "output", "name")

Line = list[Any]
"""How many such lines to write into the channel, and pieces of the line, each with how often in a row."""


def line(*pieces: str, times: int = 1, of_each: int = 1) -> Line:
    return [times, *([piece, of_each if len(piece) == 1 else 1] for piece in pieces)]


FORGED: Final = {
    "another outcome": line('["ended","TOKEN","fine","1",null,false,0,true]'),
    "an outcome of the worker": line('["ended","TOKEN","released",null,"",false,0,true]'),
    "a lost lease": line('["ended","TOKEN","lost",null,"",false,0,true]'),
    "a result of another type": line('["ended","TOKEN","ok",{"a":[]},null,false,0,true]'),
    "a result with a surrogate": line('["ended","TOKEN","ok","\\ud800",null,false,0,true]'),
    "a large result": line('["ended","TOKEN","ok","', "x", '",null,false,0,true]', of_each=300_000),
    "an error with a surrogate": line('["ended","TOKEN","error",null,"\\ud800",false,0,true]'),
    "a long error": line('["ended","TOKEN","error",null,"', "x", '",false,0,true]', of_each=MAX_TEXT + 1),
    "NaN": line('["progress","TOKEN",NaN,""]'),
    "infinity": line('["progress","TOKEN",1e999,""]'),
    "progress beyond the end": line('["progress","TOKEN",2,""]'),
    "progress with a surrogate": line('["progress","TOKEN",0.5,"\\ud800"]'),
    "progress without a text": line('["progress","TOKEN",0.5,null]'),
    "a log level": line('["log","TOKEN","high","text"]'),
    "a large log level": line('["log","TOKEN",1', "0", ',"text"]', of_each=30),
    "a log with a surrogate": line('["log","TOKEN",20,"\\ud800"]'),
    "a list as a token": line('["log",[],20,"text"]'),
    "no list": line('{"ended":"TOKEN"}'),
    "no JSON": line("printed"),
    "deep nesting": line("[", of_each=100_000),
    "a large number": line("9", of_each=100_000),
    "a line without an end": line("x", of_each=2 << 20),
}

PRINTED: Final = {
    "printf '\\355\\240\\200'": (State.FAILED, "standard output is not a result: not UTF-8"),
    "printf '\"\\\\ud800\\\\u0000\"'": (State.COMPLETED, None),
    "printf '\\355\\240\\200\\000\\033[2J\\302\\233' >&2; exit 1": (State.FAILED, "exit code 1"),
    "head -c 1048576 /dev/zero >&2; exit 1": (State.FAILED, "exit code 1"),
    "head -c 1048576 /dev/zero": (State.FAILED, "the result is larger than"),
    "printf 'NaN'": (State.FAILED, "standard output is not a result"),
    "printf '{\"a\": [1e999]}'": (State.FAILED, "it result['a'][0] is inf, and JSON has no such number"),
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = {
        "worker": {"max_concurrent_jobs": 4},
        "handlers": {
            **python_handlers("echo", "say", "forge", "wait_for_file"),
            "shell": {"command": ["/bin/sh", "-c", 'read -r script; eval "$script"']},
        },
    }
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1, settings=settings) as fleet:
        yield fleet


def run_beside_a_neighbour(fleet: Fleet, jobs: Mapping[str, tuple[str, str]], tmp_path: Path) -> dict[str, Completion]:
    """Run jobs, each a type and a payload, while another job runs on the same worker; check that neither is harmed.

    Returns:
        How each of them ended, by the same keys.
    """
    (worker,) = fleet.workers
    pid, go = worker.pid, tmp_path / "go"

    async def run(client: Client) -> dict[str, Completion]:
        neighbour = await client.submit("wait_for_file", str(go), max_attempts=1, max_crashes=1)
        await until_running(client, neighbour)
        names = {f"job-{tmp_path.name}-{number}": name for number, name in enumerate(jobs)}
        await client.submit_many(
            make_submission(job_type, text=payload, id=job_id, max_attempts=1, max_crashes=1)
            for job_id, (job_type, payload) in zip(names, jobs.values(), strict=True)
        )
        ended = {names[each.job_id]: each async for each in client.wait(names, TIMEOUT_S)}
        go.touch()
        assert (await end_of(client, neighbour)).state is State.COMPLETED
        assert await client.result(await client.submit("echo", "good"), TIMEOUT_S)
        return ended

    ended = as_client(fleet, run)
    assert worker.pid == pid
    assert worker.alive
    assert worker.events("fault") == worker.events("message_unsendable") == []
    return ended


@pytest.mark.parametrize("way", WAYS)
def test_no_text_of_a_handler_ends_its_worker(fleet: Fleet, tmp_path: Path, way: str) -> None:
    jobs = {
        name: ("say", f'{{"way": "{way}", "text": "{text}", "times": {times}}}')
        for name, (text, times) in TEXTS.items()
    }
    ended = run_beside_a_neighbour(fleet, jobs, tmp_path)

    for name, each in ended.items():
        fails = way in {"error", "permanent error", "name"} or (
            way == "result" and ("surrogate" in name or "file name" in name or "MiB" in name)
        )
        assert each.state is (State.FAILED if fails else State.COMPLETED), (name, each)
        assert len(each.reason or "") <= MAX_TEXT
    assert not fleet.workers[0].events("forged"), "no text is a line of its own"


def test_no_frame_of_a_handler_ends_its_worker(fleet: Fleet, tmp_path: Path) -> None:
    jobs = {name: ("forge", json.dumps([forged])) for name, forged in FORGED.items()}
    ended = run_beside_a_neighbour(fleet, jobs, tmp_path)

    for name, each in ended.items():
        assert each.state is State.FAILED, name
        assert "the handler wrote into the channel between its process and the worker" in (each.reason or ""), name


def test_frames_of_other_attempts_have_no_effect(fleet: Fleet, tmp_path: Path) -> None:
    """A handler that guesses tokens can't end other jobs, and can't report twice."""
    foreign = [line(f'["ended","{token:016x}","ok","1",null,false,0,true]') for token in range(50)]
    own = [line(f'["ended","TOKEN","ok","{number}",null,false,0,false]') for number in (1, 2)]
    ended = run_beside_a_neighbour(fleet, {"guesses": ("forge", json.dumps([*foreign, *own]))}, tmp_path)
    assert ended["guesses"].result == "1"


def test_a_flood_of_frames_is_bounded(fleet: Fleet, tmp_path: Path) -> None:
    """The log and the messages of one attempt do not grow with what its handler sends."""
    flood = [
        line(f'["{kind}","TOKEN",{number},"flood"]', times=5000) for kind, number in (("progress", 1), ("log", 20))
    ]
    end = line('["ended","TOKEN","ok","1",null,false,0,false]')

    async def watch() -> int:
        operator = Peer(fleet.broker, "operator", ("jobs/progress/#",))
        async with connected([operator]):
            await asyncio.to_thread(
                run_beside_a_neighbour, fleet, {"floods": ("forge", json.dumps([*flood, end]))}, tmp_path
            )
        return len(operator.received)

    shown = asyncio.run(watch())
    logged = [each for each in fleet.workers[0].events("handler_log") if each["message"] == "flood"]
    assert 1 <= shown <= 100
    assert 1 <= len(logged) <= 1000


def test_no_output_of_a_command_ends_its_worker(fleet: Fleet, tmp_path: Path) -> None:
    jobs = {script: ("shell", script + "\n") for script in PRINTED}
    ended = run_beside_a_neighbour(fleet, jobs, tmp_path)

    for script, (state, reason) in PRINTED.items():
        assert ended[script].state is state, ended[script]
        assert (reason or "") in (ended[script].reason or "")
