"""The loss meter: when tracers start, which of them are lost, and what the one figure adds up."""

from collections.abc import Iterable

import pytest

from stockworker.adapters.metric import Distribution, Measured
from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.loss_meter import (
    EVERY_S,
    METRICS,
    MOST_TYPES,
    PATIENCE_S,
    WINDOW_S,
    Losses,
    LossMeter,
    LostTracer,
    types_of,
)
from stockworker.protocol.ids import JobId, JobType, WorkerId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptStatus

PRICES, REPORTS = JobType("prices"), JobType("reports")
STORED, REJECTED, COMPLETED, FAILED = ReceiptStatus.STORED, ReceiptStatus.REJECTED, State.COMPLETED, State.FAILED
FIRST = JobId("stockworker-check-boot-1")


def started() -> LossMeter:
    """A meter with one tracer, since time 0."""
    meter = LossMeter("boot")
    assert meter.start([PRICES], 0.0) == [(FIRST, PRICES)]
    return meter


def lost(meter: LossMeter, now: float) -> int:
    return meter.losses(0, 0, now).tracers


def outcomes(meter: LossMeter) -> dict[str, float]:
    measured = meter.measured(Losses())
    return {each.labels[0]: number(each) for each in measured if each.metric.name == "stockworker_tracers_total"}


def number(measured: Measured) -> float:
    assert not isinstance(measured.value, Distribution)
    return measured.value


def seconds(meter: LossMeter) -> Distribution:
    (found,) = (each.value for each in meter.measured(Losses()) if each.metric.name == "stockworker_tracer_seconds")
    assert isinstance(found, Distribution)
    return found


# --- tracers ----------------------------------------------------------------------------------------------------------


def test_a_tracer_of_each_type_starts_as_soon_as_the_type_is_known_and_every_minute() -> None:
    meter = started()
    assert meter.start([PRICES], 59.9) == []
    assert meter.start([REPORTS, PRICES], 60.0) == [
        ("stockworker-check-boot-2", PRICES),
        ("stockworker-check-boot-3", REPORTS),
    ]
    assert meter.start([], 120.0) == []
    assert meter.start([PRICES], 121.0) == [("stockworker-check-boot-4", PRICES)]
    assert EVERY_S == 60


def test_a_loss_is_in_the_figure_early_enough() -> None:
    """Two minutes, of which up to 40 s are for the file of metrics, and for Prometheus."""
    assert EVERY_S + PATIENCE_S + 40 <= 120


@pytest.mark.parametrize("receipt_first", [True, False])
def test_one_has_ended_when_receipt_and_notice_have_arrived_in_any_order(*, receipt_first: bool) -> None:
    meter = started()
    arrivals = [lambda now: meter.received(FIRST, STORED, now), lambda now: meter.ended(FIRST, COMPLETED, now)]
    first, second = arrivals if receipt_first else reversed(arrivals)
    first(1.0)
    assert outcomes(meter)["completed"] == 0
    second(3.0)
    assert outcomes(meter) == {"completed": 1, "lost": 0, "inconclusive": 0, "refused": 0}
    assert seconds(meter).total == 3.0
    assert meter.check(100.0) == []


@pytest.mark.parametrize(("received", "stage"), [(True, "notice"), (False, "receipt")])
def test_one_that_has_not_ended_in_time_is_lost_for_five_minutes(*, received: bool, stage: str) -> None:
    meter = started()
    if received:
        meter.received(FIRST, STORED, 1.0)
    else:
        meter.ended(FIRST, COMPLETED, 1.0)
    assert meter.check(19.9) == []
    assert meter.check(20.0) == [LostTracer(PRICES, stage)]
    assert meter.check(21.0) == []
    assert (lost(meter, 20.0), outcomes(meter)["lost"]) == (1, 1)
    assert meter.check(319.9) == []
    assert lost(meter, 319.9) == 1
    meter.check(320.0)
    assert lost(meter, 320.0) == 0
    assert (PATIENCE_S, WINDOW_S) == (20, 300)


def test_one_that_is_late_was_not_lost() -> None:
    meter = started()
    meter.check(20.0)
    meter.received(FIRST, STORED, 21.0)
    assert lost(meter, 21.0) == 1
    meter.ended(FIRST, COMPLETED, 22.0)
    assert lost(meter, 22.0) == 0
    assert outcomes(meter) == {"completed": 1, "lost": 1, "inconclusive": 0, "refused": 0}


def test_one_that_no_dispatcher_reads_is_lost_immediately_and_once() -> None:
    meter = started()
    assert meter.unread(FIRST, 0.1) == [LostTracer(PRICES, "subscriber")]
    assert meter.unread(FIRST, 0.2) == meter.unread(JobId("other"), 0.2) == []
    assert lost(meter, 0.1) == 1


def test_a_refusal_an_end_without_an_answer_and_an_interruption_are_no_losses() -> None:
    meter = started()
    meter.received(FIRST, REJECTED, 1.0)
    for now in (60.0, 120.0, 180.0):
        ((job_id, _),) = meter.start([PRICES], now)
        if now == 60.0:
            meter.refused(job_id)
        elif now == 120.0:
            meter.ended(job_id, FAILED, now)
    meter.interrupted()
    assert meter.check(1000.0) == []
    assert outcomes(meter) == {"completed": 0, "lost": 0, "inconclusive": 2, "refused": 2}


def test_what_was_lost_before_an_interruption_stays_lost() -> None:
    meter = started()
    meter.check(20.0)
    meter.interrupted()
    assert lost(meter, 20.0) == 1


def test_answers_to_unknown_ones_change_nothing() -> None:
    meter = started()
    other = JobId("stockworker-check-former-1")
    meter.received(other, STORED, 1.0)
    meter.received(other, REJECTED, 1.0)
    meter.ended(other, COMPLETED, 1.0)
    meter.ended(other, FAILED, 1.0)
    meter.refused(other)
    assert set(outcomes(meter).values()) == {0}


def test_types_of_connected_workers_get_tracers_and_the_common_ones_first() -> None:
    def worker(name: str, types: Iterable[str], *, online: bool = True) -> Worker:
        offered = frozenset(map(JobType, types))
        return Worker(WorkerId(name), "boot", 1, 1, offered, frozenset(), "1.0", 0.0, online=online)

    assert types_of([worker("w1", ["b", "a"]), worker("w2", ["c"], online=False)]) == ["a", "b"]
    many = [f"t{place:03}" for place in range(MOST_TYPES)]
    assert types_of([worker("w1", [*many, "z"]), worker("w2", ["z"])]) == [*many[:-1], "z"]


# --- the figure -------------------------------------------------------------------------------------------------------


def test_drops_of_the_broker_count_for_five_minutes() -> None:
    meter = LossMeter("boot")
    counts = []
    for now, total in ((0.0, 0), (10.0, 0), (20.0, 2), (30.0, 3), (40.0, 3)):
        meter.dropped_by_broker(total, now)
        counts.append(meter.losses(0, 0, now).broker)
    assert counts == [0, 0, 2, 3, 3]
    assert [meter.losses(0, 0, now).broker for now in (319.9, 320.0, 330.0)] == [3, 1, 0]


@pytest.mark.parametrize(("total", "counted"), [(7, 1), (1, 1), (0, 0)])
def test_the_first_report_means_a_drop_unless_it_is_0(total: int, counted: int) -> None:
    meter = LossMeter("boot")
    meter.dropped_by_broker(total, 0.0)
    assert meter.losses(0, 0, 0.0).broker == counted
    meter.dropped_by_broker(total + 2, 0.0)
    assert meter.losses(0, 0, 0.0).broker == counted + 2


def test_a_broker_that_has_restarted_counts_from_0() -> None:
    meter = LossMeter("boot")
    for now, total in enumerate((0, 50, 4)):
        meter.dropped_by_broker(total, float(now))
    assert meter.losses(0, 0, 3.0).broker == 54


def test_one_figure_adds_up_all_causes() -> None:
    meter = started()
    meter.check(20.0)
    meter.dropped_by_broker(0, 20.0)
    meter.dropped_by_broker(20, 20.0)
    losses = meter.losses(-300, 4000, 20.0)
    assert losses == Losses(accounting=300, tracers=1, broker=20, unheard=4000)
    assert losses.total == 4321
    found = {each.labels: number(each) for each in meter.measured(losses) if "lost" in each.metric.name}
    assert found == {
        (): 4321,
        ("accounting",): 300,
        ("tracers",): 1,
        ("broker",): 20,
        ("unheard",): 4000,
    }
    assert {each.metric for each in meter.measured(losses)} == set(METRICS)
