"""Messages that hurt their readers. Each is read once, in linear time, and never comes back."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from stockworker.dispatcher.safe_start import BAD_STARTS_MAX, read_mark
from stockworker.protocol import codec, topics
from stockworker.protocol.body import MAX_PACKET
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.messages import Assign, Assignment
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import BY_KIND, TOPICS, Role, TopicKind
from stockworker.terminal.exits import Exit
from tests.harness.attacks import EVIL_CLIENT, EVIL_WORKER, RawClient, Strike, attack, connections_lost, run_good_job
from tests.harness.broker import Broker
from tests.harness.fleet import Fleet, Service, python_handlers
from tests.harness.peer import Peer, connected
from tests.harness.planted_faults import PlantedFault, start_with_fault
from tests.harness.waiting import TIMEOUT_S, wait_until

USER_PROPERTY = bytes.fromhex("26 0000 0000")
LARGE: Final = 300_000
"""Bytes of a body that fits into the largest packet."""

MIB: Final = 1024 * 1024
RESIDENT_MOST: Final = 80 * MIB
"""A broker with a few clients needs 10 MiB. Each flood has more than this."""

LARGEST = USER_PROPERTY * (MAX_PACKET // len(USER_PROPERTY) - 30)
"""User properties that fill the largest packet that the broker accepts: some 65,000."""


def written_by(role: Role, name: str) -> list[str]:
    """A topic of each kind that a party may write and the dispatcher reads, and the one of progress."""
    own = {topics.OWN_LEVEL[role]: name}
    some = {"priority": "normal", "type": "echo", "job_id": "some-job", "client_id": "client"}
    return [
        topic.pattern(**{**some, **own})
        for topic in TOPICS
        if role in topic.publishers and (Role.DISPATCHER in topic.subscribers or topic.kind is TopicKind.PROGRESS)
    ]


def poison(fleet: Fleet, name: str, paths: list[str], properties: bytes, *, retain: bool = False) -> None:
    with RawClient(fleet.broker, fleet.broker.client_context(name), f"{name}-raw") as raw:
        for path in paths:
            qos = BY_KIND[topics.parse(path).kind].qos
            raw.publish(path.encode(), b"{}", properties, qos=qos, retain=retain)
            if not qos:
                raw.publish(b"jobs/nowhere")  # acknowledged behind it
            assert not raw.is_thrown_out()


@attack(EVIL_WORKER)
def huge_properties_of_a_worker(fleet: Fleet) -> None:
    poison(fleet, EVIL_WORKER, written_by(Role.WORKER, EVIL_WORKER), LARGEST)


@attack(EVIL_CLIENT)
def huge_properties_of_a_client(fleet: Fleet) -> None:
    poison(fleet, EVIL_CLIENT, written_by(Role.CLIENT, EVIL_CLIENT), LARGEST)


def await_refusals(service: Service, paths: list[str]) -> None:
    """Each is refused with its topic, which names the sender."""
    for path in paths:
        service.await_event("message_refused", topic=path)
    assert all("properties" in line["reason"] for line in service.events("message_refused"))


def read_by_dispatcher(role: Role, name: str) -> list[str]:
    return [path for path in written_by(role, name) if topics.parse(path).kind is not TopicKind.PROGRESS]


@pytest.mark.parametrize(
    ("strike", "role", "name"),
    [
        (huge_properties_of_a_worker, Role.WORKER, EVIL_WORKER),
        (huge_properties_of_a_client, Role.CLIENT, EVIL_CLIENT),
    ],
    ids=["worker", "client"],
)
def test_huge_properties_are_refused_unread(fleet: Fleet, strike: Strike, role: Role, name: str) -> None:
    lost = connections_lost(fleet)
    strike(fleet)
    run_good_job(fleet)
    await_refusals(fleet.dispatcher, read_by_dispatcher(role, name))
    assert connections_lost(fleet) == lost


def test_a_client_refuses_huge_properties_of_a_worker_unread(fleet: Fleet) -> None:
    async def run() -> list[Packet]:
        client = Peer(fleet.broker, "client", ("jobs/progress/+/+/client",))
        async with connected([client]):
            await asyncio.to_thread(huge_properties_of_a_worker, fleet)
            await client.until(lambda: bool(client.received))
        return [delivery.packet for delivery in client.received]

    (packet,) = asyncio.run(run())
    assert (packet.topic, packet.body) == (f"jobs/progress/{EVIL_WORKER}/some-job/client", b"")
    assert "properties" in packet.fault


def test_a_worker_refuses_huge_properties_of_the_dispatcher_unread(fleet: Fleet) -> None:
    """The attacker has the certificate of the dispatcher."""
    orders = [topic.pattern(worker_id="host-1") for topic in TOPICS if topic.subscribers == {Role.WORKER}]
    orders = [path for path in orders if topics.parse(path).kind is not TopicKind.WORKER_ECHO]
    poison(fleet, "dispatcher", [*orders, str(TopicKind.DISPATCHER)], LARGEST)
    await_refusals(fleet.workers[0], orders)
    run_good_job(fleet)


RETAINED_JOB: Final = f"jobs/queue/high/retained/{EVIL_CLIENT}"

# --- messages that the broker keeps -----------------------------------------------------------------------------------


@attack(EVIL_WORKER)
def retained_flood_of_a_worker(fleet: Fleet) -> None:
    retain(fleet, EVIL_WORKER, "jobs/progress/host-9/x{}/client")


@attack(EVIL_CLIENT)
def retained_flood_of_a_client(fleet: Fleet) -> None:
    retain(fleet, EVIL_CLIENT, "jobs/cancel/x{}/mallory")


def retain(fleet: Fleet, name: str, path: str) -> None:
    """Each on a topic of its own, on the next connection if the broker closes one."""
    for number in range(30):
        with RawClient(fleet.broker, fleet.broker.client_context(name), f"{name}-raw") as raw:
            raw.publish(path.format(number).encode(), b"x" * LARGE, retain=True)
            raw.is_thrown_out()


@pytest.mark.parametrize("strike", [retained_flood_of_a_worker, retained_flood_of_a_client])
def test_the_broker_keeps_no_retained_message(fleet: Fleet, strike: Strike) -> None:
    strike(fleet)
    fleet.broker.stop()
    fleet.broker.start()
    assert resident_bytes(fleet.broker) < RESIDENT_MOST
    with RawClient(fleet.broker, fleet.broker.client_context("operator"), "operator-raw") as raw:
        assert not raw.gets_retained(b"jobs/#", b"workers/#", b"system/#")
    run_good_job(fleet)


def resident_bytes(broker: Broker) -> int:
    pages = int(Path(f"/proc/{broker.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet with a broker that keeps retained messages, because it has another configuration."""
    folder, settings = tmp_path_factory.mktemp("lenient"), {"handlers": python_handlers("echo")}
    with Fleet(
        folder, settings=settings, clients=("client", EVIL_CLIENT), broker_changes={"retain_available": None}
    ) as fleet:
        yield fleet


def test_a_retained_message_of_a_worker_never_returns(lenient: Fleet) -> None:
    paths = read_by_dispatcher(Role.WORKER, EVIL_WORKER)
    poison(lenient, EVIL_WORKER, paths, LARGEST, retain=True)
    await_refusals(lenient.dispatcher, paths)
    refused = len(lenient.dispatcher.events("message_refused"))
    assert lenient.dispatcher.stop() == 0
    lenient.broker.stop()
    lenient.broker.start()
    lenient.dispatcher.start()
    run_good_job(lenient)
    assert len(lenient.dispatcher.events("message_refused")) == refused


def test_a_retained_job_and_a_retained_assignment_never_run(lenient: Fleet) -> None:
    worker, lease = (
        lenient.workers[0],
        Assignment(JobId("past"), JobType("echo"), 1, Token("feedfeedfeedfeed"), 9.0, "1"),
    )
    assert lenient.dispatcher.stop() == worker.stop() == 0
    poison(lenient, EVIL_CLIENT, [RETAINED_JOB], b"", retain=True)
    assignment = codec.encode(Assign(WorkerId("host-1"), 30.0, (lease,)))
    with RawClient(lenient.broker, lenient.broker.client_context("dispatcher"), "raw") as raw:
        raw.publish(assignment.topic.encode(), assignment.body, retain=True)
        assert not raw.is_thrown_out()
    lenient.dispatcher.start()
    worker.start()
    lenient.dispatcher.await_event("message_refused", topic=RETAINED_JOB)  # its session had it
    run_good_job(lenient)
    assert not lenient.stored("SELECT id FROM job WHERE type = 'retained'")
    assert "past" not in worker.log


def test_poison_in_a_kept_session_is_refused_once(fleet: Fleet) -> None:
    """It arrives while the dispatcher is down, so the broker keeps it."""
    path = f"workers/register/{EVIL_WORKER}"
    before = len([line for line in fleet.dispatcher.events("message_refused") if line["topic"] == path])
    assert fleet.dispatcher.stop() == 0
    poison(fleet, EVIL_WORKER, [path], LARGEST)
    for _ in range(2):
        fleet.dispatcher.start()
        run_good_job(fleet)
        assert fleet.dispatcher.stop() == 0
    fleet.dispatcher.start()
    refused = [line for line in fleet.dispatcher.events("message_refused") if line["topic"] == path]
    assert len(refused) == before + 1


# --- the memory of the broker -----------------------------------------------------------------------------------------


@attack(EVIL_CLIENT)
def flood_without_acknowledgements(fleet: Fleet) -> None:
    """600 MiB of jobs with QoS 0, faster than the dispatcher refuses them."""
    flood(fleet, 2_000)


def flood(fleet: Fleet, messages: int) -> None:
    with RawClient(fleet.broker, fleet.broker.client_context(EVIL_CLIENT), f"{EVIL_CLIENT}-raw") as raw:
        for _ in range(messages):
            raw.publish(f"jobs/queue/low/flood/{EVIL_CLIENT}".encode(), b"x" * LARGE, qos=0)


def test_a_flood_without_acknowledgements_ends_at_the_brokers_limit(tmp_path: Path) -> None:
    """The dispatcher does not read meanwhile, and the limit is lower than the shipped one, so that the test is fast."""
    settings = {"handlers": python_handlers("echo")}
    changes: dict[str, str | None] = {"memory_limit": str(32 * MIB)}
    with Fleet(tmp_path, settings=settings, clients=("client", EVIL_CLIENT), broker_changes=changes) as fleet:
        fleet.dispatcher.send_signal(signal.SIGSTOP)
        flood(fleet, 300)
        assert f"Client {EVIL_CLIENT}-raw disconnected due to out of memory" in fleet.broker.log
        assert resident_bytes(fleet.broker) < RESIDENT_MOST
        fleet.dispatcher.send_signal(signal.SIGCONT)
        run_good_job(fleet)
        fleet.broker.stop()
        fleet.broker.start()
        run_good_job(fleet)


# --- messages that end the dispatcher ---------------------------------------------------------------------------------

POISON_JOB: Final = f"jobs/queue/normal/echo/{EVIL_CLIENT}"


@pytest.mark.parametrize("hangs", [False, True], ids=["crash", "hang"])
def test_a_message_that_ends_each_dispatcher_is_discarded(tmp_path: Path, *, hangs: bool) -> None:
    """The attacker has found a defect; here it is planted. A real watchdog would kill what hangs here."""
    fault = PlantedFault("stockworker.dispatcher.machine", "DispatcherMachine", "_submitted", hangs=hangs)
    settings = {"handlers": python_handlers("echo")}
    with Fleet(tmp_path, workers=1, settings=settings, clients=("client", EVIL_CLIENT)) as fleet:
        dispatcher, mark = fleet.dispatcher, fleet.job_store.with_name("jobs.sqlite3.starting")
        assert dispatcher.stop() == 0
        assert not mark.exists()
        poison(fleet, EVIL_CLIENT, [POISON_JOB], b"")
        mark.write_text(f"{BAD_STARTS_MAX - 2} ")  # two more real ones show it; that others count too is a unit test
        for number in (BAD_STARTS_MAX - 1, BAD_STARTS_MAX):
            start_with_fault(dispatcher, fault)
            if hangs:
                wait_until(lambda: read_mark(mark.read_text())[0] == number, "it starts", TIMEOUT_S)  # noqa: B023 (called here)
                wait_until(lambda: POISON_JOB in mark.read_text(), "it hangs", TIMEOUT_S)
                dispatcher.kill()
            else:
                assert dispatcher.wait() == Exit.SOFTWARE
        start_with_fault(dispatcher, fault)
        assert POISON_JOB in dispatcher.await_event("session_discarded")["topics"]  # with the name of the client
        dispatcher.await_event("ready", times=2)
        assert dispatcher.stop() == 0
        dispatcher.start()
        run_good_job(fleet)
        assert len(dispatcher.events("session_discarded")) == 1
