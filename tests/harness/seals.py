"""Keys, keyrings and both sides of a sealed job, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from stockworker.client import make_submission
from stockworker.protocol.ids import ClientId, JobId, JobType, WorkerId
from stockworker.protocol.messages import Submission
from stockworker.sealing.envelope import UNPROVEN_VERSION, VERSION, SealKind, digest, encode_bytes, read_job
from stockworker.sealing.keyring import Entry, Holder, Keyring
from stockworker.sealing.keys import KeyFile, OpeningKey, SigningKey
from stockworker.sealing.submitter_seal import Sent, SubmitterSeal
from stockworker.sealing.worker_seal import Opened, WorkerSeal

NOW: Final = 1_790_000_000.0
VALID_FOR_S: Final = 3600.0
JOB: Final = JobId("job-1")
PRICE_UPDATE: Final = JobType("price_update")
DESK, EDGE, PRICES = ClientId("desk-1"), WorkerId("edge-7-1"), "prices"


def signing_key() -> SigningKey:
    return SigningKey.of(Ed25519PrivateKey.generate())


def opening_key(private: X25519PrivateKey | None = None) -> OpeningKey:
    return OpeningKey.of(private or X25519PrivateKey.generate())


def identity() -> KeyFile:
    return KeyFile(Path("identity"), (signing_key(),), (opening_key(),))


def group() -> KeyFile:
    return KeyFile(Path("group"), (), (opening_key(),))


def rotated(file: KeyFile) -> KeyFile:
    """The file with newer keys in front."""
    signing = (signing_key(), *file.signing) if file.signing else ()
    return KeyFile(file.path, signing, (opening_key(), *file.opening))


def line(
    holder: Holder,
    name: str,
    file: KeyFile,
    types: Sequence[str] | None = None,
    not_before: float | None = None,
    not_after: float | None = None,
) -> Entry:
    """The keyring line for the newest keys of a file."""
    verifying = file.signing[0].public if file.signing else None
    allowed = None if types is None else frozenset(map(JobType, types))
    return Entry(holder, name, verifying, file.opening[0].public, allowed, not_before, not_after)


def job(payload: object = None, job_id: str = JOB, job_type: str = PRICE_UPDATE, **options: float) -> Submission:
    return make_submission(
        job_type, payload, id=job_id, not_before=options.get("not_before"), expires_at=options.get("expires_at")
    )


@dataclass
class Parties:
    """A submitter, and a worker of a group that runs price updates; change the fields before creating the seals."""

    desk: KeyFile = field(default_factory=identity)
    edge: KeyFile = field(default_factory=identity)
    prices: KeyFile = field(default_factory=group)
    lines: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lines = self.lines or [
            line(Holder.SUBMITTER, DESK, self.desk),
            line(Holder.WORKER, EDGE, self.edge),
            line(Holder.GROUP, PRICES, self.prices, [PRICE_UPDATE]),
        ]

    @property
    def keyring(self) -> Keyring:
        return Keyring(self.lines)

    def submitter(self, *, sign: bool = True, lines: Sequence[Entry] | None = None) -> SubmitterSeal:
        ring = self.keyring if lines is None else Keyring(lines)
        return SubmitterSeal(DESK, ring, self.desk, sign=sign, valid_for_s=VALID_FOR_S)

    def worker(
        self,
        *,
        sign: bool = True,
        required: bool = True,
        lines: Sequence[Entry] | None = None,
        groups: Sequence[KeyFile] | None = None,
    ) -> WorkerSeal:
        ring = self.keyring if lines is None else Keyring(lines)
        return WorkerSeal(
            EDGE, ring, [self.prices] if groups is None else groups, self.edge, required=required, sign=sign
        )

    def without(self, holder: Holder) -> list[Entry]:
        return [entry for entry in self.lines if entry.holder is not holder]

    def changed(self, holder: Holder, **changes: object) -> list[Entry]:
        """The lines, with fields replaced in those of one kind of holder."""
        return [replace(entry, **changes) if entry.holder is holder else entry for entry in self.lines]  # type: ignore[arg-type] # fields by name


def forged_answer(
    worker: WorkerSeal, sealed: str, token: bytes | None, kind: SealKind = SealKind.RESULT, **header: object
) -> str:
    """What a worker can make of a payload that it can't open: a signed answer, with any token and changed header.

    Args:
        worker: the worker that signs; it needs no key of the job's group.
        sealed: the payload.
        token: the token that it uses, of another job or made up; None for an answer of version 1.
        kind: what the answer claims to be.
        header: fields of the job's header that it changes.
    """
    envelope = read_job(sealed)
    changed = replace(envelope.header, **header) if token else replace(envelope.header, mark=None)  # type: ignore[arg-type] # fields by name
    version = VERSION if token else UNPROVEN_VERSION
    of = digest(version, envelope.associated, sealed)
    submitter = worker._keyring.trusted(Holder.SUBMITTER, changed.sender, changed.reply, NOW)
    opened = Opened("", changed, version, of, submitter.sealing or b"", token)
    return worker.seal_answer(kind, '"forged"', opened, 1, NOW)


def parts(sealed: str) -> list[str]:
    """Header, ciphertext and signature."""
    return sealed.split(".")[2:]


def sent_of(sealed: str) -> Sent:
    """What the submitter of a sealed payload remembers."""
    envelope = read_job(sealed)
    marks = None if envelope.header.mark is None else frozenset({envelope.header.mark})
    return Sent(marks, frozenset({digest(envelope.version, envelope.associated, sealed)}))


def with_header(sealed: str, header: bytes) -> str:
    _, ciphertext, signature = parts(sealed)
    return f"sealed.2.{encode_bytes(header)}.{ciphertext}.{signature}"
