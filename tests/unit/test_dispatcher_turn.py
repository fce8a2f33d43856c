"""A turn of the dispatcher: decode, look up, decide, commit, output, in this order."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import pytest

from stockworker.dispatcher.alarms import MOST_DUE
from stockworker.dispatcher.answers import respond
from stockworker.dispatcher.assignment import MOST_SHARES
from stockworker.dispatcher.effects import Save, Unwatched
from stockworker.dispatcher.machine import DispatcherMachine
from stockworker.dispatcher.policy import Allowance, Policy
from stockworker.dispatcher.turn import MOST_ROWS, DispatcherOutput, DispatcherTurns, Input
from stockworker.errors import DecodeError, StoreError
from stockworker.logs.events import JobMoved, MessageRefused
from stockworker.protocol import codec
from stockworker.protocol.codec_submit import MAX_JOBS
from stockworker.protocol.ids import JobId, Token
from stockworker.protocol.job import JobRecord, Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    Ack,
    Answer,
    Assign,
    AttemptReport,
    Message,
    Query,
    Receipt,
    ReceiptStatus,
    Report,
    ReportedLease,
    Stats,
    StatsRequest,
)
from stockworker.protocol.packet import Packet
from stockworker.shell.turn import Now
from tests.harness.dispatching import (
    BACKTEST,
    CONNECTED,
    MIDDAY,
    POLICY,
    PRESENCE,
    REPLY,
    RUNNING,
    W1,
    W2,
    A,
    B,
    C,
    request,
    submit,
)
from tests.harness.entropy import Counting
from tests.harness.memory_store import MemoryJobStore


class CountingStore(MemoryJobStore):
    """Notes what is read, what is written, and in which order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.payloads_read: list[JobId] = []
        self.looked_up: set[JobId] = set()
        self.broken = False

    def find(self, ids: Collection[JobId]) -> dict[JobId, JobRecord]:
        self.calls.append("find")
        self.looked_up |= set(ids)
        return super().find(ids)

    def commit(self, saves: Iterable[Save]) -> Mapping[State, int]:
        self.calls.append("commit")
        if self.broken:
            raise StoreError("memory: can't be written")
        return super().commit(saves)

    def payloads(self, jobs: Sequence[JobRecord]) -> Mapping[JobId, str]:
        self.payloads_read += [job.spec.job_id for job in jobs]
        return super().payloads(jobs)


class Desk:
    """A machine, a store, and the turns that connect them."""

    def __init__(self, policy: Policy = POLICY, *, verbose: bool = False) -> None:
        self.store = CountingStore()
        self.reader = self.store.reader()
        self.seconds = 0.0
        self.machine = DispatcherMachine(policy, Counting(), PRESENCE, self.store.load(), self.now())
        self.turns = DispatcherTurns(self.machine, self.store, policy.lease_s, verbose=verbose)
        self.take(CONNECTED)
        self.store.calls.clear()

    def now(self) -> Now:
        return Now(MIDDAY + self.seconds, MIDDAY + self.seconds)

    def take(self, *items: Input) -> DispatcherOutput:
        return self.turns.take(items, self.now())

    def ask(self, *items: Input) -> list[Message]:
        """The packets of a turn, and the answer that the service makes afterwards."""
        output = self.take(*items)
        packets = (
            output.packets if output.asked is None else (*output.packets, *respond(output.asked, self.reader).packets)
        )
        return [codec.decode(packet) for packet in packets]

    def run(self, job_id: JobId, notify: str | None = None) -> DispatcherOutput:
        """Lead a job to its end, on W1; return the last turn."""
        self.take(replace(submit(job_id), notify=notify), request(W1))
        return self.take(Report(W1, (AttemptReport(token_of(self, job_id), Outcome.OK, "1", job_id=job_id),)))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def token_of(desk: Desk, job_id: JobId) -> Token:
    """The token of the newest lease."""
    token = desk.store.jobs[job_id].token
    assert token is not None
    return token


def assigned(messages: Sequence[Message]) -> dict[JobId, str]:
    """The jobs of the assignments, with their payloads."""
    return {
        lease.job_id: lease.payload for message in messages if isinstance(message, Assign) for lease in message.leases
    }


# --- notices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("notify", "qos"), [("one", 0), (None, 1)], ids=["a connection knows", "no connection knows"])
def test_a_public_notice_is_acknowledged_where_no_connection_gets_the_same(
    desk: Desk, notify: str | None, qos: int
) -> None:
    packets = desk.run(JobId("ann:a"), notify).packets
    assert [packet.qos for packet in packets if packet.topic.startswith("jobs/completed/")] == [qos]
    assert [packet.qos for packet in packets if packet.topic.startswith("jobs/notice/")] == [1]


# --- steps of jobs ----------------------------------------------------------------------------------------------------


def steps(output: DispatcherOutput) -> list[tuple[int, object]]:
    """The messages with steps of jobs: their quality of service, and what comes back if no client gets them."""
    return [(packet.qos, packet.tag) for packet in output.packets if packet.topic == "system/monitor"]


def test_steps_ask_once_a_second_whether_a_client_watches_them(desk: Desk) -> None:
    assert steps(desk.take(submit(A))) == [(1, Unwatched())]
    assert steps(desk.take(submit(B))) == [(0, None)]
    desk.seconds += 1.0
    assert steps(desk.take(submit(C))) == [(1, Unwatched())]


def test_steps_that_no_client_watches_are_not_published(desk: Desk) -> None:
    desk.take(Unwatched())
    assert steps(desk.take(submit(A))) == []
    desk.seconds += 0.9
    assert steps(desk.take(submit(B))) == []
    desk.seconds += 0.1
    assert steps(desk.take(submit(C))) == [(1, Unwatched())], "a client may watch them by now"


def test_steps_that_are_logged_do_not_ask_who_watches() -> None:
    desk = Desk(verbose=True)
    output = desk.take(submit(A))
    assert steps(output) == [(0, None)]
    assert [event.job for event in output.log if isinstance(event, JobMoved)] == [A]


# --- payloads ---------------------------------------------------------------------------------------------------------


def test_a_payload_that_this_turn_stored_is_not_read_from_the_store(desk: Desk) -> None:
    assert assigned(desk.ask(submit(A, B), request(W1, slots=2))) == {A: "{}", B: "{}"}
    assert desk.store.payloads_read == []


def test_a_payload_from_an_earlier_turn_is_read_once_for_each_offer(desk: Desk) -> None:
    desk.take(submit(A, B))
    assert assigned(desk.ask(submit(C), request(W1, slots=3))) == {A: "{}", B: "{}", C: "{}"}
    assert desk.store.payloads_read == [A, B]


# --- crash budgets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("max_crashes", "marked"), [(1, [True]), (3, [False, False, True])])
def test_an_assignment_tells_whether_one_more_crash_fails_the_job(
    desk: Desk, max_crashes: int, marked: list[bool]
) -> None:
    messages = desk.ask(submit(A, max_crashes=max_crashes, max_attempts=9), request(W1))
    for _ in marked:  # the turn of a loss offers the job again
        messages += desk.ask(Report(W1, (AttemptReport(token_of(desk, A), Outcome.LOST, error="gone", job_id=A),)))
    offers = [lease for message in messages if isinstance(message, Assign) for lease in message.leases]
    assert [lease.no_crash_budget for lease in offers] == marked
    assert desk.store.jobs[A].state is State.FAILED


# --- what the store knows of ended jobs -------------------------------------------------------------------------------


def test_a_repeated_submission_of_an_ended_job_is_a_duplicate(desk: Desk) -> None:
    desk.run(A)
    (receipt,) = desk.ask(submit(A))
    assert isinstance(receipt, Receipt)
    assert [entry.status for entry in receipt.entries] == [ReceiptStatus.DUPLICATE]


def test_only_named_jobs_that_are_not_live_are_looked_up(desk: Desk) -> None:
    desk.run(A)
    desk.store.looked_up.clear()
    desk.take(submit(B), request(W1))
    assert desk.store.looked_up == {B}
    desk.store.calls.clear()
    desk.take(submit(B), submit(None), request(W1))
    assert "find" not in desk.store.calls


def test_a_report_on_an_ended_job_is_judged_by_what_the_store_has(desk: Desk) -> None:
    desk.run(A)
    token = token_of(desk, A)
    (own,) = desk.ask(Report(W1, (AttemptReport(token, Outcome.OK, "1", job_id=A),)))
    (other,) = desk.ask(Report(W2, (AttemptReport(token, Outcome.OK, "1", job_id=A),)))
    assert own == Ack(W1, stored=(token,), lease_s=POLICY.lease_s)
    assert other == Ack(W2, stale=(token,), lease_s=POLICY.lease_s)


# --- commit, then output ----------------------------------------------------------------------------------------------


def test_the_store_is_asked_before_the_commit(desk: Desk) -> None:
    desk.take(submit(A))
    assert desk.store.calls == ["find", "commit"]


def test_a_turn_that_changes_nothing_commits_nothing(desk: Desk) -> None:
    desk.seconds = 1.0
    desk.take(request(W1))
    assert desk.store.calls == []


def test_a_failed_commit_lets_nothing_out(desk: Desk) -> None:
    desk.store.broken = True
    with pytest.raises(StoreError):
        desk.take(submit(A))
    assert desk.store.jobs == {}


def test_the_output_is_made_after_the_commit(desk: Desk) -> None:
    """An answer to a query is read from the store, and has the changes of its own turn."""
    query = Query((A,), None, with_results=False, reply=REPLY)
    (answer,) = [message for message in desk.ask(submit(A), query) if isinstance(message, Answer)]
    assert [job.job_id for job in answer.jobs] == [A]


def test_what_a_turn_prunes_is_counted_from_the_next_turn_on(desk: Desk) -> None:
    desk.run(A)
    desk.seconds = POLICY.keep_ended_s + 100.0
    desk.take()
    assert A not in desk.store.jobs
    (stats,) = desk.ask(StatsRequest(REPLY))
    assert isinstance(stats, Stats)
    assert dict(stats.states)[State.COMPLETED] == 0


# --- log and refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verbose", [True, False])
def test_each_step_of_a_job_is_logged_where_that_is_wanted(*, verbose: bool) -> None:
    desk = Desk(verbose=verbose)
    steps = [event for event in desk.take(submit(A), request(W1)).log if isinstance(event, JobMoved)]
    expected = [
        JobMoved(job=A, type=BACKTEST, state=State.QUEUED, attempt=0, worker=None),
        JobMoved(job=A, type=BACKTEST, state=State.ASSIGNED, attempt=1, worker=W1),
    ]
    assert steps == (expected if verbose else [])


def test_a_packet_that_can_not_be_decoded_is_counted_logged_and_refused(desk: Desk) -> None:
    output = desk.take(Packet("jobs/report/w1", b"{"))
    (ack,) = map(codec.decode, output.packets)
    assert isinstance(ack, Ack)
    assert ack.worker_id == W1
    assert ack.error is not None
    assert [type(event) for event in output.log] == [MessageRefused]
    assert desk.machine.counters["messages_refused"] == 1


def test_packets_and_events_are_handled_in_their_order(desk: Desk) -> None:
    desk.take(codec.encode(submit(A, reply=None)), request(W1))
    assert desk.store.jobs[A].state is State.ASSIGNED
    running = ReportedLease(A, token_of(desk, A), RUNNING)
    desk.take(submit(B), codec.encode(request(W1, running)))
    assert [desk.store.jobs[job_id].state for job_id in (A, B)] == [State.RUNNING, State.QUEUED]


# --- the longest turn -------------------------------------------------------------------------------------------------


def many(count: int, name: str) -> Packet:
    """A submission of many jobs, as small as they can be."""
    return codec.encode(submit(*(JobId(f"{name}{number}") for number in range(count)), reply=None))


def test_a_turn_leaves_messages_to_the_next_when_it_has_enough_rows(desk: Desk) -> None:
    packets = [many(MAX_JOBS, name) for name in "abcd"]
    output = desk.take(*packets, CONNECTED)
    assert output.left == 2
    assert len(desk.store.jobs) == 2 * MAX_JOBS
    assert desk.take(*packets[-output.left :]).left == 0
    assert len(desk.store.jobs) == 4 * MAX_JOBS


def test_the_longest_turn_has_rows_of_one_message_beyond_the_bound(desk: Desk) -> None:
    """What makes the most rows of the fewest bytes: see the arithmetic at the head of the turn."""
    small = [many(1, f"small{number}-") for number in range(MOST_ROWS - 1)]
    desk.take(*small, many(MAX_JOBS, "large"), many(MAX_JOBS, "left"))
    assert len(desk.store.jobs) == MOST_ROWS - 1 + MAX_JOBS
    with pytest.raises(DecodeError, match=f"more than {MAX_JOBS} entries"):
        codec.decode(many(MAX_JOBS + 1, "more"))


def test_refused_messages_and_requests_have_rows_too(desk: Desk) -> None:
    nonsense = Packet("jobs/request/w1", b"{")
    assert desk.take(*[nonsense] * (MOST_ROWS + 5)).left == 5
    claims = [ReportedLease(A, Token(f"t{number}"), RUNNING) for number in range(MOST_ROWS // 2)]
    assert desk.take(*[codec.encode(request(W1, *claims))] * 4).left == 2


def test_jobs_that_become_due_together_are_checked_in_portions(desk: Desk) -> None:
    count = 2 * MOST_DUE + 500
    for name in "abcde":
        desk.take(submit(*(JobId(f"{name}{n}") for n in range(count // 5)), expires_at=MIDDAY + 60, reply=None))
    desk.seconds = 100.0
    ended = []
    while not desk.turns.next_in_s(desk.now()):
        desk.take()
        ended.append(sum(job.state is State.EXPIRED for job in desk.store.jobs.values()))
    assert ended == [MOST_DUE, 2 * MOST_DUE, count]


def test_jobs_are_assigned_in_portions() -> None:
    desk = Desk(replace(POLICY, workers={"*": Allowance(slots=1000)}))
    desk.take(*(submit(*(JobId(f"{name}{n}") for n in range(1000)), reply=None) for name in "ab"))
    first = assigned(desk.ask(request(W1, slots=1000), request(W2, slots=300)))
    assert len(first) == MOST_SHARES
    assert desk.turns.next_in_s(desk.now()) == 0
    portions = [len(first)]
    while not desk.turns.next_in_s(desk.now()):
        portions.append(len(assigned(desk.ask())))
    assert portions == [512, 512, 276]
