"""The notices of the ends of jobs, and to which topics they go. Pure, a part of the dispatcher's machine."""

# The notice of a client's job goes to the connection that submitted it, with the whole result, and together with all others
# of the same turn. So a client decodes no job of any other connection, however many there are. The public notice is for
# tools that watch, for submitters without a connection of their own, and for clients that wait for a job that they have
# not submitted. Results may be large, so there they are bounded. Where a connection gets the notice as well, the public one
# has QoS 0: a job costs all processes about 15 % less then.
#
# Which connection has submitted a job is in memory only, and only for the newest `_MOST_EXPECTED` jobs. All others go to all
# connections of the owner: after a restart, too. That is safe, because notices are hints. A client that misses one
# queries the job.

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from stockworker.protocol.body import content_size, in_batches
from stockworker.protocol.ids import ClientId, JobId, owner_of
from stockworker.protocol.messages import (
    ALL_CONNECTIONS,
    Notice,
    NoticeEntry,
    Notices,
    ReceiptEntry,
    ReceiptStatus,
    Submit,
)
from stockworker.shell.turn import Send

_MOST_EXPECTED: Final = 100_000


class Announcements:
    """Makes the notices of a turn.

    Args:
        most_result_bytes: the largest result of a public notice.
    """

    def __init__(self, most_result_bytes: int) -> None:
        self._most_result_bytes = most_result_bytes
        self._connections: dict[JobId, str] = {}

    def expect(self, submit: Submit, entries: Sequence[ReceiptEntry]) -> bool:
        """Note which connection has submitted jobs; return whether it will get their notices."""
        if submit.notify is None or submit.client_id is None:
            return False
        for entry in entries:
            if entry.job_id is None:
                continue
            if entry.status is ReceiptStatus.STORED:
                self._connections[entry.job_id] = submit.notify
            elif self._connections.get(entry.job_id, submit.notify) != submit.notify:
                del self._connections[entry.job_id]  # two connections have submitted it: both wait
        while len(self._connections) > _MOST_EXPECTED:
            del self._connections[next(iter(self._connections))]
        return True

    def publish(self, ended: Iterable[NoticeEntry]) -> Iterator[Send]:
        """The notices of jobs that have ended: first those for submitters, because they wait."""
        public: list[Send] = []
        waiting: dict[tuple[ClientId, str], list[NoticeEntry]] = {}
        for entry in ended:
            owner = owner_of(entry.job_id)
            connection = self._connections.pop(entry.job_id, ALL_CONNECTIONS)
            if owner is not None:
                waiting.setdefault((owner, connection), []).append(entry)
            public.append(Send(self._public(entry), spare=connection != ALL_CONNECTIONS))
        for (owner, connection), entries in waiting.items():
            for batch in in_batches(entries, _size):
                yield Send(Notices(owner, connection, batch))
        yield from public

    def _public(self, entry: NoticeEntry) -> Notice:
        result = entry.result
        withheld = result is not None and len(result.encode()) > self._most_result_bytes
        return Notice(
            entry.job_id,
            entry.type,
            entry.state,
            entry.attempt,
            entry.worker,
            False if withheld else result,
            entry.reason,
        )


def _size(entry: NoticeEntry) -> int:
    return content_size(entry.result) + content_size(entry.reason)
