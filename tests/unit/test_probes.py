"""Probes of `check` and `doctor`: the dispatcher answers them, and they change, count and log nothing."""

from dataclasses import replace

import pytest

from stockworker.dispatcher.effects import ShowStats
from stockworker.protocol.ids import PROBE, ClientId, JobId, Token
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import Ack, AttemptReport, Reply, Report, StatsRequest
from stockworker.shell.turn import Send
from tests.harness.dispatching import (
    MIDDAY,
    PRESENCE,
    UNKNOWN_TOKEN,
    W1,
    A,
    DispatcherBook,
    ack,
    request,
    submit,
)

PROBED = Token(f"{PROBE}-1")


def reported(token: Token) -> AttemptReport:
    return AttemptReport(token, Outcome.RELEASED, job_id=JobId("stockworker-check-1"))


def test_a_report_that_probes_is_answered_with_version_and_time() -> None:
    with DispatcherBook() as dispatcher:
        dispatcher.after(5)
        dispatcher.tell(Report(W1, (reported(PROBED),)))
        dispatcher.expect(Send(Ack(W1, stale=(PROBED,), version=PRESENCE.version, time=MIDDAY + 5)))
    assert dispatcher.machine.counters["reports_stale"] == 0
    assert dispatcher.log == []


@pytest.mark.parametrize("tokens", [(UNKNOWN_TOKEN,), (PROBED, UNKNOWN_TOKEN)])
def test_any_other_report_is_counted(tokens: tuple[Token, ...]) -> None:
    with DispatcherBook() as dispatcher:
        dispatcher.tell(Report(W1, tuple(map(reported, tokens))))
        dispatcher.expect(ack(W1, stale=tokens))
    assert dispatcher.machine.counters["reports_stale"] == len(tokens)


def test_a_request_that_probes_changes_nothing() -> None:
    with DispatcherBook() as dispatcher:
        dispatcher.tell(submit(A, reply=None))
        dispatcher.tell(replace(request(W1), incarnation=f"{PROBE}-1"))
        dispatcher.expect()
    assert dispatcher.machine.roster.workers == {}


@pytest.mark.parametrize(("correlation", "time"), [(f"{PROBE}-1", MIDDAY + 5), ("c-1", None)])
def test_the_statistics_for_a_probe_have_the_time(correlation: str, time: float | None) -> None:
    reply = Reply(ClientId("ann"), correlation)
    with DispatcherBook() as dispatcher:
        dispatcher.after(5)
        stats = dispatcher.stats()
        dispatcher.tell(StatsRequest(reply, reply.client_id))
        dispatcher.expect(ShowStats(replace(stats, reply=reply, time=time)))
