"""Sealed jobs in a real fleet: broker and dispatcher can't read them, and every other form is refused."""

import asyncio
import itertools
import json
import shutil
import signal
import sqlite3
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from stockworker.adapters import clock
from stockworker.client import Client, Completion, make_submission
from stockworker.errors import JobRejected, ResultRefused
from stockworker.protocol.ids import JobId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Progress, ReceiptStatus, Submission
from stockworker.protocol.views import Explanation
from stockworker.sealing.envelope import encode_bytes
from stockworker.sealing.keyring import Holder
from tests.harness import command
from tests.harness.fleet import Fleet, owned, python_handlers
from tests.harness.fleet_keys import FleetKeys
from tests.harness.jobs import as_client, end_of, until_running
from tests.harness.tools import Watcher
from tests.harness.waiting import until

PLANTED = "PLANTED-d41d8cd98f00b204"
OPEN = "IN-THE-OPEN-e9800998ecf8"
TYPES = ("echo", "fail", "length", "report_progress", "talk", "wait_for_file", "shell")
_numbers = itertools.count(1)


def new_id() -> str:
    return f"job-{next(_numbers)}"


@pytest.fixture(scope="module")
def fleet_keys(tmp_path_factory: pytest.TempPathFactory) -> FleetKeys:
    groups = {"prices": (TYPES, ("host-1", "host-2")), "empty": (("pid",), ()), "one": (("nothing",), ("host-2",))}
    return FleetKeys(tmp_path_factory.mktemp("keys") / "fleet_keys", groups, ("client", "stranger"))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, fleet_keys: FleetKeys) -> Iterator[Fleet]:
    handlers = {
        **python_handlers(*TYPES[:-1], "pid", "nothing"),
        "shell": {"command": ["/bin/sh", "-c", 'read -r script; eval "$script"']},
    }
    settings = {
        "worker": {"poll_interval": 0.5},
        "dispatcher": {"job_defaults": {"max_attempts": 1}},
        "handlers": handlers,
    }
    folder = tmp_path_factory.mktemp("fleet")
    clients = ("client", "stranger", "bare")
    with Fleet(folder, settings=settings, personal=fleet_keys.settings, clients=clients) as fleet:
        yield fleet


# --- confidentiality ---------------------------------------------------------------------------------------------------


def spellings(planted: str) -> list[bytes]:
    """A secret as plain text, in hexadecimal, and in base64 at each of the three alignments."""
    shifted = (b64encode(b"\0" * shift + planted.encode())[4:-4] for shift in range(3))
    return [planted.encode(), planted.encode().hex().encode(), *shifted]


def holders(folder: Path, planted: str) -> set[str]:
    """The files that contain a secret."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.name for file in files if any(spelling in file.read_bytes() for spelling in spellings(planted))}


def test_broker_and_dispatcher_cannot_read_a_payload_or_a_result(fleet: Fleet, tmp_path: Path) -> None:
    """A plain job, which the workers refuse, proves that the search finds a secret."""
    gate = tmp_path / f"{PLANTED}-gate"
    names = ("dispatcher", "operator", "host-1", "host-2")
    with ExitStack() as stack:
        watchers = [stack.enter_context(Watcher(fleet.broker, name, "#")) for name in names]

        async def act(client: Client) -> Completion:
            await client.submit("wait_for_file", str(gate), id="gated")
            await until_running(client, "gated")
            for source in (fleet.folder / "host-1", fleet.folder / "host-2", fleet.folder / "dispatcher"):
                shutil.copytree(source, tmp_path / "while-it-runs" / source.name)
            gate.touch()
            await end_of(client, "gated")
            return await end_of(client, await client.submit("echo", {"secret": PLANTED}, id="planted"))

        ended = as_client(fleet, act)
        open_job = as_client(
            fleet, lambda client: submit_and_wait(client, make_submission("echo", OPEN, id="open")), "bare"
        )
        watchers[1].wait_for("jobs/completed/client:planted", "jobs/failed/bare:open")
        traffic = "\n".join(line for watcher in watchers for line in watcher.lines)
    fleet.broker.stop()  # writes its persistence
    fleet.broker.start()

    assert json.loads(ended.result or "")["payload"] == {"secret": PLANTED}
    assert "not sealed" in (open_job.reason or "")
    for kind in ("queue/normal/echo", "assign/host-", "report/host-", "completed/client:planted"):
        assert f"jobs/{kind}" in traffic
    assert '"sealed.2.' in traffic
    assert OPEN in traffic
    assert all(spelling.decode() not in traffic for spelling in spellings(PLANTED))
    logs = {f"{service.name}.log" for service in (fleet.dispatcher, *fleet.workers)}
    assert holders(fleet.folder, OPEN) - logs
    assert holders(fleet.folder, PLANTED) == set()
    assert holders(tmp_path / "while-it-runs", PLANTED) == set()
    assert holders(tmp_path / "while-it-runs", "sealed.2.") >= {"jobs.sqlite3-wal"}


async def submit_and_wait(client: Client, submission: Submission) -> Completion:
    (entry,) = await client.submit_many([submission])
    assert entry.status is ReceiptStatus.STORED
    return await end_of(client, str(submission.job_id))


def test_an_error_text_reaches_only_its_submitter(fleet: Fleet) -> None:
    async def act(client: Client) -> tuple[Completion, str, Explanation]:
        ended = await end_of(client, await client.submit("fail", id="fails"))
        (view,) = await client.query(["fails"])
        return ended, view.reason or "", await client.explain("fails")

    ended, reason, story = as_client(fleet, act)
    _, others, _ = as_client(fleet, lambda client: look(client, owned("fails")), "operator")

    assert ended.state is State.FAILED
    assert (ended.reason or "").startswith("ValueError: no such ticker")
    assert reason == ended.reason
    assert "no such ticker" in story.why[0]
    assert "no such ticker" in (story.attempts[0].error or "")
    assert others.startswith("(sealed for its submitter)")
    assert "no such ticker" not in repr(fleet.stored("SELECT reason FROM job UNION SELECT error FROM attempt"))
    assert "no such ticker" not in fleet.dispatcher.log
    logged = fleet.dispatcher.await_event("job_failed", job=owned("fails"))["reason"]
    noted = [
        event["reason"]
        for worker in fleet.workers
        for event in worker.events("attempt_failed")
        if event["job"] == owned("fails")
    ]
    assert [logged, *noted] == ["(sealed for its submitter) (attempt 1 of 1)", "(sealed for its submitter)"]


async def look(client: Client, job_id: str) -> tuple[str, str, str | None]:
    (view,) = await client.query([job_id], with_results=True)
    return view.state, view.reason or "", view.result


def test_an_output_reaches_only_its_submitter(fleet: Fleet) -> None:
    job_id = new_id()

    async def act(client: Client) -> None:
        await end_of(client, await client.submit("talk", {"secret": f"{PLANTED}-output"}, id=job_id))

    as_client(fleet, act)
    shown = command.run(fleet.config_file("client"), "logs", job_id)
    assert f"WARNING logs in attempt 1: {PLANTED}-output\n" in shown.output
    refused = {
        "bare": (f"client:{job_id}", 77, "only client or an operator may read it"),
        "operator": (f"client:{job_id}", 1, "it is sealed, and this client has no keys"),
    }
    for name, (named, status, problem) in refused.items():
        denied = command.run(fleet.config_file(name), "logs", named)
        assert (denied.status, denied.output) == (status, ""), name
        assert problem in denied.errors
    document = command.run(fleet.config_file("operator"), "logs", f"client:{job_id}", "--json").json
    assert "it is sealed" in document["refusal"]
    assert "text" not in document
    assert holders(fleet.folder / "dispatcher", PLANTED) | holders(fleet.folder / "broker", PLANTED) == set()
    ((text,),) = fleet.stored("SELECT body FROM output WHERE job_id = ?", owned(job_id))
    assert text.startswith("sealed.2.")


def test_progress_shows_the_fraction_without_the_text(fleet: Fleet) -> None:
    heard: list[Progress] = []

    async def run() -> None:
        async with fleet.client(on_progress=heard.append) as client:
            job_id = await client.submit("report_progress", [0.5])
            await client.result(job_id)
            await until(lambda: heard, "progress")

    asyncio.run(run())
    assert [(each.fraction, each.text) for each in heard[:1]] == [(0.5, "")]


def test_a_command_gets_its_payload_unsealed(fleet: Fleet) -> None:
    """`read` and `eval` would not get far with a sealed one."""
    assert as_client(fleet, lambda client: client.submit("shell", text="echo 42;")) is not None

    async def act(client: Client) -> object:
        await client.submit_many([make_submission("shell", text="echo 42", id="command")])
        return await client.result("command")

    assert as_client(fleet, act) == 42


def test_commands_seal_and_open(fleet: Fleet) -> None:
    config = fleet.config_file("client")
    done = command.run(config, "submit", "echo", '{"a": 1}', "--wait", "--id", (job_id := new_id()))
    failed = command.run(config, "submit", "fail", "--wait", "--json", "--id", (failed_id := new_id()))

    assert (done.status, done.json["payload"]) == (0, {"a": 1})
    assert command.run(config, "result", job_id).json["payload"] == {"a": 1}
    assert failed.json["reason"].startswith("ValueError: no such ticker")
    assert "no such ticker" in command.run(config, "why", failed_id).output
    assert "no such ticker" in command.run(config, "list", "--state", "failed", "--json").output


def test_commands_without_keys_report_sealed_results(fleet: Fleet) -> None:
    job_id = new_id()
    command.run(fleet.config_file("client"), "submit", "echo", '{"a": 1}', "--wait", "--id", job_id)
    for arguments in (("result", owned(job_id)), ("result", owned(job_id), "--wait")):
        done = command.run(fleet.config_file("operator"), *arguments)
        assert (done.status, done.output) == (1, "")
        assert "the result is refused: it is sealed, and this client has no keys" in done.errors
    waited = command.run(fleet.config_file("stranger"), "wait", owned(job_id), "--json")
    assert waited.status == 77
    assert f"job {owned(job_id)} belongs to client; only client or an operator may read it" in waited.errors


def test_a_worker_that_was_killed_opens_its_jobs_again(fleet: Fleet, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def act(client: Client) -> object:
        job_id = await client.submit("wait_for_file", str(gate), id=new_id())
        await until_running(client, job_id)
        (view,) = await client.query([job_id])
        worker = fleet.workers[int(str(view.worker).removeprefix("host-")) - 1]
        await asyncio.to_thread(worker.kill)
        gate.touch()
        await asyncio.to_thread(worker.start)
        return await client.result(job_id, timeout_s=60)

    assert isinstance(as_client(fleet, act), int)


# --- what is refused --------------------------------------------------------------------------------------------------


def sealed_as(fleet_keys: FleetKeys, job_id: str, **options: object) -> str:
    now = float(str(options.pop("now", clock.wall())))
    submission = make_submission(str(options.pop("job_type", "echo")), {"a": 1}, id=job_id)
    submitter = fleet_keys.submitter(str(options.pop("name", "client")), **options)  # type: ignore[arg-type] # options by name
    return submitter.seal_job(submission, JobId(owned(job_id, "bare")), now).text


def flipped(sealed: str) -> str:
    parts = sealed.split(".")
    header, ciphertext, signature = parts[2:]
    first = "B" if ciphertext[0] != "B" else "C"
    return ".".join([*parts[:2], header, first + ciphertext[1:], signature])


def replaced_signature(sealed: str) -> str:
    return f"{sealed.rpartition('.')[0]}.{encode_bytes(bytes(64))}"


REFUSALS: dict[str, tuple[Callable[[FleetKeys, str], str], str, str]] = {
    "plain": (lambda _keys, _id: '{"a": 1}', "plain", "it is not sealed, and this worker runs nothing else"),
    "expired": (
        lambda fleet_keys, job_id: sealed_as(fleet_keys, job_id, now=clock.wall() - 7200),
        "expired",
        "it expired at 20",
    ),
    "moved": (
        lambda fleet_keys, _id: sealed_as(fleet_keys, "other"),
        "moved",
        "it was sealed for another job: bare:other of type echo",
    ),
    "bit flip": (
        lambda fleet_keys, job_id: flipped(sealed_as(fleet_keys, job_id)),
        "forged",
        "its signature is not from",
    ),
    "forged": (
        lambda fleet_keys, job_id: replaced_signature(sealed_as(fleet_keys, job_id)),
        "forged",
        "its signature is not from submitter client",
    ),
    "unsigned": (
        lambda fleet_keys, job_id: sealed_as(fleet_keys, job_id, sign=False),
        "unsigned",
        "it is not signed by submitter client, but must be",
    ),
    "cut": (lambda fleet_keys, job_id: sealed_as(fleet_keys, job_id)[:-9], "damaged", "damaged: "),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refused_payload_fails_immediately_with_a_reason(fleet: Fleet, fleet_keys: FleetKeys, name: str) -> None:
    make, reason, text = REFUSALS[name]
    job_id = new_id()
    submission = make_submission("echo", text=make(fleet_keys, job_id), id=job_id, max_attempts=5)
    ended = as_client(fleet, lambda client: submit_and_wait(client, submission), "bare")

    assert ended.state is State.FAILED
    assert (ended.reason or "").startswith(f"the payload is refused: {text}")
    full = owned(job_id, "bare")
    assert fleet.outcomes(full) == ["error"]
    told = [event for worker in fleet.workers for event in worker.events("payload_refused") if event["job"] == full]
    assert [event["reason"] for event in told] == [reason]
    assert text in told[0]["problem"]


def test_an_untrusted_submitter_is_refused(fleet: Fleet, fleet_keys: FleetKeys, tmp_path: Path) -> None:
    """The keyring of the workers lacks a line that the submitter still has."""
    job_id = new_id()
    ring = tmp_path / "keyring"
    shutil.copy(fleet_keys.ring, ring)
    trusted = [line for line in fleet_keys.ring.read_text().splitlines() if " stranger " not in line]
    fleet_keys.ring.write_text("\n".join(trusted) + "\n")
    reload_workers(fleet)

    sealed = sealed_as(fleet_keys, job_id, name="stranger", ring=ring)
    submission = make_submission("echo", text=sealed, id=job_id)
    ended = as_client(fleet, lambda client: submit_and_wait(client, submission), "bare")
    shutil.copy(ring, fleet_keys.ring)
    reload_workers(fleet)

    refused = "the payload is refused: submitter stranger is not trusted: in the keyring, it is missing"
    assert (ended.state, ended.reason) == (State.FAILED, refused)


def reload_workers(fleet: Fleet) -> None:
    for worker in fleet.workers:
        times = len(worker.events("config_reloaded"))
        worker.send_signal(signal.SIGHUP)
        worker.await_event("config_reloaded", times + 1)


def test_a_job_for_an_empty_group_waits_with_an_explanation(fleet: Fleet) -> None:
    async def act(client: Client) -> tuple[State, str, tuple[str, ...]]:
        job_id = await client.submit("pid", id=new_id())
        await until(lambda: fleet.outcomes(job_id) == ["refused", "refused"], "both workers refuse")
        (view,) = await client.query([job_id])
        why = (await client.explain(job_id)).why
        await client.cancel(job_id)
        return view.state, view.reason or "", why

    state, reason, why = as_client(fleet, act)
    assert state is State.QUEUED
    assert "this worker has no private key" in reason
    assert "of group empty; see encryption.group_keys" in reason
    assert any("this worker has no private key" in sentence for sentence in why)


def test_a_job_finds_the_only_worker_of_its_group(fleet: Fleet) -> None:
    async def act(client: Client) -> str | None:
        job_id = await client.submit("nothing", id=new_id())
        await client.result(job_id, timeout_s=30)
        (view,) = await client.query([job_id])
        return view.worker

    assert as_client(fleet, act) == "host-2"


def test_a_client_sends_no_payload_that_it_cannot_seal(fleet: Fleet) -> None:
    with pytest.raises(JobRejected, match="no valid group for import_bars"):
        as_client(fleet, lambda client: client.submit("import_bars", id="unsealable"))
    assert fleet.stored("SELECT id FROM job WHERE id LIKE '%unsealable'") == []


def test_a_result_that_was_replaced_in_the_store_is_refused(fleet: Fleet) -> None:
    """The dispatcher, or an attacker that writes its files, can't forge a result."""

    async def act(client: Client) -> None:
        first = await client.submit("echo", 1, id=new_id())
        second = await client.submit("echo", 2, id=new_id())
        for job_id in (first, second):
            await client.result(job_id)
        for forged, why in (('"forged"', "it is not sealed"), (stolen(fleet, second), "of another job")):
            write_result(fleet, first, forged)
            with pytest.raises(ResultRefused, match=why):
                async with fleet.client() as other:
                    await other.result(first)

    as_client(fleet, act)


def stolen(fleet: Fleet, job_id: str) -> str:
    ((result,),) = fleet.stored("SELECT body FROM job JOIN result USING (sequence) WHERE id = ?", owned(job_id))
    return str(result)


def write_result(fleet: Fleet, job_id: str, result: str) -> None:
    fleet.dispatcher.stop()
    with closing(sqlite3.connect(fleet.job_store)) as connection, connection:
        connection.execute(
            "UPDATE result SET body = ? WHERE sequence = (SELECT sequence FROM job WHERE id = ?)",
            (result, owned(job_id)),
        )
    times = fleet.dispatcher.log.count("connected to the broker")
    fleet.dispatcher.start()
    fleet.dispatcher.await_log("connected to the broker", times + 1)


def test_a_process_that_submits_again_gets_the_result_of_the_same_payload_alone(fleet: Fleet) -> None:
    """Each `act` runs in a client of its own, which remembers only what it has submitted itself."""
    job_id = new_id()

    async def act(client: Client, payload: object) -> object:
        return await client.result(await client.submit("echo", payload, id=job_id), timeout_s=30)

    first = as_client(fleet, lambda client: act(client, {"day": 1}))
    assert as_client(fleet, lambda client: act(client, {"day": 1})) == first
    with pytest.raises(ResultRefused, match="the dispatcher has a job with another payload"):
        as_client(fleet, lambda client: act(client, {"day": 2}))
    assert as_client(fleet, lambda client: client.result(job_id)) == first


def test_check_verifies_the_keys(fleet: Fleet, fleet_keys: FleetKeys, tmp_path: Path) -> None:
    fine = command.run(fleet.config_file("client"), "check", "--offline")
    worker = command.run(fleet.config_file("host-1"), "check", "--offline", "--instance", "1", "--json")
    exposed = tmp_path / "client.pem"
    shutil.copy(fleet_keys.file(Holder.SUBMITTER, "client"), exposed)
    exposed.chmod(0o644)
    old_results = {"key": str(fleet_keys.file(Holder.SUBMITTER, "client")), "keyring": str(fleet_keys.ring)}
    old_results["accept_unproven_until"] = "9999-12-31"
    unproven = command.run(
        command.changed(fleet.config_file("client"), "unproven", encryption=old_results), "check", "--offline"
    )
    encryption = {"key": str(exposed)}
    open_key = command.run(
        command.changed(fleet.config_file("client"), "exposed", encryption=encryption), "check", "--offline"
    )

    assert f"ok    encryption     {fleet_keys.ring}: submitter client has valid keys" in fine.output
    findings = [finding for finding in worker.json_lines if finding["check"] == "encryption"]
    assert [finding["severity"] for finding in findings] == ["ok", "warn"]
    assert "no group in the keyring runs data_import, price_update, technical_analysis" in findings[1]["text"]
    assert "until 9999-12-31T00:00:00Z, results in the format of version 1 are accepted" in unproven.output
    assert open_key.status == 1
    assert f"Run 'chmod 600 {exposed}'" in open_key.output
