"""What a migration would move: counts and samples. Its memory is bounded, however many records an old queue has. Pure."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import Final

from stockworker.migration.decoding import MigratedJob, Refused

MOST_KINDS: Final = 1000
"""Types with a priority that are counted one by one. Further ones are counted together."""

MOST_REASONS: Final = 100
"""Different reasons, of which some records are kept. Further ones are only counted."""

SAMPLES: Final = 10
"""Records that are kept of each reason, so that many of one reason do not hide another one."""

_SAMPLE: Final = 60
_VARIABLE: Final = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")


class Preview:
    """Counts what becomes a job, by type and priority, and what does not, by reason."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._samples: dict[tuple[str, str], str] = {}
        self._reasons: dict[str, list[Refused]] = {}
        self.others = 0
        """Jobs of further types, which `kinds` does not list."""
        self.refused = 0
        """Records that can't become jobs."""

    @property
    def jobs(self) -> int:
        """Records that can become jobs."""
        return self._counts.total() + self.others

    def add(self, decoded: MigratedJob | Refused) -> None:
        """Count a record."""
        if isinstance(decoded, Refused):
            self._refuse(decoded)
            return
        key = str(decoded.submission.type), decoded.submission.priority.label
        if key not in self._counts and len(self._counts) >= MOST_KINDS:
            self.others += 1
            return
        self._counts[key] += 1
        self._samples.setdefault(key, f"{decoded.record_id}: {decoded.submission.payload[:_SAMPLE]}")

    def _refuse(self, refused: Refused) -> None:
        self.refused += 1
        kind = _VARIABLE.sub("", refused.reason)
        if kind not in self._reasons and len(self._reasons) >= MOST_REASONS:
            return
        kept = self._reasons.setdefault(kind, [])
        if len(kept) < SAMPLES:
            kept.append(refused)

    def kinds(self) -> Iterator[tuple[str, str, int, str]]:
        """Type, priority, number of jobs and a sample."""
        return ((*key, count, self._samples[key]) for key, count in sorted(self._counts.items()))

    def samples(self, most: int) -> list[Refused]:
        """Some records that can't become jobs: one of each reason, then a second one, and so on."""
        rounds = zip_longest(*self._reasons.values())
        return [each for each in chain.from_iterable(rounds) if each is not None][:most]
