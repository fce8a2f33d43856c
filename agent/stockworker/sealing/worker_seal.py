"""The worker's side of sealing: opens payloads of trusted submitters, seals results and error texts."""

from collections.abc import Sequence
from dataclasses import field
from datetime import UTC, datetime

from stockworker.errors import ConfigError, SealRefused
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobId, JobType, WorkerId
from stockworker.sealing.envelope import (
    UNPROVEN_VERSION,
    AnswerHeader,
    Envelope,
    JobHeader,
    Refusal,
    SealKind,
    answer_info,
    digest,
    encode_header,
    job_info,
    join,
    read_job,
)
from stockworker.sealing.keyring import Holder, Keyring, key_id
from stockworker.sealing.keys import KeyFile, SigningKey
from stockworker.sealing.proof import TOKEN_BYTES
from stockworker.sealing.sessions import Received, Sessions, make_nonce, text_of
from stockworker.sealing.trust import check_signature, newest_listed, sign


@dataclass(frozen=True, slots=True)
class Opened:
    """An opened payload.

    Attributes:
        payload: JSON text.
        header: header of the sealed payload; the answer is bound to it.
        version: the version of the sealed string; the answer has the same.
        of: digest by which the answer names the job.
        reply: X25519 public key that the answer is sealed to.
        token: proves that the payload was opened; None in version 1.
    """

    payload: str = field(repr=False)
    header: JobHeader
    version: int
    of: bytes
    reply: bytes
    token: bytes | None = field(repr=False)


class WorkerSeal:
    """Opens and seals with the keys of one worker.

    Args:
        name: the worker.
        keyring: the trusted keys.
        groups: private keys of the groups that the worker is in.
        keys: the worker's private keys, which sign results; None if it does not sign.
        required: refuse payloads that are not sealed.
        sign: accept only signed payloads, and sign each result.
    """

    def __init__(
        self,
        name: WorkerId,
        keyring: Keyring,
        groups: Sequence[KeyFile],
        keys: KeyFile | None,
        *,
        required: bool,
        sign: bool,
    ) -> None:
        self.required = required
        self._name = name
        self._keyring = keyring
        self._signing: Sequence[SigningKey] = () if keys is None else keys.signing
        self._sign = sign
        self._opening = {key.id: key for group in groups for key in group.opening}
        self._sessions = Sessions()
        self._received = Received()

    def check(self, now: float) -> None:
        """Check that payloads can be opened and results signed.

        Raises:
            ConfigError: a key is missing; the text names it.
        """
        self._signer(now)
        if self.required and not self._opening:
            raise ConfigError(
                "encryption.group_keys: contains no key, but only sealed jobs may run. Name the key file of a group"
            )

    def open_job(self, text: str, job_id: JobId, job_type: JobType, now: float) -> Opened:
        """Open the payload of a job, if a trusted submitter sealed it for this job.

        Args:
            text: the sealed string.
            job_id: the job's ID, from the dispatcher.
            job_type: the job's type, from the dispatcher.
            now: seconds since the epoch.

        Raises:
            SealRefused: the job must not run here; the text has the reason, and nothing of the payload.
        """
        envelope = read_job(text)
        header = envelope.header
        self._check_purpose(header, job_id, job_type, now)
        reply = self._check_sender(envelope, now)
        key = self._opening.get(header.key)
        if key is None:
            raise SealRefused(
                Refusal.NO_KEY,
                f"this worker has no private key {header.key} of group {header.group}; see encryption.group_keys",
            )
        self._signer(now)  # without a signing key the result would be refused, so the job must not run
        info = job_info(envelope.version, header.group, header.key, header.sender)
        token, plain = _split(envelope.version, self._received.open(envelope, key, info, None))
        of = digest(envelope.version, envelope.associated, text)
        return Opened(text_of(plain), header, envelope.version, of, reply, token)

    def _check_purpose(self, header: JobHeader, job_id: JobId, job_type: JobType, now: float) -> None:
        if header.id != job_id or header.type != job_type:
            raise SealRefused(Refusal.MOVED, f"it was sealed for another job: {header.id} of type {header.type}")
        if now > header.until:
            until = datetime.fromtimestamp(header.until, UTC)
            raise SealRefused(Refusal.EXPIRED, f"it expired at {until:%Y-%m-%dT%H:%M:%SZ}; submit it again")
        lines = self._keyring.group_lines(header.group, header.key)
        if not lines:  # the keyring on this machine may be outdated
            raise SealRefused(
                Refusal.NO_KEY,
                f"the keyring lists no key {header.key} of group {header.group}; copy the current keyring",
            )
        if not any(line.allows(job_type) for line in lines):
            raise SealRefused(
                Refusal.NOT_ALLOWED, f"it is sealed for group {header.group}, which may not run {job_type}"
            )

    def _check_sender(self, envelope: Envelope[JobHeader], now: float) -> bytes:
        """Check the sender; return the key that the answer must be sealed to."""
        header = envelope.header
        check_signature(envelope, self._keyring, Holder.SUBMITTER, now, required=self._sign)
        entry = self._keyring.trusted(Holder.SUBMITTER, header.sender, header.signer or header.reply, now)
        if not entry.allows(header.type):
            raise SealRefused(
                Refusal.NOT_ALLOWED, f"submitter {header.sender} may not submit {header.type} according to the keyring"
            )
        reply = self._keyring.trusted(Holder.SUBMITTER, header.sender, header.reply, now).sealing
        if reply is None or key_id(reply) != header.reply:
            raise SealRefused(
                Refusal.UNTRUSTED, f"key {header.reply} of submitter {header.sender} is not a sealing key"
            )
        return reply

    def seal_answer(self, kind: SealKind, text: str, opened: Opened, attempt: int, now: float) -> str:
        """Seal a result or an error text for the submitter of the job.

        Raises:
            ConfigError: the keyring no longer lists this worker's signing key.
        """
        job = opened.header
        signing = self._signer(now)
        version = opened.version
        session = self._sessions.to(opened.reply, answer_info(version, job.sender, job.reply, self._name), now)
        header = AnswerHeader(
            kind=kind,
            id=job.id,
            type=job.type,
            attempt=attempt,
            sender=self._name,
            to=job.sender,
            key=job.reply,
            enc=session.enc,
            nonce=make_nonce(),
            of=opened.of,
            group=None if version == UNPROVEN_VERSION else job.group,
            mark=job.mark,
            signer=None if signing is None else signing.id,
        )
        associated = encode_header(header)
        ciphertext = session.seal(header.nonce, text.encode(), associated, opened.token)
        return join(version, associated, ciphertext, sign(signing, version, associated, ciphertext))

    def _signer(self, now: float) -> SigningKey | None:
        if not self._sign:
            return None
        return newest_listed(self._signing, self._keyring, Holder.WORKER, self._name, now)


def _split(version: int, plain: bytes) -> tuple[bytes | None, bytes]:
    """The token in front of a payload, and the payload."""
    if version == UNPROVEN_VERSION:
        return None, plain
    if len(plain) < TOKEN_BYTES:
        raise SealRefused(Refusal.DAMAGED, "damaged: it has no token in front of the payload")
    return plain[:TOKEN_BYTES], plain[TOKEN_BYTES:]
