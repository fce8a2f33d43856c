"""When a broker that confirms nothing is taken for mute."""

from stockworker.adapters.mqtt_unconfirmed import Unconfirmed
from stockworker.protocol.packet import Packet

PACKET = Packet("t", b"x")
NEVER = -1.0
PATIENCE_S = 10.0


def sent(*times: float) -> Unconfirmed:
    unconfirmed = Unconfirmed()
    for packet_id, at in enumerate(times, start=1):
        unconfirmed.add(packet_id, PACKET, at)
    return unconfirmed


def test_who_owes_nothing_misses_nothing() -> None:
    unconfirmed = sent(1.0)
    assert unconfirmed.confirmed(1, 2.0) == PACKET
    assert unconfirmed.confirmed(1, 3.0) is None
    assert (len(unconfirmed), unconfirmed.oldest_at) == (0, None)
    assert unconfirmed.missing_at(PATIENCE_S, NEVER, NEVER) is None


def test_patience_begins_with_the_oldest() -> None:
    assert sent(1.0, 8.0).missing_at(PATIENCE_S, NEVER, NEVER) == 11.0


def test_each_confirmation_gives_new_hope_to_the_others() -> None:
    unconfirmed = sent(1.0, 8.0)
    unconfirmed.confirmed(2, 9.0)
    assert unconfirmed.oldest_at == 1.0
    assert unconfirmed.missing_at(PATIENCE_S, NEVER, NEVER) == 19.0


def test_what_has_not_left_yet_can_not_be_confirmed() -> None:
    unconfirmed = sent(1.0)
    unconfirmed.leaving(100.0)
    assert unconfirmed.missing_at(PATIENCE_S, NEVER, NEVER) == 110.0


def test_small_messages_excuse_a_broker_for_a_while_and_large_ones_for_as_long_as_they_take() -> None:
    unconfirmed = sent(1.0)
    assert unconfirmed.missing_at(PATIENCE_S, received_at=21.0, part_at=NEVER) == 31.0
    assert unconfirmed.missing_at(PATIENCE_S, received_at=500.0, part_at=NEVER) == 41.0
    assert unconfirmed.missing_at(PATIENCE_S, received_at=500.0, part_at=500.0) == 510.0


def test_a_lost_connection_owes_nothing() -> None:
    unconfirmed = sent(1.0)
    unconfirmed.clear()
    assert unconfirmed.missing_at(PATIENCE_S, NEVER, NEVER) is None
