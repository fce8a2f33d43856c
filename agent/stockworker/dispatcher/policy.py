"""The numbers that the dispatcher decides by. Times are seconds."""

from collections.abc import Mapping
from dataclasses import field

from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import DEFAULT_DISPATCHER, ClientId, JobType, Tag


@dataclass(frozen=True, slots=True)
class JobDefaults:
    """The options of a job whose submission does not set them."""

    timeout_s: float = 600.0
    max_attempts: int = 3
    backoff_s: float = 5.0
    backoff_max_s: float = 600.0
    max_crashes: int = 3
    expires_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class JobLimits:
    """The most that a submission may ask for."""

    timeout_s: float = 86400.0
    max_attempts: int = 100
    max_crashes: int = 10
    backoff_s: float = 86400.0


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """How much the dispatcher keeps. It rejects submissions beyond that.

    Attributes:
        live_jobs: live jobs of all submitters.
        payload_bytes: bytes in the payloads of all live jobs.
        submitter_share: which part of `live_jobs` and of `payload_bytes` one submitter may use, above 0 and up to 1.
        combinations: different combinations of type and tags of the live jobs of one submitter.
        free_bytes: free bytes on the disk of the job store.
        live_jobs_of_type: live jobs of one type, where that is bounded.
        output_bytes: bytes in the outputs of all attempts; the oldest ones beyond that are deleted.
    """

    live_jobs: int = 200_000
    payload_bytes: int = 1024**3
    submitter_share: float = 0.5
    combinations: int = 1000
    free_bytes: int = 256 * 1024**2
    live_jobs_of_type: Mapping[JobType, int] = field(default_factory=dict)
    output_bytes: int = 1024**3


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How many queued jobs the dispatcher has in memory: see `stockworker.dispatcher.ready_queue`.

    Attributes:
        jobs: below that, every queued job is in memory.
        front: how many jobs of each lane are in memory beyond that.
    """

    jobs: int = 32_768
    front: int = 1024


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a worker may claim; None is anything.

    Attributes:
        types: job types that it may get.
        tags: tags that it may have.
        slots: how many jobs it may run at the same time.
    """

    types: frozenset[JobType] | None = None
    tags: frozenset[Tag] | None = None
    slots: int = 64


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Jobs of a type that workers get ahead, to run them while they are cut off.

    Attributes:
        jobs: how many leases a worker gets beyond its slots.
        validity_s: how long a lease is valid without renewal, once its worker has claimed it.
    """

    jobs: int
    validity_s: float


@dataclass(frozen=True, slots=True)
class Policy:
    """The dispatcher's time-outs and defaults.

    Attributes:
        lease_s: how long a lease is valid without renewal.
        max_wait_s: how long a job waits at most behind others of higher priority.
        worker_timeout_s: how long a worker may be silent before it gets no new jobs.
        reoffer_s: after how long a lease that its worker does not claim is sent again.
        keep_ended_s: how long a job that has ended is kept, with its result.
        refusal_s: for how long a worker that could not run a job type gets no job of it.
        forget_worker_s: how long a worker without leases may be silent before it is removed from the roster.
        accept_shared_jobs: whether clients may submit jobs on bare topics, where the broker can't verify who submits.
        notice_result_bytes: the largest result of a public notice.
        defaults: see `JobDefaults`.
        job_limits: see `JobLimits`; for all types but those in `job_limits_of_type`.
        limits: see `LiveLimits`.
        queue: see `QueueLimits`.
        timeout_grace_s: how much longer than its time-out a worker may claim to run a job.
        workers: what workers may claim, by patterns of their IDs; see `stockworker.dispatcher.allowances`.
        prefetch: the job types of which workers get jobs ahead.
        dispatcher_id: the ID of the dispatcher, which owns its tracers.
    """

    lease_s: float = 30.0
    max_wait_s: float = 900.0
    worker_timeout_s: float = 90.0
    reoffer_s: float = 2.0
    keep_ended_s: float = 7 * 86400.0
    refusal_s: float = 300.0
    forget_worker_s: float = 86400.0
    accept_shared_jobs: bool = True
    notice_result_bytes: int = 4096
    defaults: JobDefaults = JobDefaults()
    job_limits: JobLimits = JobLimits()
    job_limits_of_type: Mapping[JobType, JobLimits] = field(default_factory=dict)
    limits: LiveLimits = field(default_factory=LiveLimits)
    queue: QueueLimits = QueueLimits()
    timeout_grace_s: float = 300.0
    workers: Mapping[str, Allowance] = field(default_factory=dict)
    prefetch: Mapping[JobType, Prefetch] = field(default_factory=dict)
    dispatcher_id: ClientId = DEFAULT_DISPATCHER
