"""Reports unexpected exceptions, which are defects of this program."""

import logging
import traceback

from stockworker.errors import ServiceFault
from stockworker.logs import log_event
from stockworker.logs.events import Fault

_log = logging.getLogger(__name__)


def report(error: Exception) -> ServiceFault:
    """Log an unexpected exception with its traceback; return the error for the user. A command logs to standard error."""
    where = _where(error)
    log_event(_log, Fault(where=where), exc_info=error)
    return ServiceFault(f"internal error in {where}: {error!r}. Please report it with the traceback above")


def _where(error: Exception) -> str:
    """The innermost place of this package in a traceback."""
    places = [
        (str(frame.f_globals.get("__name__")), frame.f_code.co_qualname, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    own = [place for place in places if place[0].startswith("stockworker.")]
    module, function, line = (own or places)[-1]
    return f"{module}, {function}, line {line}"
