"""Chooses the fastest formulas that this machine has."""

import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Final, Protocol

from stockworker.market.columns import Columns, Values

_WORTH_IT: Final = 600_000
"""Values that numpy computes faster by about the time of its import, 0.1 s: nine indicators of 26 symbols over ten years."""


class Formulas(Protocol):
    """Faster formulas of the indicators of some bars."""

    def newest(self, name: str, arguments: Sequence[float], count: int) -> Values | None:
        """The newest values of an indicator, NaN where it is not defined; None if it has no formula here."""


def faster_formulas(values: int) -> Callable[[Columns], Formulas] | None:
    """Formulas that need numpy, if it is installed and worth its import.

    Args:
        values: how many a job is about to compute: days times indicators times symbols.
    """
    if "numpy" not in sys.modules and (values < _WORTH_IT or find_spec("numpy") is None):
        return None
    from stockworker.market.indicators.arrays import ArrayFormulas  # noqa: PLC0415 (numpy takes 0.1 s)

    return ArrayFormulas
