"""The built-in job types, the market-data store that they share, and the interface of every handler."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from stockworker.protocol.ids import JobType

BUILT_IN: Final[Mapping[JobType, str]] = MappingProxyType(
    {
        JobType("data_import"): "stockworker.handlers.data_import:handle",
        JobType("price_update"): "stockworker.handlers.price_update:handle",
        JobType("technical_analysis"): "stockworker.handlers.technical_analysis:handle",
    }
)
"""By job type, the handler as ``module:function``: it is imported when a job needs it."""
