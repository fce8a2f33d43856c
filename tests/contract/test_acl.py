"""The generated ACL in a real Mosquitto: every topic, for every role, publishing and reading.

Everybody subscribes to everything (which Mosquitto always grants) and publishes everything; the broker refuses or
passes on. What the ACL should allow is worked out here from the table of topics, in another way than the generator's.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from stockworker.adapters.mqtt import Delivery, Link, LinkUp
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.broker.acl import acl
from stockworker.broker.configuration import Profile, bridge_topics
from stockworker.protocol.topics import DROPPED_BY_BROKER, LEGACY_PARENTS, TOPICS, Role, Topic
from tests.harness.broker import SITE, Broker
from tests.harness.peer import Peer, connected

ROLES = {
    "dispatcher": Role.DISPATCHER,
    "boss": Role.OPERATOR,
    "alice": Role.CLIENT,
    "bob": Role.CLIENT,
    "w1": Role.WORKER,
    "w2": Role.WORKER,
}
NAMED_IN_ACL = {name for name, role in ROLES.items() if role is not Role.WORKER}
# Published last: the dispatcher's reaches everybody else, the operator's reaches the dispatcher.
MARKERS = {"dispatcher": "system/dispatcher", "boss": "workers/cleanup"}
LAST = b"last"


@dataclass(frozen=True)
class Observed:
    """`denied` is who was refused where; `delivered` is who read from whom, and where."""

    denied: frozenset[tuple[str, str]]
    delivered: frozenset[tuple[str, str, str]]


async def observe(broker: Broker, topics: Sequence[str]) -> Observed:
    """Let everybody publish to all topics, and read all of them."""
    peers = {name: Peer(broker, name) for name in ROLES}
    async with connected(list(peers.values())):
        for name, peer in peers.items():
            await peer.publish(topics, name.encode())
        # All that was allowed is in the readers' queues now, ahead of these.
        for name, marker in MARKERS.items():
            await peers[name].publish([marker], LAST)
        for peer in peers.values():
            await peer.until_read(LAST)
    return Observed(
        frozenset((name, topic) for name, peer in peers.items() for topic in peer.denied),
        frozenset(
            (name, delivery.packet.body.decode(), delivery.packet.topic)
            for name, peer in peers.items()
            for delivery in peer.received
            if delivery.packet.body != LAST
        ),
    )


def instances(line: Topic) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The topics of a line, with each existing name in place of each ID."""
    names = ("alice", "bob", "boss", "dispatcher", "w1", "w2")
    who = dict.fromkeys(("worker_id", "client_id", "dispatcher_id", "drained_id"), names)
    choices = {**who, "job_id": ("j1",), "connection": ("c0ffee",), "priority": ("high",), "type": ("any",)}
    for levels in (line.levels, line.levels[:-1]) if line.bare else (line.levels,):
        for values in product(*(choices[level] for level in levels)):
            yield "/".join((line.kind, *values)), dict(zip(levels, values, strict=True))


def may(user: str, allowed: frozenset[Role], levels: Mapping[str, str]) -> bool:
    role = ROLES[user]
    if Role.WORKER in allowed and "worker_id" not in levels:
        # All users have the rights of all workers: the broker does not know which users are workers.
        return True
    if role not in allowed:
        return False
    if role is Role.WORKER:
        return levels.get("worker_id", user) == user
    # A user that is not a worker has no access to the topics of a worker of the same name.
    if levels.get("worker_id") == user:
        return False
    if role is Role.DISPATCHER:
        return levels.get("dispatcher_id", user) == user
    return levels.get("client_id", user) == user


def traces(user: str, line: Topic, kinds: set[str], levels: Mapping[str, str]) -> bool:
    """Whether the dispatcher uses a topic as a client of its own name, for tracers."""
    return ROLES[user] is Role.DISPATCHER and line.kind in kinds and levels.get("client_id") == user


def may_publish(user: str, line: Topic, levels: Mapping[str, str]) -> bool:
    return may(user, line.publishers, levels) or traces(user, line, {"jobs/queue"}, levels)


def may_read(user: str, line: Topic, levels: Mapping[str, str]) -> bool:
    watches = ROLES[user] in line.watchers
    return watches or may(user, line.subscribers, levels) or traces(user, line, {"jobs/receipt", "jobs/notice"}, levels)


def default_acl(*, legacy_workers: bool = False) -> str:
    return acl(operators=["boss"], clients=["alice", "bob"], legacy_workers=legacy_workers)


@pytest.fixture(scope="module", params=[Profile.PRODUCTION, Profile.WAN, Profile.BRIDGE])
def observed(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Observed]:
    topics = [topic for line in TOPICS for topic, _ in instances(line)] + sorted(LEGACY_PARENTS)
    profile: Profile = request.param
    with ExitStack() as exits:
        central = None
        if profile is Profile.BRIDGE:
            central = exits.enter_context(Broker(tmp_path_factory.mktemp("central"), acl(bridges={SITE: ()})))
        folder = tmp_path_factory.mktemp("broker")
        broker = exits.enter_context(Broker(folder, default_acl(), profile=profile, central=central))
        yield asyncio.run(observe(broker, topics))


@pytest.mark.parametrize("user", ROLES)
@pytest.mark.parametrize("line", TOPICS, ids=lambda line: line.kind.replace("/", "-"))
def test_publishing_is_allowed_as_the_table_says(observed: Observed, line: Topic, user: str) -> None:
    for topic, levels in instances(line):
        assert ((user, topic) not in observed.denied) == may_publish(user, line, levels), topic


@pytest.mark.parametrize("user", ROLES)
@pytest.mark.parametrize("line", TOPICS, ids=lambda line: line.kind.replace("/", "-"))
def test_reading_is_allowed_as_the_table_says(observed: Observed, line: Topic, user: str) -> None:
    for topic, levels in instances(line):
        writers = {writer for writer in ROLES if may_publish(writer, line, levels)}
        expected = writers if may_read(user, line, levels) else set()
        assert {writer for reader, writer, at in observed.delivered if (reader, at) == (user, topic)} == expected, topic


def test_every_line_is_read_by_somebody(observed: Observed) -> None:
    read = {topic for _, _, topic in observed.delivered}
    assert [line.kind for line in TOPICS if read.isdisjoint(topic for topic, _ in instances(line))] == []


@pytest.mark.parametrize("parent", sorted(LEGACY_PARENTS))
def test_nobody_publishes_without_its_id(observed: Observed, parent: str) -> None:
    assert {user for user, topic in observed.denied if topic == parent} == set(ROLES)


@pytest.fixture(scope="module")
def observed_legacy(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    with Broker(tmp_path_factory.mktemp("broker"), default_acl(legacy_workers=True)) as broker:
        return asyncio.run(observe(broker, sorted(LEGACY_PARENTS)))


@pytest.mark.parametrize("parent", sorted(LEGACY_PARENTS))
def test_by_an_option_workers_publish_without_their_id_and_clients_do_not(
    observed_legacy: Observed, parent: str
) -> None:
    # The dispatcher could, too: what would deny it would also keep it from reading.
    assert {user for user, topic in observed_legacy.denied if topic == parent} == {"boss", "alice", "bob"}
    assert {(reader, writer) for reader, writer, topic in observed_legacy.delivered if topic == parent} == {
        ("dispatcher", "w1"),
        ("dispatcher", "w2"),
        ("dispatcher", "dispatcher"),
    }


def test_only_operators_read_the_brokers_own_state(tmp_path: Path) -> None:
    async def read() -> set[str]:
        peers = {name: Peer(broker, name, ("#", "$SYS/broker/uptime")) for name in ROLES}
        async with connected(list(peers.values())):
            await peers["boss"].until(lambda: any(map(is_state, peers["boss"].received)))
            for name, marker in MARKERS.items():
                await peers[name].publish([marker], LAST)
            for peer in peers.values():
                await peer.until_read(LAST)
        return {name for name, peer in peers.items() if any(map(is_state, peer.received))}

    with Broker(tmp_path, default_acl(), changes={"sys_interval": "1"}) as broker:
        assert asyncio.run(read()) == {"boss"}


def is_state(item: Delivery) -> bool:
    return item.packet.topic[0] == "$"


async def leave_a_session(broker: Broker, name: str, topic: str) -> None:
    """Connect and leave, so that the broker keeps messages."""
    up = asyncio.Event()
    settings = LinkSettings(
        broker.host, broker.port, "kept", (topic,), tls=broker.tls(name), clean_start=False, session_expiry_s=600
    )
    link = Link(settings, lambda item: up.set() if isinstance(item, LinkUp) else None)
    running = asyncio.create_task(link.run())
    await up.wait()
    await link.close()
    await running


def test_the_dispatcher_reads_how_much_the_broker_has_dropped_and_clients_and_workers_do_not(tmp_path: Path) -> None:
    async def read() -> dict[str, set[str]]:
        await leave_a_session(broker, "dispatcher", "jobs/retry/+")
        peers = {name: Peer(broker, name, (DROPPED_BY_BROKER, *MARKERS.values())) for name in ROLES}
        async with connected(list(peers.values())):
            await peers["boss"].publish(["jobs/retry/a"] * 60, b"{}")
            for name in ("boss", "dispatcher"):
                await peers[name].until(lambda name=name: any(map(is_state, peers[name].received)))  # type: ignore[misc]
        return {name: {each.packet.topic for each in peer.received if is_state(each)} for name, peer in peers.items()}

    few = {"sys_interval": "1", "max_queued_messages": "1", "max_queued_bytes": None}
    with Broker(tmp_path, default_acl(), changes=few) as broker:
        found = asyncio.run(read())
    assert {name for name, topics in found.items() if topics} == {"boss", "dispatcher"}


def test_a_new_client_is_let_in_by_a_reload(tmp_path: Path) -> None:
    async def carol_submits(broker: Broker) -> bool:
        carol = Peer(broker, "carol", ())
        async with connected([carol]):
            await carol.publish(["jobs/queue/high/any"], b"{}")
        return not carol.denied

    with Broker(tmp_path, default_acl()) as broker:
        assert not asyncio.run(carol_submits(broker))
        (tmp_path / "acl").write_text(acl(clients=["carol"]))
        broker.reload()
        assert asyncio.run(carol_submits(broker))


ECHOES = {"workers/echo", "system/echo"}
"""Topics that a bridge does not forward."""

BEHIND = {"w1", "alice"}
"""The IDs behind the bridge in the access control list of the central broker."""


def behind(allowed: frozenset[Role], levels: Mapping[str, str]) -> bool:
    """Whether a worker or a client behind the bridge has a right that these roles have."""
    own = {Role.WORKER: "worker_id", Role.CLIENT: "client_id"}
    return any(role in allowed and levels.get(level, "w1") in BEHIND for role, level in own.items())


def test_a_bridge_speaks_for_its_own_workers_and_clients_alone(tmp_path: Path) -> None:
    denied, heard = asyncio.run(_as_bridge(tmp_path, sorted(BEHIND)))
    for line in TOPICS:
        for topic, levels in instances(line):
            # A topic with the ID of its writer or reader is only allowed with an ID behind the bridge.
            may_say = behind(line.publishers, levels) and line.kind not in ECHOES
            assert (topic not in denied) == may_say, topic
            may_hear = behind(line.subscribers, levels)
            if Role.DISPATCHER in line.publishers:
                assert (topic in heard) == (may_hear or line.kind == "system/dispatcher"), topic


def test_a_bridge_without_a_list_speaks_for_all_but_never_as_dispatcher_or_operator(tmp_path: Path) -> None:
    denied, _ = asyncio.run(_as_bridge(tmp_path, ()))
    for line in TOPICS:
        for topic, levels in instances(line):
            said_by_many = bool(line.publishers & {Role.WORKER, Role.CLIENT}) and line.kind not in ECHOES
            assert (topic not in denied) == (said_by_many and levels.get("worker_id") != SITE), topic


def test_a_bridge_passes_on_what_workers_and_clients_may_say_and_hear() -> None:
    assert [line.split()[1:] for line in bridge_topics()] == [
        [pattern, "both" if said and heard else "out" if said else "in", str(topic.qos)]
        for topic in TOPICS
        for pattern in topic.patterns()
        for said in [bool(topic.publishers & {Role.WORKER, Role.CLIENT})]
        for heard in [bool(topic.subscribers & {Role.WORKER, Role.CLIENT})]
        if (said or heard) and topic.kind not in ECHOES
    ]


async def _as_bridge(folder: Path, behind: Sequence[str]) -> tuple[set[str], set[str]]:
    """Where a bridge may not publish, and which topics of the dispatcher it may read."""
    topics = [topic for line in TOPICS for topic, _ in instances(line)]
    with Broker(folder, acl(clients=["alice", "bob"], bridges={SITE: behind})) as broker:
        bridge, dispatcher = Peer(broker, SITE), Peer(broker, "dispatcher")
        async with connected([bridge, dispatcher]):
            await bridge.publish(topics, b"forged")
            await dispatcher.publish(topics, b"said")
            await dispatcher.publish(["system/dispatcher"], LAST)
            await bridge.until_read(LAST)
        return set(bridge.denied), {item.packet.topic for item in bridge.received if item.packet.body == b"said"}
