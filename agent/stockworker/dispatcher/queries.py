"""Queries and requests for statistics that wait for their answer. Pure, a part of the dispatcher's machine."""

# Queries take no part in the work of the fleet, so they must not delay it, however many there are.
#
# - The turn only enters a query here. It acknowledges the message like any other. A query may be lost: its client
#   repeats it every two seconds.
# - One query at a time leaves, as an effect. The service answers it in a thread of its own, with its own connection to
#   the store, and then reports `Answered`. The answer has the state after the turn that returned the effect, or a later
#   one. What only the machine knows (why a job waits, the statistics) is computed in that turn.
# - Clients take turns: one that asks a thousand times delays the others by one answer. Repeated queries count once.
# - The number of waiting queries is bounded, for each client and in total. The machine drops and counts all others, and
#   logs who sent them. If there is no room in total, the client with the most queries loses its newest one.

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from stockworker.dispatcher.outbox import Outbox
from stockworker.logs.events import QueriesDropped
from stockworker.protocol.ids import ClientId
from stockworker.protocol.job import JobRecord
from stockworker.protocol.messages import Query, StatsRequest
from stockworker.shell.turn import Now

MOST_OF_CLIENT: Final = 64
"""As many as a client of this software has unanswered at a time."""

MOST: Final = 512
"""Queries that wait in total: at most 32 MiB."""

NOTE_EVERY_S: Final = 60.0
"""Time between two log events about one client."""

_MOST_NOTED: Final = 256
"""Clients that have log events in one of these times."""

Asked = Query | StatsRequest


class Queries:
    """Queries that wait, and whether one of them is being answered.

    Args:
        counters: of the dispatcher.
        outbox: takes log events.
    """

    def __init__(self, counters: Counter[str], outbox: Outbox) -> None:
        self._counters = counters
        self._outbox = outbox
        # Both dictionaries are queues: the first client is the next, with its first query.
        self._waiting: dict[ClientId | None, dict[Asked, Sequence[JobRecord]]] = {}
        self._count = 0
        # Of whom queries were dropped since the last log event about them, in this minute and in the one before.
        self._dropped: dict[ClientId | None, int] = {}
        self._dropped_before: dict[ClientId | None, int] = {}
        self._note_until = -math.inf
        self._busy = False

    def __len__(self) -> int:
        return self._count

    def add(self, asked: Asked, now: Now, parked: Sequence[JobRecord] = ()) -> None:
        """Enter a query with the parked jobs that it is about, or drop one if there is no room."""
        client = asked.client_id
        own = self._waiting.setdefault(client, {})
        if asked in own:
            return
        own[asked] = parked
        self._count += 1
        if len(own) > MOST_OF_CLIENT:
            self._drop_newest(client, now)
        elif self._count > MOST:
            longest = max(self._waiting, key=lambda each: len(self._waiting[each]))
            self._drop_newest(longest if len(self._waiting[longest]) > len(own) else client, now)

    def answered(self) -> None:
        """The last query that `next` returned is answered."""
        self._busy = False

    def next(self) -> tuple[Asked, Sequence[JobRecord]] | None:
        """Take out the query that must be answered now, with its parked jobs; None while another one is answered."""
        if self._busy or not self._waiting:
            return None
        client = next(iter(self._waiting))
        own = self._waiting.pop(client)
        asked = next(iter(own))
        parked = own.pop(asked)
        self._count -= 1
        if own:
            self._waiting[client] = own
        self._busy = True
        return asked, parked

    def _drop_newest(self, client: ClientId | None, now: Now) -> None:
        own = self._waiting[client]
        own.popitem()
        if not own:
            del self._waiting[client]
        self._count -= 1
        self._counters["queries_dropped"] += 1
        if now.steady >= self._note_until:
            self._note_until = now.steady + NOTE_EVERY_S
            self._dropped_before, self._dropped = self._dropped, {}
        if client in self._dropped:
            self._dropped[client] += 1
        elif len(self._dropped) < _MOST_NOTED:
            self._dropped[client] = 0
            self._outbox.log(QueriesDropped(client=client, dropped=1 + self._dropped_before.get(client, 0)))
