"""The bounds of live jobs: in total, for one submitter and for one type; each refusal names one, and what to do."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.dispatcher.policy import LiveLimits
from stockworker.dispatcher.usage import Usage
from stockworker.protocol.body import MAX_TEXT
from stockworker.protocol.ids import JobId, JobType, Tag
from stockworker.protocol.job import JobRecord
from tests.harness.dispatching import BACKTEST, IMPORT, a_job

LIMITS = LiveLimits(live_jobs=10, payload_bytes=1000, submitter_share=0.5, combinations=3)
GPU, EU, SSD = Tag("gpu"), Tag("eu"), Tag("ssd")


def job(number: int, owner: str = "mallory", of_type: JobType = BACKTEST, size: int = 1, *tags: Tag) -> JobRecord:
    job_id = JobId(f"{owner}:job-{number}" if owner else f"job-{number}")
    return replace(a_job(job_id, of_type=of_type, tags=tags), payload_bytes=size)


def a_usage(*jobs: JobRecord) -> Usage:
    usage = Usage()
    for each in jobs:
        usage.add(each)
    return usage


def refusal(usage: Usage, new: JobRecord, limits: LiveLimits = LIMITS) -> str | None:
    text = usage.excess(new.spec, new.payload_bytes, limits)
    assert text is None or ("Submit" in text and "dispatcher." in text and len(text) <= MAX_TEXT)
    return text


def test_one_submitter_has_its_share_of_the_jobs_and_leaves_the_rest() -> None:
    usage = a_usage(*(job(number) for number in range(5)))
    assert refusal(usage, job(5)) == (
        "too many live jobs: submitter mallory has 5, the most for one submitter (dispatcher.limits.live_jobs, 10, times "
        "submitter_share, 0.5). Submit again when some of them have ended, or cancel some"
    )
    assert refusal(usage, job(5, "alice")) is None


def test_jobs_without_an_owner_belong_to_one_submitter() -> None:
    usage = a_usage(*(job(number, "") for number in range(5)))
    assert "the shared owner has 5" in (refusal(usage, job(5, "")) or "")
    assert refusal(usage, job(5)) is None


def test_all_submitters_together_have_a_bound() -> None:
    usage = a_usage(*(job(number, f"client-{number % 4}") for number in range(10)))
    assert "all submitters have 10 (dispatcher.limits.live_jobs)" in (refusal(usage, job(10, "alice")) or "")


def test_a_type_may_have_a_bound() -> None:
    limits = replace(LIMITS, live_jobs_of_type={IMPORT: 2})
    usage = a_usage(job(1, "alice", IMPORT), job(2, "bob", IMPORT))
    assert "of type import: 2 (dispatcher.types.import.live_jobs)" in (
        refusal(usage, job(3, "eve", IMPORT), limits) or ""
    )
    assert refusal(usage, job(3, "eve"), limits) is None


def test_payloads_have_a_bound_in_bytes() -> None:
    usage = a_usage(job(1, size=400))
    assert refusal(usage, job(2, size=100)) is None
    assert "submitter mallory would have 501" in (refusal(usage, job(2, size=101)) or "")
    full = a_usage(job(1, size=500), job(2, "alice", size=450))
    assert refusal(full, job(3, "bob", size=50)) is None
    assert "more than 1000 (dispatcher.limits.payloads)" in (refusal(full, job(3, "bob", size=51)) or "")


def test_combinations_of_type_and_tags_have_a_bound() -> None:
    usage = a_usage(job(1), job(2, "mallory", BACKTEST, 1, GPU), job(3, "mallory", IMPORT, 1, GPU))
    assert "live jobs of submitter mallory have 3 different ones" in (refusal(usage, job(4, "mallory", IMPORT)) or "")
    assert refusal(usage, job(4, "mallory", IMPORT, 1, GPU)) is None
    assert refusal(usage, job(4, "alice", IMPORT)) is None


@pytest.mark.parametrize("share", [0.01, 1.0])
def test_a_submitter_can_always_have_one_job(share: float) -> None:
    assert refusal(Usage(), job(1), replace(LIMITS, submitter_share=share)) is None


jobs = st.builds(
    job,
    st.integers(0, 9),
    st.sampled_from(["", "alice", "bob"]),
    st.sampled_from([BACKTEST, IMPORT]),
    st.integers(0, 5),
    st.sampled_from([GPU, EU, SSD]),
)


@given(st.lists(jobs, unique_by=lambda each: each.spec.job_id), st.data())
def test_what_has_ended_is_not_counted(live: list[JobRecord], data: st.DataObject) -> None:
    usage = a_usage(*live)
    ended = data.draw(st.permutations(live))[: len(live) // 2]
    for each in ended:
        usage.remove(each)
    assert vars(usage) == vars(a_usage(*(each for each in live if each not in ended)))
