"""The laws by name, and what is thrown at whoever breaks one."""

from collections import Counter
from enum import Enum

from tests.simulation.world import World


class Law(Enum):
    """What must always hold."""

    __hash__ = object.__hash__  # each is only itself, and this is checked a thousand times per second

    # the life of a job
    TRANSITION_IN_TABLE = "every step of a job is in the table of the lifecycle, and is told"
    TERMINAL_IS_FINAL = "a job that has ended does not change, but for a failed one that an operator reopens"
    ENDED_WHEN_TERMINAL = "a job has an end exactly when its state is terminal"
    SPEC_NEVER_CHANGES = "what was asked for never changes"
    PAYLOAD_UNCHANGED = "a payload reaches disk and handler as it was submitted"
    CANCELLED_ON_REQUEST = "a job is cancelled only if somebody asked for it"
    EXPIRED_IN_TIME = "a job expires only when its time is over"
    FAILED_FOR_A_REASON = "a job fails only with a reason, and its attempts, crashes or a permanent error say so"
    CANCEL_HEEDED = (
        "a job that lives is cancelled, or noted as to be cancelled, in the turn in which somebody asks for it"
    )
    RETRY_HEEDED = "a failed job runs again, with all its attempts, when somebody asks for it"
    NOT_BEFORE_ITS_TIME = "a job leaves `scheduled` only when not_before and its back-off are over"
    NOT_AFTER_ITS_TIME = "no job is given out when its expires_at is over"
    ONE_LIFE_PER_KEY = "of all jobs of a type with the same unique key, one lives at most"
    PRUNED_WHEN_OLD = "nothing is forgotten before it has ended for keep_ended, by a clock that nobody sets meanwhile"
    FORGOTTEN_IN_TIME = "what has ended for longer is forgotten, while the dispatcher is up"
    FAILURES_BOUNDED = "a job fails at most max_attempts times, and crashes at most max_crashes times"
    POISON_CONTAINED = (
        "at most max_crashes leases of a job take something down, until it is submitted or reopened again; those that were "
        "lost while they waited on their worker, as far as the dispatcher had heard, do not count"
    )
    # leases
    ONE_LIVE_LEASE = "a job has one open attempt while it is leased, and none otherwise"
    ATTEMPTS_COUNT_UP = "each new lease is the next attempt"
    TOKEN_IS_NEW = "each new lease has a token that never was before"  # noqa: S105 (a text about tokens)
    ATTEMPT_ENDS_ONCE = "how an attempt ended does not change, but for a lost one whose worker comes back"
    CREDIT_KEPT = "nobody holds more leases than the window that it announced, and what is given out ahead"
    CAPABLE_WORKER = "a worker gets only jobs of types and with tags that it announced"
    HOLDS_KEPT = "no job of a held type is given out, and none to a held worker"
    HOLD_HEEDED = "what somebody wants held, or freed, is on disk as such when the turn is over"
    DRAIN_REPEATED = "a connected worker learns in time whether it is held, however often that gets lost"
    DRAINED_STARTS_NOTHING = "a worker that drains starts nothing"
    STRICT_PRIORITY = "no job is given out while one of higher priority waits that the same worker could run"
    AGED_FIRST = "no job is given out while one waits that has waited too long, and the same worker could run it"
    FIRST_COME = "within a type, tags and priority, the job that was ready first goes first"
    LIVE_WORK_KEPT = "no lease is lost while its worker lives and is connected"
    LEASE_HONOURED = """no lease runs out before lease_s after its renewal, and after the dispatcher could hear of one,
    unless its worker has restarted, or seems to: it is not heard, and an earlier start of it is heard late"""
    OFFER_REPEATED = "an assignment that got lost is sent again to a connected worker, long before its lease runs out"
    UNREACHED_TAKEN_BACK = "a lease whose assignment nobody heard is taken back before it runs out"
    CANCEL_REPEATED = "an order to cancel reaches a connected worker in time, however often it gets lost"
    DEAD_WORK_RECOVERED = "no lease outlives the last renewal by more than lease_s and 5 s, while the dispatcher is up"
    # results
    RESULT_OF_NEWEST = "only a result under the newest token is accepted"
    ONE_RESULT = "at most one result is accepted for a job, exactly when it completes"
    # what is said
    SAID_BY_RIGHT = "everybody says only what the table of topics allows, in messages that can be read"
    SMALL_ENOUGH = "no message is larger than 256 KiB"
    ONLY_PRESENCE_RETAINED = "nothing is retained but the dispatcher's presence"
    RECEIPT_AFTER_COMMIT = (
        "a receipt speaks of what is on disk, or of what the same commit forgets because its time is over"
    )
    NOTICE_AFTER_COMMIT = "a notice speaks of an end that is on disk"
    ASSIGNED_AFTER_COMMIT = "an assignment speaks of a lease that is on disk"
    STORED_AFTER_COMMIT = "a report is called stored only when it is on disk as reported"
    STALE_IS_STALE = "a lease is called stale only if it is not valid any more"
    ANSWER_IS_TRUE = "an answer to a query says what is on disk"
    STATS_ARE_TRUE = "statistics count what is on disk"
    # disks and memory
    RECEIPTED_SURVIVES = "a job with a receipt is on disk after every restart"
    DISK_IS_DURABLE = "after a restart the store has exactly what was committed"
    TOTALS_EQUAL_STORE = "the counts of jobs by state are those of the store"
    BOOKS_EQUAL_STORE = "a machine made anew from the store has the same books"
    QUEUE_IS_QUEUED = "the queue holds exactly the jobs that are queued"
    HOLDERS_AGREE = "what the books say of leases by worker and by job is the same"
    FAILS_WITH_DISK_ONLY = "nothing ends a process by itself but a disk that is full"
    NEVER_SPINS = "a machine sleeps when it has nothing to do"
    # workers
    SLOTS_KEPT = "a worker never runs more jobs than it has slots"
    ONE_ATTEMPT_AT_ONCE = "a worker never runs two attempts at a job at once"
    STARTED_ONCE = "a token is started once in a life of a worker, and not while the journal has a note of its start"
    STARTED_IN_TIME = "a worker starts nothing later after it got it than its expires_at was ahead when it was said"
    STARTED_FROM_JOURNAL = "what is started is noted as started in the journal"
    RESULT_SYNCED = "a result is synced before anything else happens to it"
    REPORT_FROM_JOURNAL = "what is reported is in the journal"
    CLAIM_FROM_JOURNAL = "a lease is in the journal before it is claimed"
    JOURNAL_BOUNDED = "a journal holds no more than what its worker was given and has not seen settled"
    # when the faults have stopped
    EVERY_JOB_ENDS = "every job ends"
    EVERY_QUESTION_ANSWERED = "whoever asked is answered"
    EVERY_WAIT_ENDS_RIGHT = "whoever waits for a job learns how it ended"
    JOURNALS_EMPTY = "journals are empty"
    FLEET_IS_BACK = "every worker that lives is online by the dispatcher's books, with all its slots free"
    NOTHING_LOST = "every job with a receipt is in the store, in one terminal state"


class Violation(AssertionError):
    """A law was broken."""

    def __init__(self, law: Law, text: str) -> None:
        super().__init__(law, text)  # as it was made, so that it travels between processes
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
        """Say whether a law was obeyed; `facts` tell what was seen.

        Raises:
            Violation: it was not.
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
