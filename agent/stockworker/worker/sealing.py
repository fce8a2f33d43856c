"""Opens sealed payloads just before a handler starts, and seals results and errors when it has ended."""

# So the journal, the dispatcher and the broker only have sealed strings. Progress texts of sealed jobs are dropped.

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from stockworker.adapters import clock
from stockworker.errors import ConfigError, SealRefused
from stockworker.logs import log_event
from stockworker.logs.worker_events import PayloadRefused
from stockworker.protocol.attempt import AttemptOutput, AttemptResult
from stockworker.protocol.body import MAX_CONTENT, fits, output_room
from stockworker.protocol.ids import Token
from stockworker.protocol.job import Outcome
from stockworker.protocol.sealed import LONGEST_ERROR, is_sealed
from stockworker.sealing.envelope import Refusal, SealKind
from stockworker.worker.output import last_bytes
from stockworker.worker.work import Work

if TYPE_CHECKING:  # a worker that seals nothing need not load the cryptography
    from stockworker.sealing.worker_seal import Opened, WorkerSeal

_log = logging.getLogger(__name__)

_CUT: Final = "\n[…]\n"


class WorkerSealing:
    """The seals of one worker; without any, sealed payloads are refused, and plain ones pass.

    Attributes:
        refused: how many payloads were not accepted.
    """

    def __init__(self, seal: "WorkerSeal | None" = None) -> None:
        self.refused = 0
        self._seal = seal
        self._opened: dict[Token, tuple[Opened, int]] = {}

    def use(self, seal: "WorkerSeal | None") -> None:
        """Open and seal with other keys from now on."""
        self._seal = seal

    def covers(self, token: Token) -> bool:
        """Whether the payload of a running attempt came sealed."""
        return token in self._opened

    def open(self, work: Work) -> Work | AttemptResult:
        """Open a payload; or return the result of the attempt, because it must not run here."""
        seal = self._seal
        if not is_sealed(work.payload):
            if seal is not None and seal.required:
                text = "it is not sealed, and this worker runs nothing else (encryption.required)"
                return self._refuse(work, SealRefused(Refusal.PLAIN, text))
            return work
        if seal is None:
            text = "this worker has no keys: its configuration has no section 'encryption'"
            return self._refuse(work, SealRefused(Refusal.NO_KEY, text))
        try:
            opened = seal.open_job(work.payload, work.job_id, work.type, clock.wall())
        except SealRefused as refusal:
            return self._refuse(work, refusal)
        except ConfigError as error:
            return self._refuse(work, SealRefused(Refusal.NO_KEY, str(error)))
        self._opened[work.token] = opened, work.attempt
        return replace(work, payload=opened.payload)

    def close(self, result: AttemptResult) -> AttemptResult:
        """Seal the result or the error, and the output, of an attempt whose payload was sealed."""
        found = self._opened.pop(result.token, None)
        if found is None:
            return result
        closed = self._close(result, *found)
        return closed if closed.output is None else replace(closed, output=self._sealed_output(closed, *found))

    def _close(self, result: AttemptResult, opened: "Opened", attempt: int) -> AttemptResult:
        try:
            if result.result is not None:
                sealed = self._sealed(SealKind.RESULT, result.result, opened, attempt)
                if fits(sealed):
                    return replace(result, result=sealed)
                limit = f"the sealed result is larger than {MAX_CONTENT} bytes"
                result = _failed(result, f"{limit}: store it elsewhere, and return its location", permanent=True)
            if result.error is None:
                return result
            return replace(result, error=self._sealed_error(result.error, opened, attempt))
        except ConfigError as error:
            text = f"the result or error can't be sealed: {error}"
            return _failed(result, text) if result.result is not None else replace(result, error=text)

    def _sealed(self, kind: SealKind, text: str, opened: "Opened", attempt: int) -> str:
        if self._seal is None:
            raise ConfigError("the section 'encryption' was taken out of the configuration while the job ran")
        return self._seal.seal_answer(kind, text, opened, attempt, clock.wall())

    def _sealed_error(self, text: str, opened: "Opened", attempt: int) -> str:
        """Sealing makes a text longer, so a long one keeps only its beginning and its end."""
        empty = self._sealed(SealKind.ERROR, "", opened, attempt)
        room = (LONGEST_ERROR - len(empty)) * 3 // 4 - 1
        return self._sealed(SealKind.ERROR, shorten(text, room), opened, attempt)

    def _sealed_output(self, closed: AttemptResult, opened: "Opened", attempt: int) -> AttemptOutput | None:
        """Seal the end of an output, as much of it as fits beside the sealed result or error."""
        if closed.output is None:
            return None
        try:
            empty = self._sealed(SealKind.OUTPUT, "", opened, attempt)
            room = (output_room(closed.result, closed.error) - len(empty)) * 3 // 4 - 2
            end = last_bytes(closed.output, room)
            return replace(end, text=self._sealed(SealKind.OUTPUT, end.text, opened, attempt))
        except ConfigError:  # the error of the attempt names the reason
            return last_bytes(closed.output, 0)

    def _refuse(self, work: Work, refusal: SealRefused) -> AttemptResult:
        """Refuse an attempt: for good, unless another worker may have the key."""
        self.refused += 1
        log_event(
            _log,
            PayloadRefused(
                job=work.job_id,
                type=work.type,
                reason=refusal.reason,
                problem=str(refusal),
                count=self.refused,
            ),
        )
        here_only = refusal.reason == Refusal.NO_KEY
        outcome = Outcome.REFUSED if here_only else Outcome.ERROR
        return AttemptResult(work.token, outcome, error=f"the payload is refused: {refusal}", permanent=not here_only)


def _failed(result: AttemptResult, error: str, *, permanent: bool = False) -> AttemptResult:
    """The same attempt with an error instead of its result."""
    return replace(result, outcome=Outcome.ERROR, result=None, error=error, permanent=permanent)


def shorten(text: str, room: int) -> str:
    """`text` within `room` bytes of UTF-8: if it is longer, half of that from its beginning, half from its end."""
    content = text.encode(errors="replace")
    if len(content) <= room:
        return content.decode()
    half = (room - len(_CUT.encode())) // 2
    return content[:half].decode(errors="ignore") + _CUT + content[-half:].decode(errors="ignore")
