"""The interface of every handler, and where the built-in ones are."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from stockworker.protocol.ids import JobType

BUILT_IN: Final[Mapping[JobType, str]] = MappingProxyType(
    {
        JobType("data_import"): "stockworker.market.data_import:handle",
        JobType("price_update"): "stockworker.market.price_update:handle",
        JobType("technical_analysis"): "stockworker.market.technical_analysis:handle",
    }
)
"""By job type, the handler as ``module:function``: it is imported when a job needs it."""

MARKET_DATA: Final = "market_data"
"""The setting that every Python handler gets: where the market-data store is."""

_MIB: Final = 1_048_576

BUILT_IN_MEMORY: Final[Mapping[JobType, int]] = MappingProxyType(
    {
        JobType("data_import"): 768 * _MIB,  # 32 MiB, packed and unpacked, and a million bars of few or many symbols
        JobType("price_update"): 256 * _MIB,  # an answer of 16 MiB with 100,000 bars takes about 110 MiB
        JobType("technical_analysis"): 512 * _MIB,  # a million bars of a symbol, and one indicator of them
    }
)
"""By job type, how many bytes a job of a built-in handler may use by default. The bounds of their settings need less; a bomb
that somehow passes these ends its own process only, and not its machine."""
