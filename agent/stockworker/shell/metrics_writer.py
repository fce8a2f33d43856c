"""Writes the metrics of a service into their file, beside its turns."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from stockworker.adapters.metric import Measured
from stockworker.adapters.metrics_file import MetricsFile
from stockworker.logs import log_event
from stockworker.logs.metrics_events import MetricsUnwritten

_log = logging.getLogger(__name__)

_FAREWELL_S: Final = 5.0


class MetricsWriter:
    """Asks for metrics periodically, and writes them in a thread, because their disk may hang.

    Attributes:
        file: where to write them; None if they are not wanted.
        due: whether the next turn must measure.
    """

    def __init__(self) -> None:
        self.file: MetricsFile | None = None
        self.due = False
        self._fails = False
        self._writing: asyncio.Task[None] | None = None

    async def ask(self, ask: Callable[[], None]) -> None:
        """Call `ask` whenever the metrics are due: it must lead to a turn."""
        while self.file is not None:
            ask()
            await asyncio.sleep(self.file.interval_s)

    def write(self, measure: Callable[[], Sequence[Measured]]) -> None:
        """Begin to write. If the last metrics are not written yet, leave these out."""
        self.due = False
        if self.file is not None and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write(self.file, measure()), name="metrics file")

    async def _write(self, file: MetricsFile, measured: Sequence[Measured]) -> None:
        try:
            await asyncio.to_thread(file.write, measured)
        except OSError as error:
            if not self._fails:
                log_event(_log, MetricsUnwritten(file=str(file.path), reason=error.strerror or str(error)))
            self._fails = True
        else:
            self._fails = False

    async def close(self) -> None:
        """Remove the file: its values are out of date soon."""
        if self.file is not None:
            if self._writing is not None:
                await asyncio.wait({self._writing}, timeout=_FAREWELL_S)
            await asyncio.to_thread(self.file.remove)
