"""Defaults and bounds that other versions rely on: they are in stored files, and in messages that leave a field out."""

from typing import get_args

import pytest

from stockworker.protocol import values
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.ids import Token, WorkerId
from stockworker.protocol.job import Outcome, Priority
from stockworker.protocol.messages import Stats
from stockworker.protocol.packet import MAX_PROPERTIES, MAX_USER_PROPERTIES, Packet
from stockworker.protocol.sealed import LONGEST_ERROR
from stockworker.protocol.views import WorkerView
from stockworker.protocol.wire import Integer


def test_the_store_keeps_priorities_as_these_numbers() -> None:
    assert {priority.name: priority.value for priority in Priority} == {"HIGH": 0, "NORMAL": 1, "LOW": 2}


def test_a_result_that_names_nothing_else_is_neither_permanent_nor_measured() -> None:
    result = AttemptResult(Token("t"), Outcome.OK)
    assert (result.result, result.error, result.permanent, result.ran_s) == (None, None, False, None)


def test_a_worker_is_not_drained_and_nothing_is_left_out_unless_a_message_says_so() -> None:
    worker = WorkerView(WorkerId("w1"), online=True, slots=1, leases=0, types=(), seen_s=0.0, version="1")
    assert (worker.drained, worker.certificate_days, worker.types_omitted) == (False, None, 0)
    assert worker.market_store is None
    stats = Stats(None, "incarnation", "1", 0.0, (), (), (), ())
    assert (stats.certificate_days, stats.queues_omitted, stats.workers_omitted) == (None, 0, 0)


def test_a_packet_is_confirmed_and_not_kept_unless_it_says_so() -> None:
    packet = Packet("t", b"")
    assert (packet.qos, packet.retain, packet.tag, packet.fault) == (1, False, None, "")


@pytest.mark.parametrize(
    ("kind", "lowest", "highest"),
    [
        (values.Attempts, 0, 2_147_483_648),
        (values.AttemptNumber, 1, 2_147_483_648),
        (values.Count, 0, 9_007_199_254_740_992),
        (values.Days, -2_147_483_648, 2_147_483_648),
        (values.Slots, 1, 1024),
        (values.Busy, 0, 1024),
    ],
)
def test_whole_numbers_of_messages_have_these_bounds(kind: object, lowest: int, highest: int) -> None:
    _, integer = get_args(kind)
    assert isinstance(integer, Integer)
    assert (integer.lowest, integer.highest) == (lowest, highest)


def test_messages_of_other_versions_have_this_room() -> None:
    assert (MAX_PROPERTIES, MAX_USER_PROPERTIES, LONGEST_ERROR) == (8192, 64, 1900)
