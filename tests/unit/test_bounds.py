"""The numbers that peers and operators rely on. A change of one is a change of the protocol or of the promises."""

from typing import Any

import pytest

from stockworker.dispatcher.policy import Policy
from stockworker.protocol import body
from stockworker.protocol.codec_submit import MAX_JOBS
from stockworker.protocol.job import JobOptions
from stockworker.protocol.lifecycle import State
from stockworker.protocol.packet import MAX_PROPERTIES
from stockworker.protocol.sealed import LONGEST_ERROR
from stockworker.protocol.values import (
    AttemptNumber,
    Attempts,
    Busy,
    Count,
    Counters,
    Days,
    LeaseTime,
    Seconds,
    ShortText,
    Slots,
    StateCounts,
    Timeout,
    Version,
)
from stockworker.protocol.wire import Duration, Integer, Kind, Table, Text, kind_of, plan_of
from stockworker.worker.output import DEFAULT_KEPT, MOST_KEPT


def test_the_sizes_of_messages() -> None:
    assert (body.MAX_BODY, body.MAX_PACKET, body.MAX_CONTENT, body.MAX_TEXT) == (262_144, 327_680, 245_760, 2048)
    assert (body.MAX_LIST, body.MAX_LEASES, MAX_JOBS, MAX_PROPERTIES) == (64, 1000, 256, 8192)
    assert LONGEST_ERROR == 1900


def test_the_size_of_an_output() -> None:
    assert (body.MAX_OUTPUT, DEFAULT_KEPT, MOST_KEPT) == (196_608, 65_536, 131_072)
    assert body.output_room(None, None) == body.output_room("x" * 63_000, None) == body.MAX_OUTPUT
    assert body.output_room("x" * 100_000, None) == 262_144 - 1024 - 512 - 100_002 - 2
    assert body.output_room("x" * 100_000, "é\n") == 262_144 - 1024 - 512 - 100_002 - 6
    assert body.output_room("x" * (body.MAX_CONTENT - 2), None) == 14_846


KINDS: list[tuple[Any, Kind]] = [
    (Attempts, Integer(0, 2**31)),
    (AttemptNumber, Integer(1, 2**31)),
    (Count, Integer(0, 2**53)),
    (Days, Integer(-(2**31), 2**31)),
    (Slots, Integer(1, 1024)),
    (Busy, Integer(0, 1024)),
    (Seconds, Duration(0.0, 1e12)),
    (Timeout, Duration(0.001, 2_592_000.0)),
    (LeaseTime, Duration(0.001, 86_400.0)),
    (StateCounts, Table(kind_of(State), Integer(0, 2**53))),
    (Counters, Table(Text(), Integer(0, 2**53))),
    (ShortText, Text(2048)),
    (Version, Text(64)),
]


@pytest.mark.parametrize(("hint", "kind"), KINDS)
def test_the_kinds_of_values(hint: Any, kind: Kind) -> None:
    found = kind_of(hint)
    assert (type(found), found.passes, found.notation) == (type(kind), kind.passes, kind.notation)


@pytest.mark.parametrize("name", ["max_attempts", "max_crashes"])
def test_the_attempts_of_a_job(name: str) -> None:
    (kind,) = (each.kind for each in plan_of(JobOptions).fields if each.attribute == name)
    assert (kind.passes, kind.notation) == (Integer(1, 1000).passes, Integer(1, 1000).notation)


def test_the_times_of_the_dispatcher() -> None:
    policy = Policy()
    assert (policy.lease_s, policy.max_wait_s, policy.worker_timeout_s, policy.reoffer_s) == (30.0, 900.0, 90.0, 2.0)
    assert (policy.keep_ended_s, policy.refusal_s, policy.forget_worker_s) == (604_800.0, 300.0, 86_400.0)
    assert (policy.timeout_grace_s, policy.accept_shared_jobs) == (300.0, True)
