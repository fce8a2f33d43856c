"""The submitter's side of sealing: seals payloads, opens results and error texts."""

import math

from stockworker.errors import ConfigError, SealRefused
from stockworker.protocol.ids import ClientId, JobId, JobType
from stockworker.protocol.messages import Submission
from stockworker.protocol.sealed import is_sealed
from stockworker.sealing.envelope import (
    LATEST_EXPIRY,
    GroupName,
    JobHeader,
    Refusal,
    SealKind,
    answer_info,
    encode_header,
    job_info,
    join,
    read_answer,
)
from stockworker.sealing.keyring import Holder, Keyring, key_id
from stockworker.sealing.keys import KeyFile, SigningKey
from stockworker.sealing.sessions import Received, Sessions, make_nonce
from stockworker.sealing.trust import check_signature, newest_listed, sign


class SubmitterSeal:
    """Seals and opens with the keys of one submitter.

    Args:
        name: the submitter.
        keyring: the trusted keys.
        keys: the submitter's private keys.
        sign: sign each payload, and accept only signed results.
        valid_for_s: validity of a payload, in seconds, for jobs without `expires_at`.
    """

    def __init__(self, name: ClientId, keyring: Keyring, keys: KeyFile, *, sign: bool, valid_for_s: float) -> None:
        self._name = name
        self._keyring = keyring
        self._keys = keys
        self._sign = sign
        self._valid_for_s = valid_for_s
        self._opening = {key.id: key for key in keys.opening}
        self._sessions = Sessions()
        self._received = Received()

    def check(self, now: float) -> None:
        """Check that payloads can be sealed and answers opened.

        Raises:
            ConfigError: a key is missing; the text names it.
        """
        self._signer(now)
        newest_listed(self._keys.opening, self._keyring, Holder.SUBMITTER, self._name, now)

    def can_seal(self, job_type: JobType, now: float) -> bool:
        """Whether a group in the keyring runs this type."""
        return self._keyring.group_for(job_type, now) is not None

    def seal_job(self, job: Submission, job_id: JobId, now: float) -> str:
        """Seal the payload of a job for the group that runs its type. It is not valid for any other job.

        Args:
            job: the submission. The payload is valid until its `expires_at`. Without one, the configured validity
                starts now, or at the job's `not_before`.
            job_id: the job's ID.
            now: seconds since the epoch.

        Raises:
            ConfigError: the keyring has no key for the job's type.
            ValueError: a time is not a number, or the payload can't be encoded in UTF-8.
        """
        group = self._keyring.group_for(job.type, now)
        if group is None or group.sealing is None:
            raise ConfigError(
                f"the keyring has no valid group for {job.type}. Add one with "
                f"'stockworker keys generate group NAME --types {job.type}', and copy its key to the workers"
            )
        until = job.expires_at if job.expires_at is not None else max(now, job.not_before or 0.0) + self._valid_for_s
        signing = self._signer(now)
        reply = newest_listed(self._keys.opening, self._keyring, Holder.SUBMITTER, self._name, now)
        key = key_id(group.sealing)
        name = GroupName(group.name)
        session = self._sessions.to(group.sealing, job_info(name, key, self._name), now)
        header = JobHeader(
            kind=SealKind.JOB,
            id=job_id,
            type=job.type,
            group=name,
            key=key,
            enc=session.enc,
            nonce=make_nonce(),
            sender=self._name,
            until=math.ceil(min(until, LATEST_EXPIRY)),
            reply=reply.id,
            signer=None if signing is None else signing.id,
        )
        associated = encode_header(header)
        ciphertext = session.seal(header.nonce, job.payload.encode(), associated)
        return join(associated, ciphertext, sign(signing, associated, ciphertext))

    def open_result(self, text: str, job_id: JobId, now: float, of: bytes | None) -> str:
        """Open the result of a job.

        Args:
            text: the sealed string.
            job_id: the expected job.
            now: seconds since the epoch.
            of: `envelope.digest` of the job's sealed payload, if it is still known.

        Raises:
            SealRefused: the result is not trustworthy; the text has the reason.
        """
        return self._open(text, job_id, now, of, SealKind.RESULT)

    def open_error(self, text: str, job_id: JobId, now: float, of: bytes | None) -> str:
        """Open the error text of a job; as `open_result`."""
        return self._open(text, job_id, now, of, SealKind.ERROR)

    def _open(self, text: str, job_id: JobId, now: float, of: bytes | None, kind: SealKind) -> str:
        if not is_sealed(text):
            raise SealRefused(Refusal.PLAIN, "it is not sealed, but must be")
        envelope = read_answer(text)
        header = envelope.header
        if header.id != job_id or header.kind is not kind or (of is not None and header.of != of):
            raise SealRefused(Refusal.MOVED, f"it was sealed as the {header.kind} of another job, {header.id}")
        if header.to != self._name:
            raise SealRefused(Refusal.NO_KEY, f"it is sealed for {header.to}, not for {self._name}")
        check_signature(envelope, self._keyring, Holder.WORKER, now, required=self._sign)
        key = self._opening.get(header.key)
        if key is None:
            raise SealRefused(Refusal.NO_KEY, f"it is sealed to key {header.key}, which is not in {self._keys.path}")
        info = answer_info(header.to, header.key, header.sender)
        return self._received.open(key, header.enc, info, header.nonce, (envelope.ciphertext, envelope.associated))

    def _signer(self, now: float) -> SigningKey | None:
        if not self._sign:
            return None
        return newest_listed(self._keys.signing, self._keyring, Holder.SUBMITTER, self._name, now)
