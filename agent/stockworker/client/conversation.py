"""Requests to the dispatcher, each repeated until it is answered, and the other messages of a client's connection."""

# Every request is sent again every two seconds until its answer arrives, and immediately when the link comes back. That
# is safe because a repeated request changes nothing more: a submission carries the ID of its job, so the second copy is
# a duplicate. All copies of a request have the same correlation: random, so that no other client can answer. The first answer
# to it counts, if it is one (`answers`); later ones find no question, and are ignored. So a restart of the broker or the
# dispatcher at any moment only delays an answer.
#
# A request ends without an answer when its time is over, or when the broker refuses it for good. "No subscriber" is not
# such a refusal: the dispatcher may be restarting. The error names the best known cause: the link is down, or no dispatcher
# answers.

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any, Final

from stockworker.adapters import clock
from stockworker.adapters.inbox import Inbox, InOrder
from stockworker.adapters.mqtt import Delayed, Delivery, Link, LinkDown, LinkItem, LinkUp, PublishRefused
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.mqtt_reasons import NO_MATCHING_SUBSCRIBERS, reason_name
from stockworker.client.answers import FromDispatcher, judge
from stockworker.errors import AccessDenied, ConnectionFailed, DecodeError, NoAnswer, RequestRefused
from stockworker.logs import log_event
from stockworker.logs.events import AnswerIgnored
from stockworker.protocol import codec, topics
from stockworker.protocol.ids import ClientId
from stockworker.protocol.messages import Answer, Message, Receipt, Reply, Stats
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import Role

_log = logging.getLogger(__name__)

_SECRET_BYTES: Final = 16
"""Random bytes, too many to guess."""

_REPEAT_S: Final = 2.0
"""How long to wait for an answer before the request is repeated."""

_MOST_UNANSWERED: Final = 64
"""Largest number of unanswered requests."""

_IDLE_S: Final = 3600.0

_CLOSED: Final = "this client is closed; make calls inside of 'async with Client.from_config() as client:'"
_USE: Final = "In ~/.config/stockworker/client.yml, or with --config or STOCKWORKER_CONFIG, use the configuration"


@dataclass(slots=True)
class _Question:
    """A request that is repeated until it is answered."""

    packet: Packet
    message: Message
    answer: asyncio.Future[Any]
    deadline: float
    timer: asyncio.TimerHandle | None = None
    obstacle: str | None = None


class Conversation:
    """One connection of one client.

    Args:
        settings: connection to the broker; its `client_id` is made unique for this connection.
        client_id: ID of the client, to which replies are addressed.
        timeout_s: how long to wait for an answer, in seconds.
        filters: topics to subscribe to, besides those of the answers.
        receive: called with messages that are not answers, such as notices and progress.
        link_changed: called with None when the link is back; messages sent meanwhile were missed. Called with the reason
            when it is lost.
        service: the service whose name `client_id` is, if it is one's, for errors.
    """

    def __init__(  # noqa: PLR0913 (each is an independent choice of the client)
        self,
        settings: LinkSettings,
        client_id: ClientId,
        *,
        timeout_s: float,
        filters: Iterable[str],
        receive: Callable[[Message], None],
        link_changed: Callable[[str | None], None],
        service: str | None = None,
    ) -> None:
        self._service = service
        self._closed = False
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._receive = receive
        self._link_changed = link_changed
        self._inbox: Inbox[LinkItem] = Inbox(InOrder())
        self._link = Link(
            # A client that guesses this ID can disconnect this one, so it has nothing in common with any message.
            replace(
                settings,
                client_id=f"{client_id}-{token_hex(_SECRET_BYTES)}",
                subscriptions=(topics.receipt(client_id), *filters),
            ),
            self._inbox.put,
        )
        self._questions: dict[str, _Question] = {}
        self._free = asyncio.Semaphore(_MOST_UNANSWERED)
        self._connected: asyncio.Future[None] | None = None
        self.no_reply = Reply(client_id)
        """For a message that `ask` completes."""
        self.connections = 0
        """How often the link came up. Messages sent in between were missed."""
        self.problem: str | None = None
        """Why there is no link now."""
        self.refusal: BaseException | None = None
        """Why there is no link any more, and none will come."""
        self._tasks: list[asyncio.Task[None]] = []
        self._unsent: list[Packet] = []
        self._repeating: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            AccessDenied: the broker refuses the connection.
            ConnectionFailed: the broker is unreachable.
        """
        self._connected = asyncio.get_running_loop().create_future()
        self._tasks = [
            asyncio.create_task(self._link.run(), name="link"),
            asyncio.create_task(self._listen(), name="conversation"),
        ]
        self._tasks[0].add_done_callback(self._link_ended)
        try:
            await self._connected
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect. Requests without an answer fail."""
        self._closed = True
        for question in self._questions.values():
            if not question.answer.done():
                question.answer.set_exception(ConnectionFailed(_CLOSED))
        await self._link.close()
        tasks = [task for task in (*self._tasks, self._repeating) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def subscribe(self, filters: Iterable[str]) -> None:
        """Subscribe to more topics. The broker has the subscription before any later request."""
        self._link.subscribe(filters)

    async def ask(self, make: Callable[[Reply], Message]) -> Any:
        """Send a request, and repeat it until it is answered.

        Args:
            make: makes the request for a reply address.

        Raises:
            AccessDenied: the broker does not allow this request.
            RequestRefused: the dispatcher refuses it, because it is not a valid message there.
            NoAnswer: no dispatcher answered in time.
            ConnectionFailed: the connection was lost, and did not come back in time; or it is closed.
        """
        if self._closed:
            raise ConnectionFailed(_CLOSED)
        async with self._free:
            correlation = token_hex(_SECRET_BYTES)
            message = make(Reply(self._client_id, correlation))
            packet = codec.changed_packet(codec.encode(message), tag=correlation)
            answer = asyncio.get_running_loop().create_future()
            question = _Question(packet, message, answer, clock.monotonic() + self._timeout_s)
            self._questions[correlation] = question
            try:
                self._repeat_later(question)
                await self._link.send([packet])
                return await answer
            finally:
                del self._questions[correlation]
                answer.cancel()
                if question.timer is not None:
                    question.timer.cancel()

    def _repeat_later(self, question: _Question) -> None:
        patience_s = max(0.0, min(_REPEAT_S, question.deadline - clock.monotonic()))
        question.timer = asyncio.get_running_loop().call_later(patience_s, self._repeat, question)

    def _repeat(self, question: _Question) -> None:
        """Send a request again that has no answer, unless its time is over."""
        if question.answer.done():
            return
        if clock.monotonic() >= question.deadline:
            question.answer.set_exception(self._unanswered(question))
            return
        self._repeat_later(question)
        self._unsent.append(question.packet)
        if self._repeating is None or self._repeating.done():
            self._repeating = asyncio.create_task(self._send_again(), name="repeated requests")

    async def _send_again(self) -> None:
        while self._unsent:
            packets, self._unsent = self._unsent, []
            await self._link.send(packets)

    def _unanswered(self, question: _Question) -> ConnectionFailed:
        waited = f"no answer within {self._timeout_s:g} s"
        if question.obstacle is not None:
            return ConnectionFailed(f"{waited}: {question.obstacle}")
        return NoAnswer(
            f"{waited}: no dispatcher answers. Start stockworker-dispatcher, or check its log. If it runs, "
            f"`stockworker check` shows whether the broker lets it answer {self._client_id!r}"
        )

    async def _listen(self) -> None:
        while True:
            items = await self._inbox.take(_IDLE_S)
            for item in items:
                match item:
                    case Delivery(packet=packet):
                        self._received(packet)
                    case LinkUp():
                        await self._link_up()
                    case LinkDown(reason=reason):
                        self._link_down(reason)
                    case PublishRefused(packet=packet, reason_code=code):
                        self._refused(packet, code)
                    case Delayed():
                        pass  # only services probe the delay of the broker
            self._link.acknowledge(item for item in items if isinstance(item, Delivery))

    async def _link_up(self) -> None:
        if self._connected is not None and not self._connected.done():
            self._connected.set_result(None)
        self.connections += 1
        self.problem = None
        if self.connections > 1:
            self._link_changed(None)
        for question in self._questions.values():
            question.obstacle = None
        await self._link.send([question.packet for question in self._questions.values()])

    def _link_down(self, reason: str) -> None:
        self.problem = reason
        if self._connected is not None and not self._connected.done():
            self._connected.set_exception(ConnectionFailed(reason))
        elif self.connections:
            self._link_changed(reason)
        for question in self._questions.values():
            question.obstacle = reason

    def _link_ended(self, link: asyncio.Task[None]) -> None:
        error = None if link.cancelled() else link.exception()
        if error is None:
            return
        # The link only ends by itself if the broker refuses the connection permanently.
        self.refusal = refusal = AccessDenied(str(error)) if isinstance(error, ConnectionFailed) else error
        self._link_changed(str(refusal))
        if self._connected is not None and not self._connected.done():
            self._connected.set_exception(refusal)
        for question in self._questions.values():
            if not question.answer.done():
                question.answer.set_exception(refusal)

    def _refused(self, packet: Packet, code: int) -> None:
        question = self._questions.get(str(packet.tag))
        # Without a subscriber now, the dispatcher may connect soon: the request is repeated.
        if code == NO_MATCHING_SUBSCRIBERS or question is None or question.answer.done():
            return
        question.answer.set_exception(
            AccessDenied(
                f"the broker refused a message to {packet.topic}: {reason_name(code)}. {self._remedy(packet.topic)}"
            )
        )

    def _remedy(self, topic: str) -> str:
        """What to do when the broker denies this client a topic.

        Never to give the name of a service another role: the access control list would deny the service its own topics.
        """
        name = self._client_id
        if self._service is not None:
            return f"{name!r} is the {self._service} of this machine, not a client. {_USE} of a client or an operator"
        if Role.CLIENT not in topics.BY_KIND[topics.parse(topic).kind].publishers:
            return f"This requires operator rights, and {name!r} is not an operator. {_USE} of an operator"
        return (
            f"The broker's access control list does not have {name!r} as client or operator. {_USE} of one. For a new client, "
            f"run `stockworker pki issue client {name}` at the fleet's authority, then `stockworker broker setup` on the "
            "broker's machine"
        )

    def _received(self, packet: Packet) -> None:
        try:
            message = codec.decode(packet)
        except DecodeError:
            return  # an invalid answer counts as none: the request is repeated
        match message:
            case Receipt(reply=reply) | Answer(reply=reply) | Stats(reply=Reply() as reply):
                self._answered(reply, message)
            case _:
                self._receive(message)

    def _answered(self, reply: Reply, message: FromDispatcher) -> None:
        question = self._questions.get(reply.correlation or "")
        if question is None or question.answer.done():
            return
        answer = judge(question.message, message)
        if answer is None:
            kinds = type(message).__name__, type(question.message).__name__
            log_event(_log, AnswerIgnored(reason=f"this {kinds[0]} does not answer the {kinds[1]} that was sent"))
        elif isinstance(answer, RequestRefused):
            question.answer.set_exception(answer)
        else:
            question.answer.set_result(answer)
