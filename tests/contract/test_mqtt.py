"""The link against a real Mosquitto: the behaviour of the broker and gmqtt, and what the services must not notice of it."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stockworker.adapters.mqtt import Delayed, Delivery, LinkDown, LinkUp, PublishRefused
from stockworker.adapters.mqtt_wire import ConnectionEnd
from stockworker.adapters.tls import TlsFiles
from stockworker.logs.events import MessagesDropped
from stockworker.pki.certificates import Subject
from stockworker.protocol.body import MAX_PACKET
from stockworker.protocol.packet import Packet, Properties
from tests.harness.broker import Broker
from tests.harness.link_recorder import LinkRecorder, connected, settings_for
from tests.harness.proxy import Proxy

ACL = """\
user reader
topic read #
user writer
topic readwrite t/#
user other
topic readwrite t/#
user deaf
topic write t/#
"""
DURABLE: dict[str, Any] = {"clean_start": False, "session_expiry_s": 3600}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Not to be killed: all tests of the module share it."""
    with Broker(tmp_path_factory.mktemp("broker"), ACL) as broker:
        yield broker


def numbered(topic: str, count: int) -> list[Packet]:
    return [Packet(topic, str(number).encode()) for number in range(count)]


def test_messages_arrive_in_order_and_are_confirmed(broker: Broker) -> None:
    async def scenario() -> None:
        async with connected(broker, "reader", "t/order") as reader, connected(broker, "writer") as writer:
            await writer.link.send(numbered("t/order", 3000))
            assert await writer.link.drain(10)
            assert (writer.unacknowledged, writer.link.dropped) == (0, 0)
            await reader.next(Delivery, 3000)
            assert reader.bodies() == [packet.body for packet in numbered("t/order", 3000)]

    asyncio.run(scenario())


def test_everything_that_a_packet_says_arrives(broker: Broker) -> None:
    properties = Properties("application/json", "t/answers", b"\x00\xff", (("id", "j1"), ("id", "two"), ("ü", "€")))
    sent = [
        Packet("t/full", b"\x00body", 1, properties=properties),
        Packet("t/full", b"", 0),
        Packet("t/full", b"some", 0, properties=Properties(user=(("a", "b"),))),
        Packet("t/full", b"x" * 200_000, 1, properties=Properties(correlation_data=b"")),
    ]

    async def scenario() -> None:
        async with connected(broker, "reader", "t/full") as reader, connected(broker, "writer") as writer:
            await writer.link.send(sent)
            await reader.next(Delivery, len(sent))
            assert [delivery.packet for delivery in reader.all(Delivery)] == sent

    asyncio.run(scenario())


def test_a_retained_message_arrives_once_with_its_flag_and_never_later(tmp_path: Path) -> None:
    async def scenario(broker: Broker) -> None:
        async with connected(broker, "reader", "t/kept") as early, connected(broker, "writer") as writer:
            await writer.link.send([Packet("t/kept", b"on", retain=True), Packet("t/kept", b"off")])
            await early.next(Delivery, 2)
            assert [delivery.packet.retain for delivery in early.all(Delivery)] == [True, False]
            async with connected(broker, "reader", "t/kept", client_id="late") as late:
                await writer.link.send([Packet("t/kept", b"next")])
                assert (await late.next(Delivery)).packet == Packet("t/kept", b"next")

    with Broker(tmp_path, ACL, {"retain_available": None}) as broker:
        asyncio.run(scenario(broker))


def test_the_broker_disconnects_a_client_that_retains_a_message(broker: Broker) -> None:
    async def scenario() -> None:
        async with connected(broker, "writer") as writer:
            await writer.link.send([Packet("t/kept", b"on", retain=True)])
            assert "retain not supported (0x9a)" in (await writer.next(LinkDown)).reason

    asyncio.run(scenario())


def test_a_broker_with_default_limits_is_never_overrun(tmp_path: Path) -> None:
    async def scenario(broker: Broker) -> None:
        async with connected(broker, "reader", "t/#") as reader, connected(broker, "writer") as writer:
            most = 0
            for packet in numbered("t/burst", 600):
                await writer.link.send([packet])
                most = max(most, writer.unacknowledged)
            assert most == 18  # the broker allows 20, gmqtt 19, and one is kept free for SUBSCRIBE
            assert await writer.link.drain(10)
            await reader.next(Delivery, 600)

    with Broker(tmp_path, ACL, {"max_inflight_messages": None}) as broker:
        asyncio.run(scenario(broker))


def test_a_flood_of_qos_0_is_dropped_above_what_the_owner_has_not_handled(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stockworker.adapters.mqtt._UNHANDLED_BYTES_MAX", 20_000)
    flood = [Packet("t/flood", b"x" * 1000, qos=0)] * 100

    async def scenario() -> None:
        async with (
            connected(broker, "reader", "t/#", acknowledging=False) as reader,
            connected(broker, "writer") as writer,
        ):
            await writer.link.send([*flood, Packet("t/end", b"1")])
            await reader.until(lambda: b"1" in reader.bodies())  # QoS 1 is never dropped
            assert 0 < len(reader.bodies()) < 20
            reader.acknowledge(reader.all(Delivery))
            await writer.link.send([Packet("t/flood", b"later", qos=0)])
            await reader.until(lambda: b"later" in reader.bodies())

    asyncio.run(scenario())
    logged = [getattr(record, "event", None) for record in caplog.records]
    assert [event.topic for event in logged if isinstance(event, MessagesDropped)] == ["t/flood"]


def test_a_denied_message_comes_back(broker: Broker) -> None:
    async def scenario() -> None:
        async with connected(broker, "writer", "t/#") as writer:
            denied = Packet("elsewhere", b"x", tag="this one")
            await writer.link.send([Packet("t/mine", b"x"), denied])
            refused = await writer.next(PublishRefused)
            assert (refused.packet, refused.packet.tag, refused.reason_code) == (denied, "this one", 0x87)
            assert await writer.link.drain(10)
            assert writer.all(PublishRefused) == [refused]

    asyncio.run(scenario())


def test_a_discarded_session_forgets_its_messages_and_is_kept_from_then_on(broker: Broker) -> None:
    async def scenario() -> None:
        async with connected(broker, "writer") as writer:
            async with connected(broker, "reader", "t/old", client_id="again", **DURABLE):
                pass
            await writer.link.send([Packet("t/old", b"poison")])
            assert await writer.link.drain(10)
            async with connected(
                broker, "reader", "t/old", client_id="again", discard_session=True, **DURABLE
            ) as second:
                await writer.link.send([Packet("t/old", b"good")])
                await second.until(lambda: b"good" in second.bodies())
                assert b"poison" not in second.bodies()
            await writer.link.send([Packet("t/old", b"kept")])
            assert await writer.link.drain(10)
            async with connected(broker, "reader", "t/old", client_id="again", **DURABLE) as third:
                await third.until(lambda: b"kept" in third.bodies())

    asyncio.run(scenario())


def test_a_message_that_nobody_listens_to_comes_back(broker: Broker) -> None:
    async def scenario() -> None:
        async with connected(broker, "writer") as writer:
            await writer.link.send([Packet("t/nobody", b"x", tag=7)])
            refused = await writer.next(PublishRefused)
            assert (refused.packet.tag, refused.reason_code) == (7, 0x10)

    asyncio.run(scenario())


def test_a_packet_too_large_for_the_broker_is_not_sent(broker: Broker) -> None:
    async def scenario() -> None:
        async with connected(broker, "reader", "t/size") as reader, connected(broker, "writer") as writer:
            large = Packet("t/size", b"x" * MAX_PACKET)
            await writer.link.send([large, large, Packet("t/size", b"small")])
            assert [refused.reason_code for refused in writer.all(PublishRefused)] == [0x95, 0x95]
            assert (await reader.next(Delivery)).packet.body == b"small"
            assert writer.up

    asyncio.run(scenario())


def test_what_was_not_acknowledged_comes_again(broker: Broker) -> None:
    async def scenario() -> None:
        async with connected(broker, "writer") as writer:
            async with connected(broker, "reader", "t/again", acknowledging=False, **DURABLE) as first:
                await writer.link.send(numbered("t/again", 300))
                await first.next(Delivery, 300)
                first.acknowledge(first.all(Delivery)[:100])
            await writer.link.send([Packet("t/again", b"while away")])
            async with connected(broker, "reader", "t/again", **DURABLE) as second:
                await second.next(Delivery, 201)
                assert isinstance(second.items[0], LinkUp)
                assert second.bodies() == [str(number).encode() for number in range(100, 300)] + [b"while away"]
        async with connected(broker, "reader", clean_start=True):
            pass  # end the session

    asyncio.run(scenario())


def test_a_worker_gets_nothing_that_was_sent_while_it_was_away(broker: Broker) -> None:
    async def scenario() -> None:
        async with connected(broker, "writer") as writer:
            async with connected(broker, "reader", "t/away"):
                pass
            await writer.link.send([Packet("t/away", b"stale", tag=1)])
            assert (await writer.next(PublishRefused)).reason_code == 0x10
            async with connected(broker, "reader", "t/away") as reader:
                await writer.link.send([Packet("t/away", b"fresh")])
                assert (await reader.next(Delivery)).packet.body == b"fresh"

    asyncio.run(scenario())


def test_a_crash_of_the_broker_is_told_and_survived(tmp_path: Path) -> None:
    async def scenario(broker: Broker) -> None:
        async with connected(broker, "reader", "t/#") as reader, connected(broker, "writer") as writer:
            await writer.link.send([Packet("t/1", b"before")])
            await reader.next(Delivery)
            assert await writer.link.drain(10)
            await asyncio.to_thread(broker.kill)
            await reader.next(LinkDown)
            await writer.next(LinkDown)
            await writer.link.send(numbered("t/lost", 3))
            assert (writer.up, writer.link.dropped, writer.last_received_s) == (False, 3, None)
            await reader.next(LinkDown, 2)
            assert "connection refused" in reader.all(LinkDown)[1].reason

            await asyncio.to_thread(broker.start)
            await reader.next(LinkUp, 2)
            await writer.next(LinkUp, 2)
            await writer.link.send([Packet("t/2", b"after")])
            await reader.next(Delivery, 2)
            assert reader.bodies() == [b"before", b"after"]
            assert await writer.link.drain(10)

    with Broker(tmp_path, ACL) as broker:
        asyncio.run(scenario(broker))


def test_a_lost_connection_leaves_its_buffers_to_nobody(broker: Broker) -> None:
    async def scenario() -> None:
        async with connected(broker, "writer", keepalive_s=1) as writer:
            assert writer.link._connection is not None
            wire = writer.link._connection.wire
            session = weakref.ref(wire._transport.get_extra_info("ssl_object"))
            wire.abort(ConnectionEnd("a test"))
            del wire
            await writer.next(LinkUp, 2)
            assert session() is None

    gc.collect()
    gc.disable()  # what it would find only after hours must be gone without it
    try:
        asyncio.run(scenario())
    finally:
        gc.enable()


def test_a_message_is_not_confirmed_in_place_of_an_older_one(tmp_path: Path) -> None:
    async def scenario(broker: Broker) -> None:
        async with connected(broker, "writer") as writer:
            async with connected(broker, "reader", "t/#", acknowledging=False, **DURABLE) as reader:
                await writer.link.send([Packet("t/1", b"before")])
                before = await reader.next(Delivery)
                await asyncio.to_thread(broker.kill)
                await asyncio.to_thread(broker.start)
                await reader.next(LinkUp, 2)
                await writer.next(LinkUp, 2)
                await writer.link.send([Packet("t/2", b"after")])
                after = await reader.next(Delivery, 2)
                assert after.packet_id == before.packet_id  # the broker has lost the session, and counts from one again
                reader.acknowledge([before])
            async with connected(broker, "reader", "t/#", **DURABLE) as again:
                assert (await again.next(Delivery)).packet.body == b"after"

    with Broker(tmp_path, ACL) as broker:
        asyncio.run(scenario(broker))


def test_a_peer_that_vanished_with_our_data_unread_is_given_up(tmp_path: Path) -> None:
    async def scenario(broker: Broker) -> None:
        async with connected(broker, "writer", keepalive_s=1) as writer:
            broker.pause()
            sending = asyncio.create_task(writer.link.send([Packet("t/x", b"x" * 300_000)] * 50))
            assert "no data" in (await writer.next(LinkDown)).reason
            await sending
            assert writer.link.dropped == 50
            broker.resume()
            await writer.next(LinkUp, 2)

    with Broker(tmp_path, ACL) as broker:
        asyncio.run(scenario(broker))


def test_an_idle_link_stays_up(broker: Broker) -> None:
    async def scenario() -> None:
        async with connected(broker, "writer", keepalive_s=1) as writer, asyncio.timeout(10):
            for _ping in range(2):
                silence = 0.0
                while (now := writer.last_received_s or 0.0) >= silence:
                    silence = now
                    await asyncio.sleep(0.02)
            assert writer.all(LinkDown) == []

    asyncio.run(scenario())


def test_a_link_that_hears_itself_stays_up(broker: Broker) -> None:
    async def scenario() -> None:
        async with connected(
            broker, "writer", "t/echo", keepalive_s=1, echo_topic="t/echo", echo_every_s=0.01
        ) as writer:
            async with connected(broker, "reader", "t/echo") as reader:
                await reader.next(Delivery, 10)
            assert [type(item) for item in writer.items] == [LinkUp]

    asyncio.run(scenario())


def test_a_link_that_may_not_read_what_it_says_to_itself_is_no_link(broker: Broker) -> None:
    async def scenario() -> str:
        async with connected(broker, "deaf", "t/echo", keepalive_s=1, echo_topic="t/echo") as deaf:
            return (await deaf.next(LinkDown)).reason

    assert asyncio.run(scenario()).endswith(
        "echoes on t/echo do not return: does the ACL allow this client to read it?"
    )


def test_a_broker_with_an_older_acl_is_told_of_once_and_served(broker: Broker) -> None:
    async def scenario() -> None:
        settings: dict[str, Any] = {"keepalive_s": 1, "echo_topic": "elsewhere", "echo_every_s": 0.01}
        async with connected(broker, "writer", "elsewhere", "t/#", **settings) as writer:
            assert (await writer.next(PublishRefused)).packet.topic == "elsewhere"
            for number in range(1, 40):
                await writer.link.send([Packet("t/x", b"x")])
                await writer.next(Delivery, number)
                await asyncio.sleep(0.05)  # all in all longer than an echo may be missing
            assert [type(item) for item in writer.items if not isinstance(item, Delivery)] == [LinkUp, PublishRefused]

    asyncio.run(scenario())


def test_a_broker_that_saves_up_small_packets_is_found_out(tmp_path: Path) -> None:
    async def scenario(broker: Broker) -> Delayed:
        async with connected(broker, "writer", "t/echo", echo_topic="t/echo", echo_every_s=0.01) as writer:
            return await writer.next(Delayed)

    with Broker(tmp_path, ACL, {"set_tcp_nodelay": None}) as broker:
        delayed = asyncio.run(scenario(broker))
    assert delayed.round_trip_s > delayed.network_s


def test_two_clients_with_one_id_suspect_each_other(broker: Broker) -> None:
    async def scenario() -> None:
        one, two = (LinkRecorder(settings_for(broker, "writer", client_id="same", backoff_cap_s=0.2)) for _ in range(2))
        runs = [asyncio.create_task(recorder.link.run()) for recorder in (one, two)]

        def suspects() -> bool:
            return "does another client use the ID 'same'" in one.all(LinkDown)[-1].reason

        await one.next(LinkDown)
        await one.until(suspects)
        await asyncio.gather(one.link.close(), two.link.close())
        await asyncio.gather(*runs)  # Mosquitto before 2.1 does not prove it, so neither gives up

    asyncio.run(scenario())


def test_a_broker_that_crashes_again_and_again_is_not_taken_for_a_second_client(tmp_path: Path) -> None:
    async def scenario(broker: Broker) -> None:
        recorder = LinkRecorder(settings_for(broker, "writer", backoff_first_s=0.5, backoff_cap_s=0.5), jitter=1.0)
        run = asyncio.create_task(recorder.link.run())
        for connection in range(1, 8):
            await recorder.next(LinkUp, connection)
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)
        await recorder.next(LinkUp, 8)
        await recorder.link.close()
        await run

    with Broker(tmp_path, ACL) as broker:
        asyncio.run(scenario(broker))


def test_a_network_that_resets_every_connection_is_not_taken_for_a_second_client(broker: Broker) -> None:
    async def scenario() -> None:
        with Proxy(broker.port) as network:
            recorder = LinkRecorder(
                settings_for(broker, "writer", port=network.port, backoff_first_s=0.01, backoff_cap_s=30)
            )
            run = asyncio.create_task(recorder.link.run())
            for connection in range(1, 8):
                await recorder.next(LinkUp, connection)
                await asyncio.to_thread(network.reset)
            await recorder.next(LinkUp, 8)
            await recorder.link.close()
            await run

    asyncio.run(scenario())


WILL = Packet("t/will", b"gone", properties=Properties(user=(("nonce", "7"),)))


def test_close_keeps_the_will_back(broker: Broker) -> None:
    async def scenario() -> None:
        async with connected(broker, "reader", "t/will") as reader:
            async with connected(broker, "writer", will=WILL) as writer:
                await writer.link.send([Packet("t/will", b"bye")])
            async with connected(broker, "other") as other:
                await other.link.send([Packet("t/will", b"end")])
            await reader.next(Delivery, 2)
            assert reader.bodies() == [b"bye", b"end"]

    asyncio.run(scenario())


def test_a_link_that_dies_leaves_its_will(broker: Broker) -> None:
    async def scenario() -> None:
        async with connected(broker, "reader", "t/will") as reader:
            writer = LinkRecorder(settings_for(broker, "writer", will=WILL))
            run = asyncio.create_task(writer.link.run())
            await writer.next(LinkUp)
            run.cancel()
            assert (await reader.next(Delivery)).packet == WILL
            await asyncio.wait({run})
            assert not writer.up

    asyncio.run(scenario())


async def reason_of_failure(recorder: LinkRecorder, part: str = "") -> str:
    """The reason in the next report of the link that contains a text."""

    def fitting() -> list[str]:
        return [down.reason for down in recorder.all(LinkDown) if part in down.reason]

    run = asyncio.create_task(recorder.link.run())
    await recorder.until(lambda: bool(fitting()))
    await recorder.link.close()
    await run
    return fitting()[0]


def test_a_broker_of_another_authority_is_not_trusted(broker: Broker, tmp_path: Path) -> None:
    async def scenario() -> str:
        own = stranger.identity("w1")
        files = TlsFiles(stranger.ca_file, own.certificate, own.key)
        return await reason_of_failure(LinkRecorder(settings_for(broker, "writer", tls=files)))

    with Broker(tmp_path, ACL) as stranger:
        reason = asyncio.run(scenario())
    assert reason.startswith(f"broker localhost:{broker.port}: the broker's certificate does not verify: ")
    assert reason.endswith("the CA file must be the one of the authority that issued it")


@pytest.mark.parametrize(("host", "kind"), [("localhost", "name"), ("127.0.0.1", "address")])
def test_a_broker_under_another_name_is_not_trusted(tmp_path: Path, host: str, kind: str) -> None:
    async def scenario(broker: Broker) -> str:
        return await reason_of_failure(LinkRecorder(settings_for(broker, "writer", host=host)))

    with Broker(tmp_path, ACL, names=["broker.example.net"]) as broker:
        reason = asyncio.run(scenario(broker))
    assert f"certificate is not valid for '{host}'" in reason
    assert f"issue one for this {kind}" in reason


def test_without_a_client_certificate_the_broker_says_so(broker: Broker) -> None:
    async def scenario() -> str:
        recorder = LinkRecorder(settings_for(broker, "writer", tls=TlsFiles(broker.ca_file)))
        # Its word is lost where the reset of the connection overtakes it: a matter of luck, each time.
        return await reason_of_failure(recorder, "client certificate")

    assert "client certificate" in asyncio.run(scenario())


def test_an_expired_client_certificate_is_suspected(broker: Broker, tmp_path: Path) -> None:
    async def scenario() -> str:
        return await reason_of_failure(LinkRecorder(settings_for(broker, "writer", tls=files)))

    certificate, key = broker.authority.issue(Subject("writer"), datetime(2001, 1, 1, tzinfo=UTC)).save(tmp_path, "old")
    files = TlsFiles(broker.ca_file, certificate, key)
    reason = asyncio.run(scenario())
    assert "the client certificate" in reason
    assert str(certificate) in reason


def test_a_new_certificate_is_taken_at_once_when_told_so(broker: Broker) -> None:
    async def scenario() -> None:
        async with (
            connected(broker, "reader", "t/will") as reader,
            connected(broker, "writer", will=WILL, backoff_first_s=60.0) as recorder,
        ):
            settings = settings_for(broker, "writer")
            recorder.link.renew(settings)
            assert recorder.up
            broker.reissue("writer")
            recorder.link.renew(settings_for(broker, "writer"))
            await recorder.next(LinkUp, 2)
            assert "reconnecting with the new certificate" in recorder.all(LinkDown)[0].reason
            recorder.link.renew(settings_for(broker, "writer"))
            await recorder.link.send([Packet("t/will", b"still here")])
            await reader.next(Delivery)
            assert reader.bodies() == [b"still here"]  # and no will before it
            assert len(recorder.all(LinkDown)) == 1

    asyncio.run(scenario())


def test_a_new_certificate_is_taken_by_the_next_connection_once_it_is_whole(broker: Broker) -> None:
    async def scenario() -> None:
        with Proxy(broker.port) as network:
            async with connected(broker, "half", port=network.port) as recorder:
                before = broker.identity("half").certificate.read_bytes()
                broker.reissue("half")
                after = broker.identity("half").certificate.read_bytes()
                broker.identity("half").certificate.write_bytes(before)  # copied after the key
                await asyncio.to_thread(network.reset)
                await recorder.until(
                    lambda: any("not the private key of" in down.reason for down in recorder.all(LinkDown))
                )
                broker.identity("half").certificate.write_bytes(after)
                await recorder.next(LinkUp, 2)

    asyncio.run(scenario())


def test_closing_a_link_that_is_not_up_ends_it(broker: Broker) -> None:
    async def scenario() -> None:
        never_run = LinkRecorder(settings_for(broker, "writer"))
        await never_run.link.close()
        await never_run.link.run()
        assert never_run.items == []

    asyncio.run(scenario())


def test_leaving_says_nothing_of_a_loss(broker: Broker) -> None:
    async def scenario() -> None:
        async with connected(broker, "writer") as writer:
            pass
        assert [type(item) for item in writer.items] == [LinkUp]
        assert not writer.up
        await writer.link.close()

    asyncio.run(scenario())
