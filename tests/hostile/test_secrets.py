"""Secrets are planted wherever the fleet accepts one; then all its messages, logs and outputs are searched for them."""

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

from stockworker.errors import StoreError
from stockworker.market.store import open_market_store
from stockworker.protocol import codec
from stockworker.protocol.body import BATCH_CONTENT_TYPE
from stockworker.protocol.ids import WorkerId
from stockworker.protocol.messages import Assign
from stockworker.protocol.packet import Packet, Properties
from tests.harness.command import run
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.jobs import run_job
from tests.harness.peer import Peer, connected
from tests.harness.waiting import TIMEOUT_S, wait_until

PASSWORD = "planted-password-1"  # noqa: S105 (no secret)
DSN_PASSWORD = "planted-dsn-2"  # noqa: S105 (no secret)
TOKEN = "planted-token-3"  # noqa: S105 (no secret)
API_KEY = "planted-api-key-4"
PAYLOAD = "planted-payload-5"
PLANTED = (PASSWORD, DSN_PASSWORD, TOKEN, API_KEY, PAYLOAD)

PROGRAM = """
import json, os, pathlib, sys, time
token = json.load(open(os.environ["STOCKWORKER_SETTINGS_FILE"]))["token"]
job = json.load(sys.stdin)
pathlib.Path(job["here"]).touch()
while not os.path.exists(job["go"]):
    time.sleep(0.01)
print(json.dumps(len(token)))
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    for name in ("dispatcher", "host-1", "client", "operator"):
        drop_in = folder / f"{name}.d" / "secrets.yml"
        drop_in.parent.mkdir()
        secrets = {"queue": {"mqtt": {"username": "u", "password": PASSWORD}}}
        drop_in.write_text(yaml.safe_dump({"job_processor": secrets}))
        drop_in.chmod(0o600)
    program = folder / "show.py"
    program.write_text(PROGRAM)
    settings = {
        "log": {"level": "debug", "format": "json"},
        "market_data": {"location": f"postgresql://u:{DSN_PASSWORD}@127.0.0.1:9/market"},
        "handlers": {
            **python_handlers("echo", "fail", "die"),
            "show": {"command": [sys.executable, "-I", str(program)], "settings": {"token": TOKEN}},
            "price_update": {"settings": {"provider": f"http://127.0.0.1:9/{{symbol}}?key={API_KEY}"}},
        },
    }
    with Fleet(folder, workers=1, settings=settings) as fleet:
        yield fleet


def test_the_planted_secrets_are_in_use(fleet: Fleet) -> None:
    """Checks that the secrets are in use: otherwise the other tests prove nothing."""
    text = fleet.config_file("host-1").read_text()
    assert all(secret in text for secret in (DSN_PASSWORD, TOKEN, API_KEY))
    ended, _ = run_job(fleet, "echo", PAYLOAD)
    assert PAYLOAD in (ended.result or "")
    assert DSN_PASSWORD in (ended.result or "")  # the handler receives its secret


def test_no_failure_reveals_a_secret(fleet: Fleet) -> None:
    watched: list[bytes] = []

    async def watch() -> None:
        watcher = Peer(fleet.broker, "operator", ("system/monitor", "jobs/failed/+", "workers/#", "jobs/report/+"))
        async with connected([watcher]):
            await asyncio.to_thread(let_go_wrong, fleet)
        watched.extend(heard.packet.body for heard in watcher.received)

    asyncio.run(watch())
    assert watched
    assert found_in(b"\n".join(watched).decode()) == []
    services = (fleet.dispatcher, *fleet.workers)
    logged = {service.name: found_in(service.log, key_lines(fleet)) for service in services}
    logged["broker"] = found_in(fleet.broker.log, key_lines(fleet))
    assert set(map(tuple, logged.values())) == {()}, logged
    assert {line["event"] for line in fleet.workers[0].events("attempt_failed")}


def let_go_wrong(fleet: Fleet) -> None:
    """Causes failures of every kind, each of which could reveal a secret."""
    for job_type, payload in (
        ("fail", PAYLOAD),
        ("die", PAYLOAD),
        ("technical_analysis", {"symbol": "AAPL", "indicators": [{"name": "sma"}], "x": PAYLOAD}),
        ("technical_analysis", {"symbol": "AAPL", "indicators": [{"name": "sma"}]}),
        ("price_update", {"symbols": ["AAPL"]}),
        ("data_import", {"source": f"http://u:{PAYLOAD}@127.0.0.1/?x={PAYLOAD}"}),
    ):
        ended, _ = run_job(fleet, job_type, payload, max_attempts=1, max_crashes=1)
        assert ended.state == "failed"
        assert found_in(ended.reason or "") == [], job_type
    bad = f'{{"schema": 1, "jobs": [{{"payload": "{PAYLOAD}"}}, {{"payload": {{"x": "{PAYLOAD}"}}}}]}}'.encode()
    refused = [
        Packet("jobs/queue/low/echo", bad, properties=Properties(BATCH_CONTENT_TYPE)),
        Packet("jobs/queue/low/echo", bad[:60], properties=Properties(BATCH_CONTENT_TYPE)),
        Packet("jobs/query/client", bad[:60]),
    ]
    assign = codec.encode(Assign(WorkerId("host-1"), 30.0, ()))

    async def send() -> None:
        client, impostor = Peer(fleet.broker, "client", ()), Peer(fleet.broker, "dispatcher", ())
        async with connected([client, impostor]):
            await client.link.send(refused)
            await impostor.link.send([Packet(assign.topic, bad.replace(b"jobs", b"leases"))])
            assert await client.link.drain(TIMEOUT_S)
            assert await impostor.link.drain(TIMEOUT_S)

    asyncio.run(send())
    fleet.dispatcher.await_event("message_refused", len(refused))
    fleet.workers[0].await_event("message_refused")


def test_no_command_shows_a_secret(fleet: Fleet) -> None:
    ended, _ = run_job(fleet, "fail", PAYLOAD, max_attempts=1)
    config = fleet.config_file("client")
    for words in (
        ("status", ended.job_id, "--json"),
        ("why", ended.job_id, "--json"),
        ("list", "--json"),
        ("stats", "--json"),
        ("check", "--json"),
        ("check", "--json", "--role", "worker"),
    ):
        done = run(config, *words)
        assert found_in(done.output + done.errors, key_lines(fleet)) == [], words


def test_no_process_has_a_secret_in_its_environment_or_command_line(fleet: Fleet, tmp_path: Path) -> None:
    here, go = tmp_path / "here", tmp_path / "go"

    async def look() -> None:
        async with fleet.client() as client:
            job_id = await client.submit("show", {"here": str(here), "go": str(go), "payload": PAYLOAD})
            await asyncio.to_thread(wait_until, here.exists, "the program runs")
            processes = [pid for service in (fleet.dispatcher, *fleet.workers) for pid in family(service.pid)]
            assert len(processes) > len(fleet.workers) + 1
            for pid in processes:
                assert found_in(shown_of(pid), key_lines(fleet)) == [], pid
                assert core_limits(pid) == ["0", "0"], pid  # a core dump would hold all of them
            go.touch()
            assert await client.result(job_id, timeout_s=TIMEOUT_S) == len(TOKEN)

    asyncio.run(look())


def shown_of(pid: int) -> str:
    return "".join(Path(f"/proc/{pid}/{name}").read_text(errors="replace") for name in ("environ", "cmdline"))


def core_limits(pid: int) -> list[str]:
    """The soft and the hard limit."""
    (line,) = re.findall(r"Max core file size +(\S+) +(\S+)", Path(f"/proc/{pid}/limits").read_text())
    return list(line)


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:planted/dsn-2@127.0.0.1/x",  # an unescaped slash: libpq reads the text before it as a port
        "postgresql://u:planted-dsn-2@127.0.0.1:9/x?planted-dsn-2=1",
        "postgresql://u:planted-dsn-2%@127.0.0.1:9/x",
        "postgresql://u:planted-dsn-2@127.0.0.1:planted/x",
    ],
)
def test_an_invalid_database_address_is_not_shown(address: str) -> None:
    with pytest.raises((StoreError, psycopg.Error)) as failed:
        open_market_store(address)
    assert "planted" not in str(failed.value)


def key_lines(fleet: Fleet) -> tuple[str, ...]:
    """The lines of all private keys of the fleet."""
    keys = (fleet.broker.ca_file.parent).glob("*.key")
    return tuple(line for key in keys for line in key.read_text().splitlines() if "-----" not in line and line)


def found_in(text: str, more: tuple[str, ...] = ()) -> list[str]:
    return [secret for secret in (*PLANTED, *more) if secret in text]
