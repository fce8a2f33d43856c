"""All indicators."""

# The tests compare every indicator with TA-Lib, an independent implementation, on real prices, or with its formula in terms of
# TA-Lib's. The values are equal, with the exceptions that `Indicator.differs` names. There are two sorts of them:
#
# - At the beginning of a series, where an average starts differently. Both forget their start exponentially.
# - Where prices do not move, so that a formula divides zero by zero. The value is null here, and often 0 in TA-Lib.

from collections.abc import Mapping
from typing import Final

from stockworker.market.indicators.averages import AVERAGES
from stockworker.market.indicators.declaration import Indicator
from stockworker.market.indicators.momentum import MOMENTUM
from stockworker.market.indicators.patterns import PATTERNS
from stockworker.market.indicators.ranges import RANGES
from stockworker.market.indicators.volume import BY_VOLUME

INDICATORS: Final[Mapping[str, Indicator]] = {**AVERAGES, **MOMENTUM, **RANGES, **BY_VOLUME, **PATTERNS}
"""Every indicator, by the name that a payload uses."""
