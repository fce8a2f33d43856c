"""What the dispatcher answers at the end of a turn, gathered so that each peer gets few and large messages. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from stockworker.dispatcher.effects import Send
from stockworker.protocol.body import MAX_LIST
from stockworker.protocol.ids import Token, WorkerId
from stockworker.protocol.messages import Ack, Monitor, Notice, Receipt, ReceiptEntry, Reply, Transition

_RECEIPTS_AT_ONCE = 512
_TOKENS_AT_ONCE = 2048


@dataclass(slots=True)
class _Answers:
    stored: list[Token] = field(default_factory=list)
    stale: list[Token] = field(default_factory=list)
    renewed: list[Token] = field(default_factory=list)


class Replies:
    """Collects receipts and acknowledgements; hands them out once a turn."""

    def __init__(self) -> None:
        self._receipts: list[Receipt] = []
        self._acks: dict[WorkerId, _Answers] = {}

    def receipt(self, reply: Reply | None, entries: Sequence[ReceiptEntry]) -> None:
        """Tell a client, if it said where."""
        if reply is None:
            return
        for start in range(0, len(entries), _RECEIPTS_AT_ONCE):
            self._receipts.append(Receipt(reply, tuple(entries[start : start + _RECEIPTS_AT_ONCE])))

    def stored(self, worker_id: WorkerId, token: Token) -> None:
        """A report is on disk."""
        self._acks.setdefault(worker_id, _Answers()).stored.append(token)

    def stale(self, worker_id: WorkerId, token: Token) -> None:
        """A report was refused, or a lease is not the worker's any more."""
        self._acks.setdefault(worker_id, _Answers()).stale.append(token)

    def renewed(self, worker_id: WorkerId, token: Token) -> None:
        """A lease runs on."""
        self._acks.setdefault(worker_id, _Answers()).renewed.append(token)

    def flush(self, notices: Sequence[Notice], transitions: Sequence[Transition], lease_s: float) -> Iterator[Send]:
        """Everything that is to be published now, answers to workers first: they wait for them to go on."""
        for worker_id, answers in self._acks.items():
            yield from _acks(worker_id, answers, lease_s)
        for receipt in self._receipts:
            yield Send(receipt)
        for notice in notices:
            yield Send(notice)
        for start in range(0, len(transitions), MAX_LIST):
            yield Send(Monitor(tuple(transitions[start : start + MAX_LIST])))
        self._acks, self._receipts = {}, []


def _acks(worker_id: WorkerId, answers: _Answers, lease_s: float) -> Iterator[Send]:
    longest = max(len(answers.stored), len(answers.stale), len(answers.renewed))
    for start in range(0, longest, _TOKENS_AT_ONCE):
        part = slice(start, start + _TOKENS_AT_ONCE)
        yield Send(
            Ack(
                worker_id,
                stored=tuple(answers.stored[part]),
                stale=tuple(answers.stale[part]),
                renewed=tuple(answers.renewed[part]),
                lease_s=lease_s,
            )
        )
