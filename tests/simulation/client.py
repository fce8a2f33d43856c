"""Clients: they submit, repeat, wait, ask, cancel and retry, as `stockworker.client` does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any, Final

from stockworker.adapters.mqtt import Delivery, LinkUp
from stockworker.dispatcher.owners import may_use
from stockworker.protocol import codec, topics
from stockworker.protocol.ids import ClientId, JobId, JobType, WorkerId, full_id, owner_of
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.messages import (
    ALL_CONNECTIONS,
    Answer,
    CancelJob,
    Message,
    Notice,
    NoticeEntry,
    Notices,
    Query,
    Receipt,
    ReceiptStatus,
    Reply,
    RetryJob,
    SetDrain,
    SetPause,
    Stats,
    StatsRequest,
    Submission,
    Submit,
)
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import Role, TopicKind
from tests.simulation.broker import Broker, SignIn
from tests.simulation.invariants import Law, Laws
from tests.simulation.link import Link
from tests.simulation.message_checks import MessageChecks, read
from tests.simulation.network import Cable
from tests.simulation.shadow import Facts
from tests.simulation.world import Timer, World

_REPEAT_S: Final = 2.0
_PATIENCE: Final = 15
"""Repetitions until the user gives up, and comes back later."""

_LOOK_S: Final = 60.0

_OF_OTHERS: Final = TopicKind.NOTICE, TopicKind.COMPLETED, TopicKind.FAILED


@dataclass(slots=True)
class _Question:
    message: Message
    packet: Packet
    expects: frozenset[JobId]
    then: Callable[[Answer], None] | None
    asked: int = 0
    timer: Timer | None = None


class Client:
    """See the module.

    Attributes:
        waits: jobs whose end it waits for.
        noticed: how jobs ended, by the notices it received.
        known: jobs that it has ever submitted.
    """

    def __init__(
        self, world: World, broker: Broker, name: str, laws: Laws, facts: Facts, checks: MessageChecks
    ) -> None:
        self._world = world
        self._broker = broker
        self._laws = laws
        self._facts = facts
        self._checks = checks
        self._dice = world.dice(name)
        self._numbers: Iterator[int] = count(1)
        self._questions: dict[str, _Question] = {}
        self.link: Link | None = None
        self._looking = False
        self.name = name
        # Every second client uses topics with its ID; the jobs of the others are shared.
        self._own = ClientId(name) if name[-1] in "13579" else None
        self.cable = Cable()
        self.waits: set[JobId] = set()
        self.noticed: dict[JobId, State] = {}
        self.known: list[JobId] = []
        self._connection = ""
        self._submitted: set[JobId] = set()

    @property
    def unanswered(self) -> int:
        return len(self._questions)

    # --- its life -----------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Connect; nothing is remembered of an earlier life but what jobs there are."""
        self._connection = f"{self.name}-{next(self._numbers)}"
        self._submitted.clear()
        # What comes for its other connections, and the public notices of its own jobs, is not for it.
        left_out = {pattern for kind in _OF_OTHERS for pattern in [topics.BY_KIND[kind].pattern(client_id=self.name)]}
        own = [topics.notices(ClientId(self.name), to) for to in (self._connection, ALL_CONNECTIONS)]
        filters = (*(each for each in topics.subscriptions(Role.CLIENT, self.name) if each not in left_out), *own)
        link = Link(self._world, self._broker, self.cable, self._dice, SignIn(f"{self.name}-1", filters, None))
        link.deliver = self._hear
        link.on_send = self._say
        link.gives_up = self.boot
        self.link = link
        link.open()

    def kill(self) -> None:
        """Its user presses Ctrl+C, and starts it again."""
        for question in self._questions.values():
            if question.timer is not None:
                question.timer.cancel()
        self._questions.clear()
        if self.link is not None:
            self.link.die(dark=False)
        self.boot()

    # --- asking -------------------------------------------------------------------------------------------------------

    def new_id(self) -> JobId:
        return full_id(JobId(f"{self.name}-{next(self._numbers)}"), self._own)

    def submit(self, jobs: tuple[Submission, ...]) -> None:
        """Submit jobs of one type and priority, and wait for their end. Those of another owner must be refused."""
        for job in jobs:
            if job.job_id is None or owner_of(job.job_id) != self._own:
                continue
            self._facts.payloads[job.job_id].add(job.payload)
            if job.job_id not in self._facts.receipted:
                self.known.append(job.job_id)
        written = tuple(job if job.job_id is None else replace(job, job_id=self._written(job.job_id)) for job in jobs)
        self._submitted.update(job.job_id for job in jobs if job.job_id is not None)
        self._ask(lambda reply: Submit(written, reply, self._own, self._connection))

    def submit_bare(self, job: Submission) -> None:
        """As `mosquitto_pub` does: no id, no answer, no second try."""
        self._facts.payloads[None].add(job.payload)
        self._send(codec.encode(Submit((job,), None)))

    def cancel(self, job_id: JobId) -> None:
        if may_use(job_id, self._own):
            self._facts.cancels.add(job_id)
        self._ask(lambda reply: CancelJob(self._written(job_id), reply, self._own))

    def _written(self, job_id: JobId) -> JobId:
        """How this client writes a full ID: on its own topics, the ID of a shared job begins with a colon."""
        return job_id if self._own is None or owner_of(job_id) is not None else JobId(f":{job_id}")

    def retry(self, job_id: JobId) -> None:
        self._facts.retries.add(job_id)
        self._ask(lambda reply: RetryJob(job_id, reply))

    def retry_all(self, before: JobId | None = None) -> None:
        """Run every failed job again, page by page."""

        def then(answer: Answer) -> None:
            for view in answer.jobs:
                self.retry(view.job_id)
            if answer.jobs:
                self.retry_all(answer.jobs[-1].job_id)

        wanted = JobFilter(state=State.FAILED, limit=20, before=before)
        self._ask(lambda reply: Query((), wanted, with_results=False, reply=reply, by_operator=True), then)

    def pause(self, job_type: JobType, *, paused: bool) -> None:
        self._ask(lambda reply: SetPause(job_type, paused, reply))

    def drain(self, worker_id: WorkerId, *, drained: bool) -> None:
        self._ask(lambda reply: SetDrain(worker_id, drained, reply))

    def query(self, job_ids: tuple[JobId, ...]) -> None:
        self._ask(lambda reply: Query(job_ids, None, with_results=True, reply=reply))

    def list(self) -> None:
        self._ask(lambda reply: Query((), JobFilter(limit=20), with_results=False, reply=reply))

    def stats(self) -> None:
        self._ask(lambda reply: StatsRequest(reply, reply.client_id))

    def _ask(self, make: Callable[[Reply], Message], then: Callable[[Answer], None] | None = None) -> None:
        correlation = f"{self._world.step}.{next(self._numbers)}"
        message = make(Reply(ClientId(self.name), correlation))
        ids = message.ids if isinstance(message, Query) else ()
        expects = self._facts.receipted.intersection(ids)
        question = self._questions[correlation] = _Question(message, codec.encode(message), frozenset(expects), then)
        self._repeat(correlation, question)

    def _repeat(self, correlation: str, question: _Question) -> None:
        self._send(question.packet)
        question.asked += 1
        patient = question.asked % _PATIENCE
        delay_s = _REPEAT_S if patient else self._dice.uniform(60.0, 600.0)
        question.timer = self._world.after(delay_s, lambda: self._repeat(correlation, question))

    def hurry(self) -> None:
        """Its user comes back."""
        for correlation, question in list(self._questions.items()):
            if question.timer is not None:
                question.timer.cancel()
            question.asked = 0
            self._repeat(correlation, question)

    def _send(self, packet: Packet) -> None:
        if self.link is not None:
            self.link.send(packet)

    def _say(self, packet: Packet) -> None:
        self._world.note(self.name, "says", packet.topic, packet.body[:120].decode())
        self._checks.sent(packet, Role.CLIENT, self.name)

    # --- hearing ------------------------------------------------------------------------------------------------------

    def _hear(self, item: Any) -> None:
        match item:
            case Delivery(packet=packet):
                self._received(read(packet))
            case LinkUp():
                for question in self._questions.values():
                    self._send(question.packet)
            case _:
                pass

    def _received(self, message: Message) -> None:
        match message:
            case Receipt(reply=reply) | Answer(reply=reply) | Stats(reply=Reply() as reply):
                question = self._questions.pop(reply.correlation or "", None)
                if question is not None:
                    if question.timer is not None:
                        question.timer.cancel()
                    self._answered(question, message)
            case Notices(connection=connection, entries=entries):
                for entry in entries:
                    fine = connection == ALL_CONNECTIONS or entry.job_id in self._submitted
                    self._laws.hold(Law.NOTICE_TO_SUBMITTER, fine, entry, "came to", self._connection)
                    self._noticed(entry)
            case Notice():
                self._noticed(message)
            case _:
                pass

    def _noticed(self, notice: Notice | NoticeEntry) -> None:
        if notice.job_id in self.waits:
            self._settle(notice.job_id, notice.state)

    def _answered(self, question: _Question, answer: Message) -> None:
        match answer:
            case Receipt(entries=entries) if isinstance(question.message, Submit):
                for entry in entries:
                    job_id = entry.holder or entry.job_id
                    if job_id is not None and entry.status is not ReceiptStatus.REJECTED:
                        self.waits.add(job_id)
                self._look_later()
            case Answer(jobs=views):
                found = {view.job_id for view in views} | set(answer.omitted)
                missing = question.expects - found - self._facts.pruned
                self._laws.hold(Law.RECEIPTED_SURVIVES, not missing, missing, "are unknown")
                self.waits -= self._facts.pruned  # the user comes too late
                for view in views:
                    if view.job_id in self.waits and view.state in TERMINAL:
                        self._settle(view.job_id, view.state)
                if question.then is not None:
                    question.then(answer)
            case _:
                pass

    def _settle(self, job_id: JobId, state: State) -> None:
        self.waits.discard(job_id)
        self.noticed[job_id] = state

    def _look_later(self) -> None:
        """Ask from time to time: notices may be lost."""
        if not self._looking:
            self._looking = True
            self._world.after(_LOOK_S, self._look)

    def _look(self) -> None:
        self._looking = False
        if self.waits:
            if not self._questions:
                self.query(tuple(islice(sorted(self.waits), 100)))
            self._look_later()
