"""The submitter's side of sealing: seals payloads, opens results and error texts."""

import math
from dataclasses import field

from stockworker.config.kinds import show_time
from stockworker.errors import ConfigError, SealRefused
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import ClientId, JobId, JobType
from stockworker.protocol.messages import Submission
from stockworker.protocol.sealed import is_sealed
from stockworker.sealing.envelope import (
    LATEST_EXPIRY,
    UNPROVEN_VERSION,
    VERSION,
    AnswerHeader,
    Envelope,
    GroupName,
    JobHeader,
    Refusal,
    SealKind,
    answer_info,
    digest,
    encode_header,
    job_info,
    join,
    read_answer,
)
from stockworker.sealing.keyring import Holder, Keyring, key_id
from stockworker.sealing.keys import KeyFile, OpeningKey, SigningKey
from stockworker.sealing.proof import mark_of, root_of, token_of
from stockworker.sealing.sessions import Received, Sessions, make_nonce, text_of
from stockworker.sealing.trust import check_signature, newest_listed, sign


@dataclass(frozen=True, slots=True)
class Sent:
    """What a submitter remembers of a job that it has sealed.

    Attributes:
        marks: names of the content, one under each of the own keys, because an earlier process may have sealed it with an
            older key. None if only that the job is sealed is known.
        of: the digests by which an answer may name the job; empty if any sealing of this content will do.
    """

    marks: frozenset[bytes] | None
    of: frozenset[bytes]

    def is_same_content(self, other: "Sent") -> bool:
        """Whether the content is known to be the one of another sealing of a job with the same ID."""
        return self.marks is not None and other.marks is not None and not self.marks.isdisjoint(other.marks)


@dataclass(frozen=True, slots=True)
class SealedJob:
    """A sealed payload, and what its submitter must remember to check the answer."""

    text: str
    sent: Sent


@dataclass(frozen=True, slots=True)
class _Own:
    """A private key, and the secret from which marks and tokens follow."""

    key: OpeningKey
    root: bytes = field(repr=False)


class SubmitterSeal:
    """Seals and opens with the keys of one submitter.

    Args:
        name: the submitter.
        keyring: the trusted keys.
        keys: the submitter's private keys.
        sign: sign each payload, and accept only signed results.
        valid_for_s: validity of a payload, in seconds, for jobs without `expires_at`.
        unproven_until: until when answers of version 1 are accepted for jobs that are not remembered, in seconds since the
            epoch; None means never.
    """

    def __init__(
        self,
        name: ClientId,
        keyring: Keyring,
        keys: KeyFile,
        *,
        sign: bool,
        valid_for_s: float,
        unproven_until: float | None = None,
    ) -> None:
        self._name = name
        self._keyring = keyring
        self._keys = keys
        self._sign = sign
        self._valid_for_s = valid_for_s
        self._unproven_until = unproven_until
        self._own = {key.id: _Own(key, root_of(key.private)) for key in keys.opening}
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

    def seal_job(self, job: Submission, job_id: JobId, now: float) -> SealedJob:
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
        session = self._sessions.to(group.sealing, job_info(VERSION, name, key, self._name), now)
        payload = job.payload.encode()
        marks = {key: mark_of(own.root, job_id, job.type, payload) for key, own in self._own.items()}
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
            mark=marks[reply.id],
            signer=None if signing is None else signing.id,
        )
        associated = encode_header(header)
        of = digest(VERSION, associated)
        token = token_of(self._own[reply.id].root, job_id, job.type, name, (marks[reply.id], of))
        ciphertext = session.seal(header.nonce, token + payload, associated)
        text = join(VERSION, associated, ciphertext, sign(signing, VERSION, associated, ciphertext))
        return SealedJob(text, Sent(frozenset(marks.values()), frozenset({of})))

    def open_result(self, text: str, job_id: JobId, now: float, sent: Sent | None) -> str:
        """Open the result of a job.

        Args:
            text: the sealed string.
            job_id: the expected job.
            now: seconds since the epoch.
            sent: what is remembered of the job; None if this process does not know whether it has sealed it.

        Raises:
            SealRefused: the result is not trustworthy; the text has the reason.
        """
        return self._open(text, job_id, now, sent, SealKind.RESULT)

    def open_error(self, text: str, job_id: JobId, now: float, sent: Sent | None) -> str:
        """Open the error text of a job; as `open_result`."""
        return self._open(text, job_id, now, sent, SealKind.ERROR)

    def open_output(self, text: str, job_id: JobId, attempt: int, now: float, sent: Sent | None) -> str:
        """Open the output of one attempt at a job; as `open_result`."""
        opened = self._open(text, job_id, now, sent, SealKind.OUTPUT)
        found = read_answer(text).header.attempt
        if found != attempt:
            raise SealRefused(Refusal.MOVED, f"it was sealed as the output of attempt {found}")
        return opened

    def _open(self, text: str, job_id: JobId, now: float, sent: Sent | None, kind: SealKind) -> str:
        if not is_sealed(text):
            raise SealRefused(Refusal.PLAIN, "it is not sealed, but must be")
        envelope = read_answer(text)
        header = envelope.header
        if header.id != job_id or header.kind is not kind:
            raise SealRefused(Refusal.MOVED, f"it was sealed as the {header.kind} of another job, {header.id}")
        if header.to != self._name:
            raise SealRefused(Refusal.NO_KEY, f"it is sealed for {header.to}, not for {self._name}")
        own = self._own.get(header.key)
        if own is None:
            raise SealRefused(Refusal.NO_KEY, f"it is sealed to key {header.key}, which is not in {self._keys.path}")
        self._check_version(envelope, sent, now)
        entry = check_signature(envelope, self._keyring, Holder.WORKER, now, required=self._sign)
        plain = self._decrypt(envelope, own)
        if header.group is not None and entry is not None and not entry.answers_for(header.group):
            raise SealRefused(
                Refusal.NOT_ALLOWED,
                f"worker {header.sender} may not answer jobs of group {header.group} according to the keyring",
            )
        _check_content(header, sent)
        return text_of(plain)

    def _check_version(self, envelope: Envelope[AnswerHeader], sent: Sent | None, now: float) -> None:
        """Refuse an answer without a proof, unless it may belong to a job of an earlier version."""
        if envelope.version != UNPROVEN_VERSION:
            return
        accepted = sent is None and self._unproven_until is not None and now <= self._unproven_until
        if not accepted:
            sender = envelope.header.sender
            problem = f"version 1 does not prove that worker {sender} could open the job"
            remedy = "For results of jobs from before the upgrade, set encryption.accept_unproven_until"
            until = "" if self._unproven_until is None else f" (it is {show_time(self._unproven_until)})"
            raise SealRefused(Refusal.UNPROVEN, problem if sent is not None else f"{problem}. {remedy}{until}")

    def _decrypt(self, envelope: Envelope[AnswerHeader], own: _Own) -> bytes:
        """Decrypt an answer, and so check that its worker had the token of the job (see `proof`)."""
        header = envelope.header
        info = answer_info(envelope.version, header.to, header.key, header.sender)
        if header.group is None or header.mark is None:
            return self._received.open(envelope, own.key, info, None)
        token = token_of(own.root, header.id, header.type, header.group, (header.mark, header.of))
        try:
            return self._received.open(envelope, own.key, info, token)
        except SealRefused:
            if header.signer is None:
                text = f"it was changed in transit, or made by a worker that could not open the job: {header.sender}"
                raise SealRefused(Refusal.DAMAGED, text) from None
            text = f"worker {header.sender} has signed it, but does not prove that it could open the job"
            raise SealRefused(Refusal.UNPROVEN, text) from None

    def _signer(self, now: float) -> SigningKey | None:
        if not self._sign:
            return None
        return newest_listed(self._keys.signing, self._keyring, Holder.SUBMITTER, self._name, now)


def _check_content(header: AnswerHeader, sent: Sent | None) -> None:
    """Check that an answer belongs to what was submitted here."""
    if sent is None or sent.marks is None:
        return
    if header.mark not in sent.marks:
        raise SealRefused(Refusal.MOVED, f"under the ID {header.id}, the dispatcher has a job with another payload")
    if sent.of and header.of not in sent.of:
        raise SealRefused(Refusal.MOVED, f"it belongs to an earlier submission of job {header.id}")
