"""Chooses the fastest formulas that this machine has."""

# A process keeps what it has imported, and runs many jobs. The import of numpy takes as long as it then saves on 150,000
# values: nine indicators of seven symbols over ten years. A process that has computed as many without it will
# probably compute more, and imports it. So it never spends more than twice the time of the better choice.

import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Final, Protocol

from stockworker.market.columns import Columns, Values

_WORTH_IT: Final = 150_000


class Formulas(Protocol):
    """Faster formulas of the indicators of some bars."""

    def newest(self, name: str, arguments: Sequence[float], count: int) -> Values | None:
        """The newest values of an indicator, NaN where it is not defined; None if it has no formula here."""


class Acceleration:
    """Counts the values that this process has computed, until it imports numpy."""

    def __init__(self) -> None:
        self._computed = 0

    def formulas(self, values: int, times: int = 1) -> Callable[[Columns], Formulas] | None:
        """Formulas that need numpy, if it is installed and worth its import.

        Args:
            values: how many the caller is about to compute: days times indicators.
            times: how often it will, for as many symbols.
        """
        if "numpy" not in sys.modules:
            is_worth_it = self._computed + values * times >= _WORTH_IT
            if not is_worth_it or find_spec("numpy") is None:
                self._computed += values
                return None
        from stockworker.market.indicators.arrays import ArrayFormulas  # noqa: PLC0415 (numpy takes 0.1 s)

        return ArrayFormulas


faster_formulas: Final = Acceleration().formulas
"""Those of this process."""
