"""The table of a job's life: complete, without dead ends, and drawn from everywhere."""

from itertools import product

import pytest

from stockworker.errors import ProtocolMisuse
from stockworker.protocol.lifecycle import (
    INITIAL,
    LEASED,
    LIVE,
    MEANING,
    TERMINAL,
    TRANSITIONS,
    State,
    Trigger,
    advance,
)


@pytest.mark.parametrize(("state", "trigger"), list(product(State, Trigger)))
def test_every_pair_moves_as_the_table_says_or_is_refused(state: State, trigger: Trigger) -> None:
    if (state, trigger) in TRANSITIONS:
        assert advance(state, trigger) is TRANSITIONS[state, trigger]
    else:
        with pytest.raises(ProtocolMisuse, match=f"a job that is {state} can't be {trigger}"):
            advance(state, trigger)


def reachable(start: frozenset[State]) -> frozenset[State]:
    found = start
    while True:
        wider = found | {after for (before, _), after in TRANSITIONS.items() if before in found}
        if wider == found:
            return found
        found = wider


def test_every_state_is_reachable() -> None:
    assert reachable(INITIAL) == set(State)


@pytest.mark.parametrize("state", sorted(LIVE))
def test_every_live_state_can_still_end_in_each_way_that_a_job_can_end(state: State) -> None:
    assert reachable(frozenset({state})) >= TERMINAL


def test_an_end_is_final_except_that_a_failed_job_can_be_reopened() -> None:
    leaving = {(before, trigger) for before, trigger in TRANSITIONS if before in TERMINAL}
    assert leaving == {(State.FAILED, Trigger.REOPENED)}


def test_the_sets_of_states_divide_all_of_them() -> None:
    assert set(State) == TERMINAL | LIVE
    assert not TERMINAL & LIVE
    assert LIVE == INITIAL | LEASED
    assert not INITIAL & LEASED


def test_only_a_lease_or_its_return_leads_into_the_leased_states() -> None:
    entering = {trigger for (before, trigger), after in TRANSITIONS.items() if after in LEASED and before not in LEASED}
    assert entering == {Trigger.LEASED, Trigger.RECLAIMED}


def test_a_job_completes_only_while_it_runs() -> None:
    assert [before for (before, _), after in TRANSITIONS.items() if after is State.COMPLETED] == [State.RUNNING]


def test_every_trigger_is_used_and_explained() -> None:
    assert {trigger for _, trigger in TRANSITIONS} == set(Trigger)
    assert set(MEANING) == set(Trigger)
    assert all(MEANING.values())


def test_a_live_job_can_be_cancelled_wherever_it_is() -> None:
    for state in LIVE:
        assert advance(state, Trigger.CANCELLED) is State.CANCELLED
