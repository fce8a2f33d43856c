"""What workers may claim: cut down to their allowance, and logged with their name, but not often."""

from collections.abc import Mapping, Sequence

import pytest

from stockworker.dispatcher.allowances import Allowances
from stockworker.dispatcher.outbox import Outbox
from stockworker.dispatcher.policy import Allowance, Policy
from stockworker.logs.events import WorkerClaimsTooMuch
from stockworker.protocol.ids import JobId, JobType, Tag, WorkerId
from stockworker.protocol.messages import Request
from stockworker.shell.turn import Now
from tests.harness.dispatching import BACKTEST, IMPORT, W1, A, B, C, DispatcherBook, request, submit

GPU, EU = Tag("gpu"), Tag("eu")


def claim(
    *, slots: int = 4, window: int = 4, types: Sequence[JobType] = (BACKTEST,), tags: Sequence[Tag] = ()
) -> Request:
    return Request(W1, "boot", slots, window, tuple(types), tuple(tags), "1", ())


def limited(asked: Request, of_names: Mapping[str, Allowance] | None = None) -> tuple[Request, list[str]]:
    """What a worker gets that sends this request, and what is logged."""
    outbox = Outbox(30.0)
    got = Allowances(of_names or {}, outbox).limit(asked, Now(0.0, 0.0))
    logged = [event for event in outbox.flush((), ()) if isinstance(event, WorkerClaimsTooMuch)]
    assert all(event.worker == W1 for event in logged)
    return got, [event.claims for event in logged]


def test_without_a_rule_a_worker_has_any_types_and_tags_and_64_slots() -> None:
    honest = claim(slots=64, window=320, types=(BACKTEST, IMPORT), tags=(GPU, EU))
    assert limited(honest) == (honest, [])
    assert limited(claim(slots=1000, window=1000)) == (claim(slots=64, window=320), ["1000 slots instead of 64"])


def test_jobs_that_wait_on_a_worker_are_bounded() -> None:
    assert limited(claim(slots=1, window=1000)) == (claim(slots=1, window=257), ["1000 leases instead of 257"])
    assert limited(claim(slots=1, window=0)) == (claim(slots=1, window=0), [])


def test_types_and_tags_beyond_the_allowance_are_left_out() -> None:
    allowed = Allowance(types=frozenset([IMPORT]), tags=frozenset([EU]), slots=8)
    asked = claim(slots=9, window=9, types=(BACKTEST, IMPORT), tags=(GPU, EU))
    assert limited(asked, {"w1": allowed}) == (
        claim(slots=8, window=9, types=(IMPORT,), tags=(EU,)),
        ["9 slots instead of 8, type backtest, tag gpu"],
    )


def test_a_long_list_is_shortened() -> None:
    asked = claim(types=[JobType(f"t{number}") for number in range(100)])
    _, (claims,) = limited(asked, {"*": Allowance(types=frozenset())})
    assert claims == "type t0, type t1, type t2, type t3, type t4 and 95 more"


@pytest.mark.parametrize(
    ("worker_id", "slots"), [("edge-7-1", 1), ("edge-7-2", 2), ("edge-8-1", 3), ("edgy", 4), ("x-edge-7-1", 4)]
)
def test_the_most_specific_pattern_is_valid(worker_id: str, slots: int) -> None:
    of_names = {"*": 4, "edge-*": 3, "edge-7-*": 2, "edge-7-1": 1}
    allowances = Allowances({name: Allowance(slots=most) for name, most in of_names.items()}, Outbox(30.0))
    assert allowances.of(WorkerId(worker_id)).slots == slots


def test_a_dot_is_a_dot() -> None:
    assert Allowances({"a.b": Allowance(slots=1)}, Outbox(30.0)).of(WorkerId("axb")) == Allowance()


def test_a_worker_is_logged_once_an_hour() -> None:
    outbox = Outbox(30.0)
    allowances = Allowances({}, outbox)
    for minute in range(121):
        allowances.limit(claim(slots=100 + minute), Now(60.0 * minute, 0.0))
    assert len(outbox.flush((), ())) == 3


def test_a_worker_gets_no_more_than_it_may_have() -> None:
    with DispatcherBook(Policy(workers={"w*": Allowance(types=frozenset([BACKTEST]), slots=2)})) as dispatcher:
        dispatcher.tell(submit(A, B, C, reply=None), submit(JobId("d"), of_type=IMPORT, reply=None))
        dispatcher.tell(request(W1, slots=1000, window=2, types=(BACKTEST, IMPORT)))
        dispatcher.expect(dispatcher.offer(W1, A, B))
        assert dispatcher.only(WorkerClaimsTooMuch) == WorkerClaimsTooMuch(
            worker=W1, claims="1000 slots instead of 2, type import"
        )
        assert [(view.slots, view.types) for view in dispatcher.stats().workers] == [(2, (BACKTEST,))]
