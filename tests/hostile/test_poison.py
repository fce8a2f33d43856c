"""Messages that hurt their readers. Each is read once, in linear time, and never comes back."""

import asyncio

import pytest

from stockworker.protocol import topics
from stockworker.protocol.body import MAX_PACKET
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import BY_KIND, TOPICS, Role, TopicKind
from tests.harness.attacks import EVIL_CLIENT, EVIL_WORKER, RawClient, Strike, attack, connections_lost, run_good_job
from tests.harness.fleet import Fleet, Service
from tests.harness.peer import Peer, connected

USER_PROPERTY = bytes.fromhex("26 0000 0000")
LARGEST = USER_PROPERTY * (MAX_PACKET // len(USER_PROPERTY) - 30)
"""User properties that fill the largest packet that the broker accepts: some 65,000."""


def written_by(role: Role, name: str) -> list[str]:
    """A topic of each kind that a party may write and the dispatcher reads, and the one of progress."""
    own = {topics.OWN_LEVEL[role]: name}
    some = {"priority": "normal", "type": "echo", "job_id": "some-job", "drained_id": "host-1"}
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
    """Each is refused with the topic, and so with the name of a worker that sent it."""
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
        client = Peer(fleet.broker, "client", ("jobs/progress/+/+",))
        async with connected([client]):
            await asyncio.to_thread(huge_properties_of_a_worker, fleet)
            await client.until(lambda: bool(client.received))
        return [delivery.packet for delivery in client.received]

    (packet,) = asyncio.run(run())
    assert (packet.topic, packet.body) == (f"jobs/progress/{EVIL_WORKER}/some-job", b"")
    assert "properties" in packet.fault


def test_a_worker_refuses_huge_properties_of_the_dispatcher_unread(fleet: Fleet) -> None:
    """The attacker has the certificate of the dispatcher."""
    orders = [topic.pattern(worker_id="host-1") for topic in TOPICS if topic.subscribers == {Role.WORKER}]
    orders = [path for path in orders if topics.parse(path).kind is not TopicKind.WORKER_ECHO]
    poison(fleet, "dispatcher", [*orders, str(TopicKind.DISPATCHER)], LARGEST)
    await_refusals(fleet.workers[0], orders)
    run_good_job(fleet)
