"""A link with echoes, as both services have it: it still reports what the broker refuses."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from stockworker.adapters.mqtt import Link, PublishRefused
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.protocol.packet import Packet
from tests.harness.broker import Broker
from tests.harness.link_recorder import connected

ACL = """
user writer
topic readwrite t/#
"""
ECHOES: dict[str, Any] = {"echo_topic": "t/echo", "echo_every_s": 0.01}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker"), ACL) as broker:
        yield broker


@pytest.mark.parametrize(("topic", "code"), [("t/away", 0x10), ("denied", 0x87)])
def test_a_refused_message_is_reported_beside_the_echoes(broker: Broker, topic: str, code: int) -> None:
    """Otherwise the dispatcher would not take back an assignment that reached no worker."""
    packet = Packet(topic, b"1", tag="an assignment")

    async def scenario() -> None:
        async with connected(broker, "writer", "t/echo", **ECHOES) as writer:
            await writer.link.send([packet])
            assert await writer.next(PublishRefused) == PublishRefused(packet, code)

    asyncio.run(scenario())


def test_a_renewal_uses_the_new_user_name_and_password() -> None:
    link = Link(LinkSettings("localhost", 1, "w1", username="old", password=lambda: "1"), lambda _item: None)
    link.renew(LinkSettings("elsewhere", 2, "w2", username="new", password=lambda: "2"))
    identity = link._settings.identity()
    assert (identity.username, identity.password) == ("new", "2")
    assert (link._settings.host, link._settings.client_id) == ("localhost", "w1")
