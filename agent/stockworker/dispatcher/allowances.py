"""What workers may claim: their types, tags and slots. Pure, a part of the dispatcher's machine."""

# A worker announces in each request what it can run and how many jobs it wants. Its certificate proves its name, and
# nothing else. So the operator may state for each name, or pattern of names, what such a worker may get. A claim beyond
# that is cut down to it. Without a statement a worker may announce any type and tag, and a number of slots that is
# enough for a large machine, so that no worker can have all jobs of a fleet.

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from stockworker.dispatcher.outbox import Outbox
from stockworker.dispatcher.policy import Allowance
from stockworker.logs.events import WorkerClaimsTooMuch
from stockworker.protocol.body import MOST_WAITING
from stockworker.protocol.ids import WorkerId
from stockworker.protocol.messages import Request
from stockworker.shell.turn import Now

_NOTE_EVERY_S: Final = 3600.0
"""Time between two log events about one worker, so that it cannot fill the disk."""

_MOST_NAMED: Final = 5
"""How many types and tags beyond the allowance a log event names."""

_ANYTHING: Final = Allowance()


class Allowances:
    """Cuts claims of workers down to what they may claim.

    Args:
        of_names: the allowance for each pattern of worker IDs, in which `*` is any text.
        outbox: takes log events.
    """

    def __init__(self, of_names: Mapping[str, Allowance], outbox: Outbox) -> None:
        # The most specific pattern first: the one with the most characters besides `*`.
        by_length = sorted(of_names, key=lambda pattern: (-len(pattern.replace("*", "")), pattern))
        self._patterns = [(re.compile(re.escape(each).replace(r"\*", ".*")), of_names[each]) for each in by_length]
        self._outbox = outbox
        self._note_at: dict[WorkerId, float] = {}

    def of(self, worker_id: WorkerId) -> Allowance:
        """Return the allowance of a worker: that of the most specific pattern."""
        return next((allowance for pattern, allowance in self._patterns if pattern.fullmatch(worker_id)), _ANYTHING)

    def limit(self, request: Request, now: Now) -> Request:
        """Return the request with what its worker may claim; log what goes beyond that."""
        allowance = self.of(request.worker_id)
        types = tuple(each for each in request.types if allowance.types is None or each in allowance.types)
        tags = tuple(each for each in request.tags if allowance.tags is None or each in allowance.tags)
        slots = min(request.slots, allowance.slots)
        window = min(request.window, slots + MOST_WAITING)
        beyond = [f"type {each}" for each in request.types if each not in types]
        beyond += [f"tag {each}" for each in request.tags if each not in tags]
        if slots < request.slots:
            beyond.insert(0, f"{request.slots} slots instead of {slots}")
        elif window < request.window:
            beyond.insert(0, f"{request.window} leases instead of {window}")
        if not beyond:
            return request
        self._note(request.worker_id, beyond, now)
        return replace(request, types=types, tags=tags, slots=slots, window=window)

    def _note(self, worker_id: WorkerId, beyond: list[str], now: Now) -> None:
        if now.steady < self._note_at.get(worker_id, now.steady):
            return
        self._note_at[worker_id] = now.steady + _NOTE_EVERY_S
        claims = ", ".join(beyond[:_MOST_NAMED])
        if len(beyond) > _MOST_NAMED:
            claims += f" and {len(beyond) - _MOST_NAMED} more"
        self._outbox.log(WorkerClaimsTooMuch(worker=worker_id, claims=claims))
