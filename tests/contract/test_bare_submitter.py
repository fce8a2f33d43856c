"""The commands of docs/protocol.md: `mosquitto_pub` submits and `mosquitto_sub` watches, without any code of the product."""

import asyncio
import subprocess
from pathlib import Path

from stockworker.broker.acl import acl
from stockworker.protocol import codec
from stockworker.protocol.ids import ClientId, JobId, JobType, Tag
from stockworker.protocol.job import Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Message, Notice, Reply, Submission, Submit
from tests.harness.broker import Broker
from tests.harness.peer import Peer, connected

TYPE = JobType("technical_analysis")
PAYLOAD = '{"symbol": "AAPL"}'


def at(broker: Broker, name: str) -> list[str]:
    """The options that the documentation leaves out: the broker and the client certificate."""
    identity = broker.identity(name)
    files = ["--cafile", str(broker.ca_file), "--cert", str(identity.certificate), "--key", str(identity.key)]
    return ["-h", broker.host, "-p", str(broker.port), *files]


async def submitted(broker: Broker, options: list[str]) -> Message:
    dispatcher = Peer(broker, "dispatcher", ("jobs/queue/#",))
    async with connected([dispatcher]):
        command = ["mosquitto_pub", *at(broker, "alice"), "-V", "5", "-q", "1", *options]
        process = await asyncio.create_subprocess_exec(*command)
        assert await process.wait() == 0
        await dispatcher.until_read(PAYLOAD.encode())
    return codec.decode(dispatcher.received[0].packet)


def test_a_bare_publish_is_a_job(tmp_path: Path) -> None:
    with Broker(tmp_path, acl(clients=["alice"])) as broker:
        message = asyncio.run(submitted(broker, ["-t", f"jobs/queue/normal/{TYPE}", "-m", PAYLOAD]))
    assert message == Submit((Submission(None, TYPE, Priority.NORMAL, PAYLOAD),), None)


def test_a_publish_below_the_own_id_is_a_job_of_the_client(tmp_path: Path) -> None:
    """The command of docs/protocol.md; the answer goes to the client, whatever the message asks for."""
    options = ["-t", f"jobs/queue/normal/{TYPE}/alice", "-m", PAYLOAD, "-D", "publish", "user-property", "id", "aapl-1"]
    with Broker(tmp_path, acl(clients=["alice"])) as broker:
        message = asyncio.run(submitted(broker, options))
    job = Submission(JobId("aapl-1"), TYPE, Priority.NORMAL, PAYLOAD)
    assert message == Submit((job,), Reply(ClientId("alice")), ClientId("alice"))


def test_properties_carry_the_options(tmp_path: Path) -> None:
    options = ["-t", f"jobs/queue/high/{TYPE}", "-m", PAYLOAD]
    for name, value in (("id", "aapl-1"), ("timeout", "90"), ("tags", "eu,ssd")):
        options += ["-D", "publish", "user-property", name, value]
    options += ["-D", "publish", "response-topic", "jobs/receipt/alice"]
    with Broker(tmp_path, acl(clients=["alice"])) as broker:
        message = asyncio.run(submitted(broker, options))
    job = Submission(
        JobId("aapl-1"), TYPE, Priority.HIGH, PAYLOAD, timeout_s=90.0, tags=frozenset({Tag("eu"), Tag("ssd")})
    )
    assert message == Submit((job,), Reply(ClientId("alice")))


def test_a_subscriber_of_all_topics_sees_how_jobs_end(tmp_path: Path) -> None:
    notice = codec.encode(Notice(JobId("aapl-1"), TYPE, State.COMPLETED, 1, None, "42"))

    async def announce(broker: Broker) -> None:
        dispatcher = Peer(broker, "dispatcher", ())
        async with connected([dispatcher]):
            while watcher.poll() is None:
                await dispatcher.link.send([notice])
                assert await dispatcher.link.drain(10)

    with Broker(tmp_path, acl(clients=["alice"])) as broker:
        command = ["mosquitto_sub", *at(broker, "alice"), "-V", "5", "-v", "-t", "jobs/#", "-C", "1", "-W", "30"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as watcher:
            asyncio.run(announce(broker))
            assert watcher.stdout is not None
            assert watcher.stdout.read() == f"{notice.topic} ".encode() + notice.body + b"\n"
