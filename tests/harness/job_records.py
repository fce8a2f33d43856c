"""Hypothesis strategies for jobs and attempts as the dispatcher records them."""

from hypothesis import strategies as st

from stockworker.protocol.job import Attempt, JobRecord, JobSpec, Outcome
from stockworker.protocol.lifecycle import TERMINAL, State
from tests.harness.messages import (
    counts,
    durations,
    job_ids,
    job_types,
    priorities,
    states,
    tags,
    texts,
    times,
    tokens,
    unique_keys,
    worker_ids,
)

specs = st.builds(
    JobSpec,
    job_id=job_ids,
    type=job_types,
    priority=priorities,
    not_before=st.none() | times,
    expires_at=st.none() | times,
    timeout_s=durations,
    max_attempts=counts,
    backoff_s=durations,
    backoff_max_s=durations,
    max_crashes=counts,
    tags=st.frozensets(tags, max_size=4),
    unique=st.none() | unique_keys,
)


def jobs(of_state: st.SearchStrategy[State] = states) -> st.SearchStrategy[JobRecord]:
    """Jobs in any state; the caller must make `sequence` unique."""
    return of_state.flatmap(
        lambda state: st.builds(
            JobRecord,
            spec=specs,
            sequence=st.integers(1, 1 << 62),
            state=st.just(state),
            submitted_at=times,
            ready_at=times,
            attempt=counts,
            failures=counts,
            crashes=counts,
            worker=st.none() | worker_ids,
            token=st.none() | tokens,
            assigned_at=st.none() | times,
            cancel_requested=st.booleans(),
            ended_at=times if state in TERMINAL else st.none(),
            reason=st.none() | texts,
        )
    )


job_lists = st.lists(jobs(), max_size=8, unique_by=(lambda job: job.sequence, lambda job: job.spec.job_id))
attempts = st.builds(
    Attempt,
    job_id=job_ids,
    number=counts,
    worker=worker_ids,
    token=tokens,
    assigned_at=times,
    ended_at=st.none() | times,
    outcome=st.none() | st.sampled_from(Outcome),
    ran_s=st.none() | durations,
    error=st.none() | texts,
)
