"""The laws by name, and the error that a violation raises."""

from collections import Counter
from enum import Enum

from tests.simulation.world import World


class Law(Enum):
    """A rule that must always hold."""

    __hash__ = object.__hash__  # by identity, because this runs a thousand times per second

    # the life of a job
    TRANSITION_IN_TABLE = "every transition of a job is in the table of the lifecycle, and is published"
    TERMINAL_IS_FINAL = "an ended job does not change, except for a failed one that an operator reopens"
    ENDED_WHEN_TERMINAL = "a job has an end exactly when its state is terminal"
    SPEC_NEVER_CHANGES = "the specification of a job never changes"
    PAYLOAD_UNCHANGED = "a payload reaches disk and handler unchanged"
    CANCELLED_ON_REQUEST = "a job is cancelled only on request"
    EXPIRED_IN_TIME = "a job expires only after its expires_at"
    FAILED_FOR_A_REASON = "a job fails only with a reason: its attempts, its crashes or a permanent error"
    CANCEL_HEEDED = "an unfinished job is cancelled, or marked for cancellation, in the turn of the request"
    RETRY_HEEDED = "a failed job runs again on request, with all its attempts"
    NOT_BEFORE_ITS_TIME = "a job leaves `scheduled` only after not_before and its back-off"
    NOT_AFTER_ITS_TIME = "no job is assigned after its expires_at"
    ONE_LIFE_PER_KEY = "of all jobs of an owner and a type with the same unique key, at most one is unfinished"
    PRUNED_WHEN_OLD = "no job is pruned before keep_ended has passed since its end, if the clock is not set meanwhile"
    FORGOTTEN_IN_TIME = "a job that ended longer ago is pruned, while the dispatcher is up"
    FAILURES_BOUNDED = "a job fails at most max_attempts times, and crashes at most max_crashes times"
    POISON_CONTAINED = (
        "at most max_crashes leases of a job crash something, until it is submitted or reopened again; leases that were "
        "lost while they waited on their worker, as far as the dispatcher knew, do not count"
    )
    # leases
    ONE_LIVE_LEASE = "a job has one open attempt while it is leased, and none otherwise"
    ATTEMPTS_COUNT_UP = "each new lease is the next attempt"
    TOKEN_IS_NEW = "each new lease has a new token"  # noqa: S105 (a text about tokens)
    ATTEMPT_ENDS_ONCE = "the outcome of an attempt does not change, except for a lost one whose worker returns"
    CREDIT_KEPT = "no worker has more leases than its window and the jobs in advance"
    ALLOWANCE_KEPT = "no worker has more slots, or more leases, than it may claim"
    OVERRUN_ENDED = "no worker runs a job, as it claims, for longer than its time-out, the grace and a lease"
    CAPABLE_WORKER = "a worker gets only jobs of types and with tags that it announced"
    HOLDS_KEPT = "no job of a paused type is assigned, and none to a drained worker"
    HOLD_HEEDED = "a pause or drain, or its end, is on disk after the turn of the request"
    DRAIN_REPEATED = "a connected worker learns in time whether it is drained, even if messages are lost"
    DRAINED_STARTS_NOTHING = "a worker that drains starts nothing"
    STRICT_PRIORITY = "no job is assigned while one of higher priority waits that the same worker could run"
    AGED_FIRST = "no job is assigned while one waits too long that the same worker could run"
    FIRST_COME = "within an owner, type, tags and priority, the job that was ready first goes first"
    TURNS_TAKEN = (
        "no worker gets two jobs of an owner in a turn while one of another waits, as urgent, that it could run"
    )
    LIVE_WORK_KEPT = "no lease is lost while its worker runs and is connected"
    LEASE_HONOURED = """no lease expires before lease_s after its renewal, and after a renewal could reach the dispatcher,
    unless its worker has restarted, or seems to: it is silent, and messages of an earlier incarnation arrive late"""
    OFFER_REPEATED = "a lost assignment is sent again to a connected worker, long before its lease expires"
    UNREACHED_TAKEN_BACK = "a lease whose assignment reached no worker is taken back before it expires"
    CANCEL_REPEATED = "a cancellation reaches a connected worker in time, even if messages are lost"
    DEAD_WORK_RECOVERED = "no lease outlives the last renewal by more than lease_s and 5 s, while the dispatcher is up"
    # results
    RESULT_OF_NEWEST = "only a result under the newest token is accepted"
    ONE_RESULT = "at most one result is accepted for a job, exactly when it completes"
    # messages
    SENT_BY_RIGHT = "every client publishes only what the table of topics allows, in valid messages"
    SMALL_ENOUGH = "no message is larger than 256 KiB"
    NOTHING_RETAINED = "no message is retained"
    RECEIPT_AFTER_COMMIT = "a receipt is about a job that is on disk, or that the same commit prunes"
    NOTICE_AFTER_COMMIT = "a notice is about an end that is on disk"
    NOTICE_TO_SUBMITTER = "a notice is for the connection that submitted the job, or for all connections of its owner"
    ASSIGNED_AFTER_COMMIT = "an assignment is about a lease that is on disk"
    STORED_AFTER_COMMIT = "a report is acknowledged as stored only when it is on disk as reported"
    STALE_IS_STALE = "a lease is reported as stale only if it is not valid any more"
    ANSWER_IS_TRUE = "an answer to a query matches the disk"
    STATS_ARE_TRUE = "statistics match the disk"
    # disks and memory
    RECEIPTED_SURVIVES = "a job with a receipt is on disk after every restart"
    DISK_IS_DURABLE = "after a restart the store has exactly what was committed"
    TOTALS_EQUAL_STORE = "the counts of jobs by state are those of the store"
    BOOKS_EQUAL_STORE = "a machine that is loaded from the store has the same ledger"
    QUEUE_IS_QUEUED = "the queue in memory holds exactly the jobs in memory that are queued"
    FRONT_IN_MEMORY = "of the queued jobs of a lane, exactly the parked ones after its front are in the store alone"
    PARKED_EXPIRE = (
        "no job in the store alone expires before the time at which the dispatcher will look for expired ones"
    )
    HOLDERS_AGREE = "the indexes of leases by worker and by job agree"
    FAILS_WITH_DISK_ONLY = "a process exits by itself only when its disk is full"
    NEVER_SPINS = "a machine sleeps when it has nothing to do"
    # workers
    SLOTS_KEPT = "a worker never runs more jobs than it has slots"
    ONE_ATTEMPT_AT_ONCE = "a worker never runs two attempts of a job at the same time"
    STARTED_ONCE = "a token is started once per incarnation of a worker, and not if the journal has its start"
    STARTED_IN_TIME = "a worker starts a job only within the time to its expires_at that the assignment named"
    STARTED_FROM_JOURNAL = "a started lease is marked as started in the journal"
    RESULT_SYNCED = "a result is synced before any other step"
    REPORT_FROM_JOURNAL = "each report is in the journal"
    CLAIM_FROM_JOURNAL = "a lease is in the journal before a request names it"
    JOURNAL_BOUNDED = "a journal has only leases that its worker got and that are not settled"
    # when the faults have stopped
    EVERY_JOB_ENDS = "every job ends"
    EVERY_QUESTION_ANSWERED = "every request is answered"
    EVERY_WAIT_ENDS_RIGHT = "every client that waits for a job learns how it ended"
    JOURNALS_EMPTY = "journals are empty"
    FLEET_IS_BACK = "every running worker is online at the dispatcher, with all its slots free"
    NOTHING_LOST = "every job with a receipt is in the store, in one terminal state"


class Violation(AssertionError):
    """A law was broken."""

    def __init__(self, law: Law, text: str) -> None:
        super().__init__(law, text)  # the arguments of __init__, so that it can be pickled
        self.law = law
        self.text = text

    def __str__(self) -> str:
        return self.text


class Laws:
    """Checks laws, and counts how often each was checked."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.checked: Counter[Law] = Counter()

    def hold(self, law: Law, obeyed: object, *facts: object) -> None:
        """Check a law; `facts` describe the situation.

        Raises:
            Violation: the law was not obeyed.
        """
        self.checked[law] += 1
        if not obeyed:
            world = self._world
            raise Violation(
                law,
                f"{law.name}: {law.value}\n{' '.join(map(str, facts))}\n"
                f"seed {world.seed}, step {world.step}, {world.now:.3f} s; "
                f"replay with: python -m tests.simulation --seed {world.seed} --trace\n{world.history()}",
            )
