"""Every answer from the store fits into one message."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from stockworker.dispatcher.answers import answer
from stockworker.dispatcher.effects import RunQuery, SaveAttempt, SaveJob, SaveOutput
from stockworker.errors import DecodeError
from stockworker.protocol import codec
from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.body import ENTRY_ENVELOPE, MAX_BODY, MAX_CONTENT, MAX_OUTPUT, MAX_TEXT, content_size
from stockworker.protocol.ids import JobId
from stockworker.protocol.job import Attempt, JobRecord, Outcome
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import MAX_EXPLAINED, Answer, Query
from stockworker.protocol.views import JobOutputs, NumberedOutput
from tests.harness.dispatching import MIDDAY, REPLY, UNKNOWN_TOKEN, W1, A, B, a_job
from tests.harness.memory_store import MemoryJobReader, MemoryJobStore

NO_STORY: Mapping[JobId, tuple[str, ...]] = {}
CONTROL = "\x1f"  # takes six bytes in JSON


def a_store(*jobs: JobRecord, result: str | None = None) -> MemoryJobStore:
    store = MemoryJobStore()
    store.commit([SaveJob(job, "{}", result) for job in jobs])
    return store


def tried(store: MemoryJobStore, job_id: JobId, times: int, error: str = "no data") -> None:
    attempts = (
        Attempt(job_id, number, W1, UNKNOWN_TOKEN, MIDDAY, MIDDAY + 1, Outcome.ERROR, 0.5, error)
        for number in range(1, times + 1)
    )
    store.commit([SaveAttempt(attempt) for attempt in attempts])


def ask(*job_ids: JobId, explain: bool = True, with_results: bool = False) -> Query:
    return Query(job_ids, None, with_results, REPLY, explain)


def told(query: Query, store: MemoryJobStore, why: Mapping[JobId, tuple[str, ...]] = NO_STORY) -> Answer:
    return answer(RunQuery(query, tuple(why.items())), store.reader())


def fitting(message: Answer) -> Answer:
    packet = codec.encode(message)
    assert len(packet.body) <= MAX_BODY
    assert codec.decode(packet) == message
    return message


def failed(job_id: JobId, reason: str | None = "no data\nTraceback") -> JobRecord:
    return replace(a_job(job_id, State.FAILED), ended_at=MIDDAY, reason=reason)


def test_an_explanation_has_the_sentences_of_the_machine_and_every_attempt() -> None:
    store = a_store(a_job(A))
    tried(store, A, 3)
    (story,) = fitting(told(ask(A), store, {A: ("it waits",)})).explanations
    assert story.why == ("it waits",)
    assert [attempt.number for attempt in story.attempts] == [1, 2, 3]
    assert [(each.worker, each.token, each.error) for each in story.attempts] == [
        (each.worker, each.token, each.error) for each in store.reader().attempts(A, 9)
    ]


def test_an_ended_job_is_explained_from_the_store() -> None:
    store = a_store(failed(A), replace(failed(B, None), state=State.COMPLETED))
    stories = told(ask(A, B), store).explanations
    assert [story.why for story in stories] == [("it is failed: no data",), ("it is completed",)]


def test_results_and_explanations_come_only_on_request() -> None:
    store = a_store(failed(A))
    assert told(ask(A, explain=False), store).explanations == ()
    assert told(Query((), JobFilter(), with_results=False, reply=REPLY), store).explanations == ()


def test_of_many_attempts_the_newest_are_listed() -> None:
    store = a_store(failed(A))
    tried(store, A, 120)
    (story,) = fitting(told(ask(A), store)).explanations
    assert [attempt.number for attempt in story.attempts] == list(range(71, 121))


def test_as_many_long_errors_are_listed_as_fit() -> None:
    store = a_store(failed(A, CONTROL * MAX_TEXT))
    tried(store, A, 50, CONTROL * MAX_TEXT)
    (story,) = fitting(told(ask(A), store, {A: (CONTROL * MAX_TEXT,)})).explanations
    assert 10 < len(story.attempts) < 50
    assert story.attempts[-1].number == 50


def test_the_largest_result_leaves_room_for_no_attempt() -> None:
    store = a_store(replace(failed(A, None), state=State.COMPLETED), result="x" * (MAX_CONTENT - 2))
    tried(store, A, 5)
    (story,) = fitting(told(ask(A, with_results=True), store)).explanations
    assert story.attempts == ()


def test_jobs_for_whose_story_there_is_no_room_are_named() -> None:
    jobs = [failed(JobId(f"job-{number}")) for number in range(64)]
    store = a_store(*jobs)
    for job in jobs:
        tried(store, job.spec.job_id, 50, "x" * MAX_TEXT)
    ids = [job.spec.job_id for job in jobs]
    answered = fitting(told(ask(*ids), store))
    assert [view.job_id for view in answered.jobs] + list(answered.omitted) == ids
    assert [story.job_id for story in answered.explanations] == [view.job_id for view in answered.jobs]
    assert answered.omitted


def test_jobs_for_whose_sentences_there_is_no_room_are_named() -> None:
    ids = [JobId(f"job-{number}") for number in range(64)]
    answered = fitting(told(ask(*ids), a_store(*map(a_job, ids)), dict.fromkeys(ids, (CONTROL * MAX_TEXT,))))
    assert [story.job_id for story in answered.explanations] + list(answered.omitted) == ids
    assert answered.omitted


@pytest.mark.parametrize(("more", "told_of"), [(0, 2), (1, 1)])
def test_a_message_is_filled_up_to_the_last_byte(more: int, told_of: int) -> None:
    room = MAX_CONTENT - 2 * (ENTRY_ENVELOPE + 2 * content_size(""))
    jobs = [failed(A, "x" * MAX_TEXT), failed(B, None)]
    store = a_store(*jobs, result="x" * ((room - MAX_TEXT) // 2))
    store.commit([SaveJob(jobs[1], None, "x" * ((room - MAX_TEXT) // 2 + more))])
    assert len(fitting(told(ask(A, B, explain=False, with_results=True), store)).jobs) == told_of


class Tracing(MemoryJobReader):
    """Counts what is read."""

    def __init__(self, store: MemoryJobStore) -> None:
        super().__init__(store)
        self.bytes = 0
        self.attempts_read = 0

    def result(self, job: JobRecord) -> str | None:
        found = super().result(job)
        self.bytes += len(found or "")
        return found

    def attempts(self, job_id: JobId, most: int) -> list[Attempt]:
        found = super().attempts(job_id, most)
        self.attempts_read += len(found)
        return found


def test_an_answer_reads_one_result_at_most_that_it_does_not_send() -> None:
    jobs = [replace(failed(JobId(f"job-{number}"), None), state=State.COMPLETED) for number in range(1000)]
    reader = Tracing(a_store(*jobs, result="x" * 100_000))
    query = Query((), JobFilter(limit=1000), with_results=True, reply=REPLY)
    answered = fitting(answer(RunQuery(query), reader))
    sent = sum(len(view.result or "") for view in answered.jobs)
    assert (sent, reader.bytes) == (200_000, 300_000)
    assert len(answered.jobs) + len(answered.omitted) == 1000


def test_an_answer_reads_the_attempts_of_one_job_at_most_that_it_does_not_explain() -> None:
    jobs = [failed(JobId(f"job-{number}")) for number in range(64)]
    store = a_store(*jobs)
    for job in jobs:
        tried(store, job.spec.job_id, 50, "x" * MAX_TEXT)
    reader = Tracing(store)
    answered = answer(RunQuery(ask(*(job.spec.job_id for job in jobs))), reader)
    assert reader.attempts_read == 50 * len(answered.explanations)


def test_jobs_beyond_those_that_the_machine_has_explained_are_omitted() -> None:
    store = a_store(failed(A), failed(B))
    answered = fitting(answer(RunQuery(ask(A, B), most=1), store.reader()))
    assert ([view.job_id for view in answered.jobs], answered.omitted) == ([A], (B,))


def test_a_job_that_ended_after_its_turn_is_explained_by_its_end() -> None:
    (story,) = told(ask(A), a_store(failed(A)), {A: ("it waits",)}).explanations
    assert story.why == ("it is failed: no data",)


def test_the_beginning_of_an_id_names_a_job_if_it_names_only_one() -> None:
    store = a_store(failed(JobId("shop:apple-1")), failed(JobId("shop:apple-2")), failed(JobId("shop:pear")))
    query = replace(ask(JobId("shop:pe"), JobId("shop:apple"), JobId("shop:plum"), explain=False), by_prefix=True)
    found = told(query, store)
    assert [view.job_id for view in found.jobs] == ["shop:pear"]
    assert [each.prefix for each in found.ambiguous] == ["shop:apple"]


def test_a_job_without_a_result_is_shown_when_results_are_asked_for() -> None:
    (view,) = told(ask(A, explain=False, with_results=True), a_store(failed(A))).jobs
    assert view.result is None


def test_a_list_has_no_prefixes_unless_it_is_asked_for() -> None:
    query = replace(ask(explain=False), filter=JobFilter())
    assert [view.prefix_length for view in told(query, a_store(failed(A))).jobs] == [None]


def test_only_what_is_explained_or_shown_in_full_is_bound_to_a_few_jobs() -> None:
    ids = tuple(JobId(f"job-{number}") for number in range(MAX_EXPLAINED + 1))
    assert codec.decode(codec.encode(ask(*ids, explain=False))) == ask(*ids, explain=False)
    for query in (ask(*ids), replace(ask(*ids, explain=False), details=True)):
        with pytest.raises(DecodeError, match=f"more than {MAX_EXPLAINED} entries"):
            codec.decode(codec.encode(query))


# --- outputs ----------------------------------------------------------------------------------------------------------


def with_outputs(*texts: str) -> MemoryJobStore:
    store = a_store(failed(A))
    store.commit([SaveOutput(A, number, AttemptOutput(text, number)) for number, text in enumerate(texts, 1)])
    return store


def outputs(store: MemoryJobStore, first: int = 1, job_id: JobId = A) -> JobOutputs | None:
    query = Query((job_id,), None, with_results=False, reply=REPLY, outputs_from=first)
    return fitting(told(query, store)).outputs


def test_outputs_come_on_request_from_one_attempt_on() -> None:
    store = with_outputs("one", "", "three")
    found = [NumberedOutput(text, number, number=number) for number, text in ((1, "one"), (2, ""), (3, "three"))]
    assert outputs(store) == JobOutputs(A, tuple(found))
    assert outputs(store, 2) == JobOutputs(A, tuple(found[1:]))
    assert outputs(store, 4) == JobOutputs(A, ())
    assert told(ask(A), store).outputs is None


def test_an_unknown_job_has_no_outputs_and_a_job_without_any_an_empty_list() -> None:
    assert outputs(with_outputs("one"), job_id=B) is None
    assert outputs(a_store(failed(A))) == JobOutputs(A, ())


def test_outputs_that_do_not_fit_are_asked_for_again() -> None:
    store = with_outputs(*[CONTROL * 15_000] * 5)
    first = outputs(store)
    assert first is not None
    assert ([each.number for each in first.outputs], first.following) == ([1, 2], 3)
    second = outputs(store, 3)
    assert second is not None
    assert ([each.number for each in second.outputs], second.following) == ([3, 4], 5)


def test_the_largest_output_fits_into_an_answer() -> None:
    largest = "x" * (MAX_OUTPUT - 2)
    assert outputs(with_outputs(largest)) == JobOutputs(A, (NumberedOutput(largest, 1, number=1),))


def test_an_output_that_never_fits_is_counted() -> None:
    text = "€" * (MAX_BODY // 3)
    found = outputs(with_outputs(text, "two"))
    assert found == JobOutputs(
        A, (NumberedOutput("", 1 + len(text.encode()), number=1), NumberedOutput("two", 2, number=2))
    )
