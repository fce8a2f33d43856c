"""Seals payloads before they are sent, and opens results and error texts when they arrive."""

# Keys and keyring are read again when their files change, so that a long-running program takes part in a rotation.

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Final

from stockworker.adapters import clock
from stockworker.client.completions import Completion, changed_completion
from stockworker.client.output import Output
from stockworker.config import Encryption
from stockworker.errors import ConfigError, JobRejected, SealRefused
from stockworker.protocol.body import fits
from stockworker.protocol.ids import ClientId, JobId, make_job_id
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptEntry, ReceiptStatus, Submission
from stockworker.protocol.sealed import find, is_sealed, without_sealed
from stockworker.protocol.views import Explanation, JobView, NumberedOutput

if TYPE_CHECKING:  # a client without sealing does not load the cryptography package
    from stockworker.sealing.submitter_seal import Sent, SubmitterSeal

_ENTROPY: Final = SystemRandom()
_AT_ONCE: Final = 64
_CHECK_FILES_S: Final = 1.0
_MOST_REMEMBERED: Final = 100_000
_MOST_SEALINGS: Final = 16
_NOT_PROVEN: Final = " (not sealed, so no worker has proven it)"
_NOT_CONFIGURED: Final = "it is sealed, and this client has no keys; its configuration has no section 'encryption'"


class ClientSealing:
    """The sealing of one client; without a configuration, payloads are sent plain.

    Args:
        name: the client.
        encryption: the configuration of sealing; None without sealing.
    """

    def __init__(self, name: ClientId, encryption: Encryption | None) -> None:
        self._keys = None if encryption is None else Keys(name, encryption)
        self._required = encryption is not None and encryption.required
        self._sent: dict[JobId, Sent] = {}

    async def seal_all(self, submissions: Iterable[Submission]) -> list[Submission]:
        """Seal the payloads of all jobs before any is sent. Other tasks of the event loop run in between.

        Raises:
            ConfigError: the keys are not usable.
            JobRejected: a payload must be sealed but can't be, or is too large when sealed.
        """
        sealed = []
        for number, submission in enumerate(submissions, 1):
            sealed.append(self._seal(submission))
            if self._keys is not None and number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return sealed

    def _seal(self, job: Submission) -> Submission:
        if self._keys is None or is_sealed(job.payload):
            return job
        now = clock.wall()
        seal = self._keys.current()
        if not self._required and not seal.can_seal(job.type, now):
            return job
        job_id = job.job_id or make_job_id(now, _ENTROPY)
        try:
            sealed = seal.seal_job(job, job_id, now)
        except (ConfigError, ValueError) as error:
            raise JobRejected(f"job {job_id} can't be sealed: {error}") from None
        if not fits(sealed.text):
            raise JobRejected(
                f"job {job_id}: the payload is too large; sealing adds a third to its size. Store the data where workers "
                "can fetch it, and send a reference"
            )
        self._remember(job_id, sealed.sent)
        return replace(job, job_id=job_id, payload=sealed.text)

    def _remember(self, job_id: JobId, sent: "Sent") -> None:
        """Remember what was sealed: the same content as before may be answered as any of its last sealings."""
        earlier = self._sent.pop(job_id, None)
        if earlier is not None and earlier.is_same_content(sent) and 0 < len(earlier.of) < _MOST_SEALINGS:
            sent = replace(sent, of=earlier.of | sent.of)
        self._sent[job_id] = sent
        while len(self._sent) > _MOST_REMEMBERED:
            del self._sent[next(iter(self._sent))]

    def received(self, receipts: Sequence[ReceiptEntry]) -> None:
        """Take note that the dispatcher had some jobs before.

        If this process has sealed the job once, the dispatcher may have a sealing of an earlier process. So any sealing
        of the same content will do. Another content is refused later, when the result arrives. If the dispatcher names
        another job with the same unique key, that job must be sealed as well.
        """
        for entry in receipts:
            sent = None if entry.job_id is None else self._sent.get(entry.job_id)
            if entry.status is not ReceiptStatus.DUPLICATE or entry.job_id is None or sent is None:
                continue
            if entry.holder is not None:
                del self._sent[entry.job_id]
                self._sent.setdefault(entry.holder, replace(sent, marks=None, of=frozenset()))
            elif len(sent.of) == 1:
                self._sent[entry.job_id] = replace(sent, of=frozenset())

    # --- results and error texts --------------------------------------------------------------------------------------

    def open(self, ended: Completion) -> Completion:
        """Open the result or the reason of a job. For a result that is not trustworthy, set a reason instead."""
        if ended.state is not State.COMPLETED:
            return replace(ended, reason=self._reason(ended.job_id, ended.state, ended.reason))
        try:
            return changed_completion(ended, result=self._result(ended.job_id, ended.result), reason=None)
        except (SealRefused, ConfigError) as error:
            return replace(ended, result=None, reason=f"the result is refused: {error}")

    def open_view(self, view: JobView, *, with_result: bool = False) -> JobView:
        """Open the reason of a view and, if it was queried, the result; see `open`."""
        if not with_result or view.state is not State.COMPLETED:
            return replace(view, reason=self._reason(view.job_id, view.state, view.reason))
        ended = self.open(Completion(view.job_id, view.state, view.result, view.reason))
        return replace(view, result=ended.result, reason=ended.reason)

    def open_explanation(self, explanation: Explanation) -> Explanation:
        """Open the error texts of a job's attempts."""
        job_id = explanation.job_id
        why = tuple(self.readable(job_id, sentence) or "" for sentence in explanation.why)
        attempts = tuple(
            replace(attempt, error=self._reason(job_id, State.FAILED, attempt.error))
            for attempt in explanation.attempts
        )
        return replace(explanation, why=why, attempts=attempts)

    def open_output(self, job_id: JobId, output: NumberedOutput) -> Output:
        """Open the output of an attempt; one that is not trustworthy is replaced by the reason."""
        try:
            text = self._output(job_id, output)
        except (SealRefused, ConfigError) as error:
            return Output(output.number, None, output.omitted, str(error))
        return Output(output.number, text, output.omitted)

    def _output(self, job_id: JobId, output: NumberedOutput) -> str:
        sealed = is_sealed(output.text)
        if not output.text or (not sealed and not self._required and job_id not in self._sent):
            return output.text
        if self._keys is None:
            raise ConfigError(_NOT_CONFIGURED)
        sent = self._sent.get(job_id)
        return self._keys.current().open_output(output.text, job_id, output.number, clock.wall(), sent)

    def _reason(self, job_id: JobId, state: State, reason: str | None) -> str | None:
        """A reason, opened; if no worker has proven the reason of a failure, it contains that."""
        text = self.readable(job_id, reason)
        is_plain = reason is not None and find(reason) is None
        is_sealed_job = self._required or job_id in self._sent
        return f"{text}{_NOT_PROVEN}" if is_plain and is_sealed_job and state is State.FAILED else text

    def readable(self, job_id: JobId, text: str | None) -> str | None:
        """A reason with its sealed part opened, if it is sealed for this client. The rest of the text is not verified."""
        found = None if text is None else find(text)
        if text is None or found is None:
            return text
        if self._keys is None:
            return without_sealed(text)
        try:
            opened = self._keys.current().open_error(found, job_id, clock.wall(), self._sent.get(job_id))
        except (SealRefused, ConfigError) as error:
            return f"{without_sealed(text)}: {error}"
        return text.replace(found, opened)

    def _result(self, job_id: JobId, result: str | None) -> str | None:
        sealed = result is not None and is_sealed(result)
        if self._keys is None:
            if sealed:
                raise ConfigError(_NOT_CONFIGURED)
            return result
        if not sealed and not self._required and job_id not in self._sent:
            return result
        return self._keys.current().open_result(result or "", job_id, clock.wall(), self._sent.get(job_id))


class Keys:
    """The keys and the keyring of a client, read again when their files change."""

    def __init__(self, name: ClientId, encryption: Encryption) -> None:
        self._name = name
        self._encryption = encryption
        self._seal: SubmitterSeal | None = None
        self._files: tuple[object, ...] = ()
        self._checked_at = 0.0

    def current(self) -> "SubmitterSeal":
        """The current keys.

        Raises:
            ConfigError: a file is not usable.
        """
        now = clock.monotonic()
        if self._seal is None or now - self._checked_at >= _CHECK_FILES_S:
            self._checked_at = now
            files = self._fingerprints()
            if self._seal is None or files != self._files:
                self._seal, self._files = submitter_seal(self._name, self._encryption), files
        return self._seal

    def _fingerprints(self) -> tuple[object, ...]:
        return tuple(map(_fingerprint, (self._encryption.keyring, self._encryption.key)))


def submitter_seal(name: ClientId, encryption: Encryption) -> "SubmitterSeal":
    """Read the keys and the keyring of a client.

    Raises:
        ConfigError: a file is not usable.
    """
    from stockworker.sealing import keyring, keys  # noqa: PLC0415 (only loads the cryptography package for sealing)
    from stockworker.sealing.submitter_seal import SubmitterSeal  # noqa: PLC0415 (for the same reason)

    if encryption.key is None:
        raise ConfigError(
            "encryption.key is required to submit sealed jobs; create one with 'stockworker keys generate'"
        )
    return SubmitterSeal(
        name,
        keyring.load(encryption.keyring),
        keys.load(encryption.key),
        sign=encryption.sign,
        valid_for_s=encryption.valid_for_s,
        unproven_until=encryption.accept_unproven_until,
    )


def _fingerprint(file: Path | None) -> object:
    if file is None:
        return None
    try:
        status = file.stat()
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_size, status.st_ino
