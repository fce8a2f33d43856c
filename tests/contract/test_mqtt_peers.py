"""The link against peers that a real broker only plays on its worst days: mute, refusing, rambling."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stockworker.adapters.mqtt import Backoff, Delivery, LinkDown, LinkUp, PublishRefused
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.tls import TlsFiles
from stockworker.errors import ConnectionFailed, ProtocolMisuse
from stockworker.pki.certificates import Authority
from stockworker.protocol.packet import Packet
from tests.harness.link_recorder import TIMEOUT_S, LinkRecorder, running

CONNECT_FLAGS, CLEAN_START = 9, 0x02  # the offset behind a length of one byte; the flag
NOW = datetime(2026, 3, 1, tzinfo=UTC)
CONNACK = bytes.fromhex("20 03 00 00 00")
CONNACK_RECEIVE_MAXIMUM_1 = bytes.fromhex("20 06 00 00 03 21 00 01")
PINGRESP = bytes.fromhex("d0 00")
CONNACK_KEEPALIVE_1 = bytes.fromhex("20 06 00 00 03 13 00 01")


class Peer:
    """Accepts connections, and answers each packet with the next bytes of its script; then it is mute.

    `byte_s`: how long each byte takes, in seconds.
    """

    def __init__(self, *script: bytes, byte_s: float = 0.0) -> None:
        self.port = 0
        self.connections = 0
        self.accepted = asyncio.Semaphore(0)
        self.first_packets: asyncio.Queue[bytes] = asyncio.Queue()
        self._script = script
        self._byte_s = byte_s

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.accepted.release()
        try:
            for number, answer in enumerate(self._script):
                received = await reader.read(65_536)
                if number == 0:
                    self.first_packets.put_nowait(received)
                await self._answer(writer, answer)
            while await reader.read(65_536):
                pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        for number in range(len(answer)) if self._byte_s else ():
            writer.write(answer[number : number + 1])
            await asyncio.sleep(self._byte_s)
        if not self._byte_s:
            writer.write(answer)
        await writer.drain()

    def settings(self, **changes: Any) -> LinkSettings:
        return LinkSettings("127.0.0.1", self.port, "w1", **({"backoff_first_s": 0.05} | changes))


@asynccontextmanager
async def serving(*script: bytes, byte_s: float = 0.0) -> AsyncIterator[Peer]:
    peer = Peer(*script, byte_s=byte_s)
    async with await asyncio.start_server(peer.serve, "127.0.0.1", 0) as server:
        peer.port = server.sockets[0].getsockname()[1]
        yield peer


async def first_reason(recorder: LinkRecorder) -> str:
    run = asyncio.create_task(recorder.link.run())
    reason = (await recorder.next(LinkDown)).reason
    await recorder.link.close()
    await run
    return reason


def test_a_mute_peer_is_given_up_and_tried_again() -> None:
    async def scenario() -> None:
        async with serving() as peer:
            recorder = LinkRecorder(peer.settings(connect_timeout_s=0.1))
            run = asyncio.create_task(recorder.link.run())
            down = await recorder.next(LinkDown)
            assert "no answer within 0.1 s, waiting for CONNACK" in down.reason
            async with asyncio.timeout(10):
                for _attempt in range(3):
                    await peer.accepted.acquire()
            await recorder.link.close()
            await run
            assert recorder.items == [down]  # the link reports one reason once

    asyncio.run(scenario())


def test_a_peer_that_grants_no_subscription_is_given_up() -> None:
    async def scenario() -> str:
        async with serving(CONNACK) as peer:
            return await first_reason(LinkRecorder(peer.settings(connect_timeout_s=0.1, subscriptions=("a",))))

    assert "waiting for SUBACK" in asyncio.run(scenario())


def test_a_refused_subscription_is_named() -> None:
    async def scenario() -> str:
        async with serving(CONNACK, bytes.fromhex("90 05 00 01 00 01 87")) as peer:
            return await first_reason(LinkRecorder(peer.settings(subscriptions=("mine", "other/topic"))))

    assert "refused the subscription to other/topic: not authorized (0x87)" in asyncio.run(scenario())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x01, "use Mosquitto 2.0 or newer"),
        (0x85, "give this client another ID"),
        (0x86, "bad user name or password"),
        (0x87, "check the user name and the password"),
    ],
)
def test_a_refusal_for_good_ends_the_link(code: int, words: str) -> None:
    async def scenario() -> None:
        async with serving(bytes([0x20, 3, 0, code, 0])) as peer:
            recorder = LinkRecorder(peer.settings())
            with pytest.raises(ConnectionFailed, match=rf"broker 127\.0\.0\.1:{peer.port}: .*{words}"):
                await recorder.link.run()
            await recorder.link.close()
            assert peer.connections == 1

    asyncio.run(scenario())


def test_a_refusal_for_now_does_not() -> None:
    async def scenario() -> str:
        async with serving(bytes.fromhex("20 03 00 89 00")) as peer:
            return await first_reason(LinkRecorder(peer.settings()))

    assert "server busy (0x89)" in asyncio.run(scenario())


def test_the_reason_of_a_disconnect_is_told() -> None:
    # PINGREQ and others are answered with DISCONNECT 0x8b, reason string "bye"
    disconnect = bytes.fromhex("e0 08 8b 06 1f 00 03") + b"bye"

    async def scenario() -> str:
        async with serving(CONNACK + disconnect) as peer:
            return await first_reason(LinkRecorder(peer.settings()))

    assert asyncio.run(scenario()).endswith("the broker disconnected this client: server shutting down (0x8b): bye")


def test_a_broker_that_says_over_and_over_that_the_session_was_taken_over_proves_a_second_client() -> None:
    async def scenario() -> None:
        async with serving(CONNACK + bytes.fromhex("e0 01 8e")) as peer:
            recorder = LinkRecorder(peer.settings())
            with pytest.raises(ConnectionFailed, match="another client uses the ID 'w1'"):
                await recorder.link.run()
            assert peer.connections == 5

    asyncio.run(scenario())


def test_a_broker_that_hangs_up_for_ever_never_ends_the_link() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(CONNACK)
        await writer.drain()
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            recorder = LinkRecorder(LinkSettings("127.0.0.1", port, "w1", backoff_first_s=0.01, backoff_cap_s=0.01))
            run = asyncio.create_task(recorder.link.run())
            reason = (await recorder.next(LinkDown, 60)).reason
            assert "60 times in a row soon after it accepted one: does another client use the ID 'w1'" in reason
            assert "or does the broker crash?" in reason
            await recorder.link.close()
            await run

    asyncio.run(scenario())


def test_a_link_that_was_healthy_comes_back_soon_each_time() -> None:
    async def scenario() -> None:
        async with serving(CONNACK + bytes.fromhex("e0 01 8e")) as peer, asyncio.timeout(20):
            recorder = LinkRecorder(peer.settings(backoff_first_s=0.01, healthy_after_s=0), jitter=1.0)
            run = asyncio.create_task(recorder.link.run())
            await recorder.next(LinkUp, 13)  # doubled each time, the pauses would add up to 41 s
            await recorder.link.close()
            await run

    asyncio.run(scenario())


def test_small_packets_are_not_held_back_and_dead_peers_not_kept() -> None:
    async def scenario() -> tuple[int, int]:
        async with serving(CONNACK) as peer, running(LinkRecorder(peer.settings(keepalive_s=20))) as recorder:
            assert recorder.link._connection is not None
            connected = recorder.link._connection.wire._transport.get_extra_info("socket")
            return (
                connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
                connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
            )

    assert asyncio.run(scenario()) == (1, 40_000)


def test_a_broken_packet_ends_the_connection() -> None:
    async def scenario() -> str:
        async with serving(CONNACK + bytes.fromhex("32 03 00 09 61")) as peer:  # a topic longer than its packet
            return await first_reason(LinkRecorder(peer.settings()))

    assert "does not follow MQTT 5" in asyncio.run(scenario())


def test_after_a_packet_that_can_not_be_handled_the_session_is_discarded() -> None:
    """The broker would send it again."""

    async def scenario() -> list[int]:
        async with serving(CONNACK + bytes.fromhex("32 03 00 09 61")) as peer:
            recorder = LinkRecorder(peer.settings(clean_start=False, session_expiry_s=3600))
            running_link = asyncio.create_task(recorder.link.run())
            async with asyncio.timeout(TIMEOUT_S):
                packets = [await peer.first_packets.get() for _ in range(2)]
            await recorder.link.close()
            await running_link
        return [packet[CONNECT_FLAGS] & CLEAN_START for packet in packets]

    assert asyncio.run(scenario()) == [0, CLEAN_START]


def test_a_silent_peer_is_noticed_at_the_pace_that_it_asked_for() -> None:
    async def scenario() -> str:
        async with serving(CONNACK_KEEPALIVE_1) as peer:
            return await first_reason(LinkRecorder(peer.settings(keepalive_s=600)))

    assert "no data from the broker for 2 s" in asyncio.run(scenario())


def test_a_large_message_over_a_slow_line_is_no_silence() -> None:
    large = bytes.fromhex("30 18 00 01 74 00") + b"x" * 20

    async def scenario() -> None:
        async with (
            serving(CONNACK + large, byte_s=0.2) as peer,
            running(LinkRecorder(peer.settings(keepalive_s=1))) as recorder,
        ):
            assert (
                await recorder.next(Delivery)
            ).packet.body == b"x" * 20  # on its way for longer than 1.75 keepalives
            assert recorder.all(LinkDown) == []

    asyncio.run(scenario())


def test_send_waits_for_the_broker_and_gives_up_with_the_connection() -> None:
    async def scenario() -> None:
        async with serving(CONNACK_RECEIVE_MAXIMUM_1) as peer:
            recorder = LinkRecorder(peer.settings(keepalive_s=1, backoff_first_s=600))
            async with running(recorder):
                await recorder.link.send([Packet("t", b"1")])
                sending = asyncio.create_task(recorder.link.send([Packet("t", b"2")]))
                assert not await recorder.link.drain(0.1)
                assert (sending.done(), recorder.unacknowledged) == (False, 1)
                assert recorder.link._unconfirmed.oldest_at is not None
                await recorder.next(LinkDown)
                await sending
                assert (recorder.unacknowledged, recorder.link.dropped) == (0, 2)
                assert not recorder.up

    asyncio.run(scenario())


def test_who_confirms_nothing_is_given_up_though_something_is_on_its_way_to_it_at_any_time() -> None:
    async def scenario() -> str:
        async with (
            serving(CONNACK, 100 * PINGRESP, byte_s=0.2) as peer,
            running(LinkRecorder(peer.settings(keepalive_s=1))) as recorder,
        ):
            await recorder.link.send([Packet("t", b"1")])
            while not recorder.all(LinkDown):
                await recorder.link.send([Packet("t", b"2", qos=0)])
                await asyncio.sleep(0.005)
            return recorder.all(LinkDown)[0].reason

    assert "the broker confirms no messages" in asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_S))


def test_drain_is_not_fooled_by_a_loss() -> None:
    async def scenario() -> None:
        async with serving(CONNACK) as peer, running(LinkRecorder(peer.settings(keepalive_s=1))) as recorder:
            await recorder.link.send([Packet("t", b"1")])
            assert not await recorder.link.drain(20)
            await recorder.next(LinkDown)

    asyncio.run(scenario())


def test_messages_that_come_before_the_subscription_is_granted_are_told_after_it() -> None:
    kept = bytes.fromhex("3a 09 00 01 74 00 07 00") + b"old"  # QoS 1, DUP, topic "t", packet id 7
    suback = bytes.fromhex("90 04 00 01 00 01")
    live = bytes.fromhex("30 07 00 01 74 00") + b"new"

    async def scenario() -> None:
        async with serving(CONNACK + kept, suback + live) as peer:
            async with running(LinkRecorder(peer.settings(subscriptions=("t",)))) as recorder:
                await recorder.next(Delivery, 2)
            assert [type(item) for item in recorder.items] == [LinkUp, Delivery, Delivery]
            assert recorder.bodies() == [b"old", b"new"]

    asyncio.run(scenario())


def test_packets_too_large_use_up_nothing() -> None:
    connack = bytes.fromhex("20 0b 00 00 08 27 00 00 00 40 21 00 14")  # packets up to 64 bytes, 20 at a time

    async def scenario() -> None:
        async with serving(connack) as peer, running(LinkRecorder(peer.settings())) as recorder:
            await recorder.link.send([Packet("t", b"x" * 64)] * 50)
            await recorder.link.send([Packet("t", b"x" * 50)])
            assert [refused.reason_code for refused in recorder.all(PublishRefused)] == [0x95] * 50
            assert recorder.unacknowledged == 1

    asyncio.run(scenario())


def test_every_failure_code_of_a_puback_comes_back() -> None:
    answers = CONNACK, bytes.fromhex("40 04 00 01 97 00")  # quota exceeded

    async def scenario() -> None:
        async with serving(*answers) as peer, running(LinkRecorder(peer.settings())) as recorder:
            await recorder.link.send([Packet("t", b"1", tag="a")])
            assert (await recorder.next(PublishRefused)) == PublishRefused(Packet("t", b"1"), 0x97)

    asyncio.run(scenario())


def test_a_port_without_tls_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(Authority.create("any", NOW).certificate_pem)

    async def scenario() -> str:
        async with serving(b"220 mail.example.net ESMTP\r\n") as peer:
            return await first_reason(LinkRecorder(peer.settings(tls=TlsFiles(tmp_path / "ca.crt"))))

    assert asyncio.run(scenario()).endswith("the peer does not use TLS: is this the broker's TLS port?")


def test_a_closed_port_is_named() -> None:
    async def scenario() -> str:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            settings = LinkSettings("localhost", unused.getsockname()[1], "w1")
            return await first_reason(LinkRecorder(settings))

    assert asyncio.run(scenario()).endswith("connection refused: is the broker running, and is this its port?")


def test_an_impossible_host_name_is_named() -> None:
    async def scenario() -> str:
        return await first_reason(LinkRecorder(LinkSettings("broker..example", 8883, "w1")))

    assert "can't resolve the host name" in asyncio.run(scenario())


@pytest.mark.parametrize("client_id", ["", "wörker"])
def test_a_client_id_that_gmqtt_would_garble_is_refused(client_id: str) -> None:
    with pytest.raises(ProtocolMisuse, match="must be ASCII"):
        LinkSettings("localhost", 8883, client_id)


def test_secrets_do_not_show() -> None:
    assert "hunter2" not in repr(LinkSettings("localhost", 8883, "w1", (), "user", lambda: "hunter2"))


def test_attempts_spread_over_a_time_that_doubles_up_to_a_cap() -> None:
    backoff = Backoff(first_s=0.5, cap_s=60, random=lambda: 0.5)
    assert [backoff.next_s() for _ in range(9)] == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30]
    assert all(backoff.next_s() == 30 for _ in range(5000))
    backoff.reset()
    assert backoff.next_s() == 0.25
