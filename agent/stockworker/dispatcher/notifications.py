"""Which notifications an operator gets, and when. Pure, a part of the dispatcher."""

# An occurrence is one thing that a person should know: a job has failed, a worker is missing, a certificate expires, something
# was lost. Occurrences wait in one group, and a notification takes the whole group. So there is never more than one
# notification on its way and one group behind it, whatever happens: a group has the first occurrences of each subject, and a
# count of the others.
#
# - **Grouping.** A group waits for `GATHER_S`, because failures mostly come together.
# - **Rate.** The number of notifications in an hour is bounded. Meanwhile the group grows.
# - **Retries.** A notification that can't be delivered is repeated, with longer and longer pauses, and is given up at last.
#   Until then nothing else is sent.

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Final

from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.loss_meter import Losses
from stockworker.logs.events import JobFailed, LogEvent
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import WorkerId

GATHER_S: Final = 5.0
HOUR_S: Final = 3600.0
MOST_SHOWN: Final = 10
"""Occurrences of each subject that a notification names."""

MOST_ATTEMPTS: Final = 8
_BACKOFF_S: Final = 10.0
_LONGEST_BACKOFF_S: Final = 600.0
_LONGEST_TEXT: Final = 300


class NotificationSubject(StrEnum):
    """What a notification can be about."""

    JOBS = "jobs"
    WORKERS = "workers"
    CERTIFICATES = "certificates"
    LOSSES = "losses"


_OTHERS: Final = {
    NotificationSubject.JOBS: "more jobs failed",
    NotificationSubject.WORKERS: "more workers are missing",
    NotificationSubject.CERTIFICATES: "more certificates expire",
    NotificationSubject.LOSSES: "more losses",
}


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One thing that a person should know.

    Attributes:
        subject: what it is about.
        text: one line for people.
        details: the same for programs.
    """

    subject: NotificationSubject
    text: str
    details: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Notification:
    """A group of occurrences on its way.

    Attributes:
        occurrences: the first ones of each subject.
        counts: how many of each subject there are, together with those that are left out.
    """

    occurrences: tuple[Occurrence, ...]
    counts: Mapping[NotificationSubject, int]

    @property
    def text(self) -> str:
        """Everything for people, in lines."""
        lines = []
        for subject, count in self.counts.items():
            shown = [each.text for each in self.occurrences if each.subject is subject]
            lines += shown
            if count > len(shown):
                lines.append(f"{count - len(shown)} {_OTHERS[subject]}")
        return "\n".join(lines)


class Notifications:
    """Groups occurrences, and decides when a notification is sent, and sent again.

    Args:
        subjects: the subjects that are wanted.
        most_an_hour: how many notifications may begin in an hour.
    """

    def __init__(self, subjects: Collection[NotificationSubject], most_an_hour: int) -> None:
        self._subjects = frozenset(subjects)
        self._most_an_hour = most_an_hour
        self._group: dict[NotificationSubject, list[Occurrence]] = {}
        self._counts: dict[NotificationSubject, int] = {}
        self._since = 0.0
        self._begun: deque[float] = deque()
        self._current: Notification | None = None
        self._attempts = 0
        self._again_at = 0.0

    def add(self, occurrences: Iterable[Occurrence], now: float) -> None:
        """Add what has happened to the group."""
        for each in occurrences:
            if each.subject not in self._subjects:
                continue
            if not self._counts:
                self._since = now
            self._counts[each.subject] = self._counts.get(each.subject, 0) + 1
            shown = self._group.setdefault(each.subject, [])
            if len(shown) < MOST_SHOWN:
                shown.append(each)

    def due(self, now: float) -> Notification | None:
        """The notification to send now, for the first time or again."""
        if self._current is not None:
            return self._current if now >= self._again_at else None
        if not self._counts or now < self._since + GATHER_S or not self._may_begin(now):
            return None
        self._begun.append(now)
        shown = tuple(each for group in self._group.values() for each in group)
        self._current = Notification(shown, self._counts)
        self._group, self._counts, self._attempts, self._again_at = {}, {}, 0, now
        return self._current

    def _may_begin(self, now: float) -> bool:
        while self._begun and now - self._begun[0] >= HOUR_S:
            self._begun.popleft()
        return len(self._begun) < self._most_an_hour

    def delivered(self) -> None:
        """The notification has arrived."""
        self._current = None

    def failed(self, now: float, *, retryable: bool) -> bool:
        """The notification could not be delivered; return whether it will be sent again."""
        self._attempts += 1
        if not retryable or self._attempts >= MOST_ATTEMPTS:
            self._current = None
            return False
        self._again_at = now + min(_LONGEST_BACKOFF_S, _BACKOFF_S * 2 ** (self._attempts - 1))
        return True


class Conditions:
    """Notices when a worker is missing, a certificate expires, or something is lost: each once, until it is well again.

    Args:
        missing_s: how long a worker is offline before it is missing.
        days: below each of these numbers of days, a certificate is reported once.
    """

    def __init__(self, missing_s: float, days: Collection[int]) -> None:
        self._missing_s = missing_s
        self._days = sorted(days)
        self._offline_since: dict[WorkerId, float] = {}
        self._missing: set[WorkerId] = set()
        self._expiring: dict[str, int] = {}
        self._lost = False

    def workers(self, workers: Collection[Worker], now: float) -> list[Occurrence]:
        """Look at all workers."""
        offline = {worker.worker_id for worker in workers if not worker.online}
        self._offline_since = {each: self._offline_since.get(each, now) for each in offline}
        self._missing &= offline
        found = []
        for each in sorted(offline - self._missing):
            if now - self._offline_since[each] >= self._missing_s:
                self._missing.add(each)
                text = f"worker {each} is missing: it has been offline for {self._missing_s:.0f} s"
                found.append(Occurrence(NotificationSubject.WORKERS, text, {"worker": each}))
        return found

    def certificates(self, days_left: Mapping[str, int | None]) -> list[Occurrence]:
        """Look at all certificates: the days until each of them expires, by the service that has it."""
        found = []
        levels = {}
        for name, left in days_left.items():
            level = 0 if left is None else sum(left < each for each in self._days)
            levels[name] = level
            if left is not None and level > self._expiring.get(name, 0):
                ends = f"expires in {left} days" if left >= 0 else "has expired"
                text = f"the certificate of {name} {ends}"
                found.append(Occurrence(NotificationSubject.CERTIFICATES, text, {"service": name, "days": left}))
        self._expiring = levels
        return found

    def losses(self, losses: Losses) -> list[Occurrence]:
        """Look at the loss meter."""
        had, self._lost = self._lost, losses.total > 0
        if had or not self._lost:
            return []
        causes = {
            "accounting": losses.accounting,
            "tracers": losses.tracers,
            "broker": losses.broker,
            "unheard": losses.unheard,
        }
        shown = ", ".join(f"{cause} {count}" for cause, count in causes.items() if count)
        return [
            Occurrence(
                NotificationSubject.LOSSES, f"jobs or messages may be lost ({shown})", {**causes, "lost": losses.total}
            )
        ]


def failed_jobs(log: Iterable[LogEvent]) -> list[Occurrence]:
    """The jobs that have failed for good in a turn, by its log."""
    found = []
    for event in log:
        if isinstance(event, JobFailed):
            reason = _printable(event.reason or event.outcome)
            details = {"job": event.job, "type": event.type, "outcome": event.outcome, "reason": reason}
            found.append(
                Occurrence(NotificationSubject.JOBS, f"job {event.job} ({event.type}) failed: {reason}", details)
            )
    return found


def _printable(text: str) -> str:
    """A text of a job, which may contain anything, for a terminal or a chat."""
    return "".join(each if each.isprintable() else "?" for each in text[:_LONGEST_TEXT])
