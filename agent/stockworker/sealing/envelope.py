"""The format of sealed strings (docs/protocol.md, "Sealed strings"): parses untrusted text into typed values."""

# ``sealed.2.<header>.<ciphertext>.<signature>``, each part base64url without padding (RFC 4648, section 5). The header
# is JSON; its bytes, as sent, are the associated data of the ciphertext. So the header is readable for broker and
# dispatcher, and any change of it makes the ciphertext unusable.
#
# What each part protects against:
#
# - `id`, `type` and `group` in the header: a payload that is moved to another job, type or group is refused (`MOVED`).
# - `until`: a payload that is replayed later is refused (`EXPIRED`).
# - `of` in an answer: the digest of the job's header, so that an old result can't be attached to a new job with the same
#   ID.
# - `mark` and `group` in an answer: see `proof`, which explains how an answer proves that its worker has opened the job.
# - HPKE's `info` (`job_info`, `answer_info`): a key agreed for one sender and recipient decrypts nothing else.
# - The version, in `info` and in what is signed: no string of one version passes for one of the other. Version 1 has no
#   `mark`, and its `of` is the digest of the whole sealed payload. Workers answer in the version of the job.
# - The signature, over header and ciphertext: proves the sender to a recipient who trusts its key (`trust`). Encryption
#   alone does not: the public keys of groups are not secret.

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from enum import StrEnum
from typing import Annotated, Any, Final, Generic, NewType, TypeVar

from stockworker.errors import SealRefused
from stockworker.protocol.fields import LATEST_TIME, FieldError, check_text, parse_json
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import ClientId, JobId, JobType, WorkerId
from stockworker.protocol.sealed import PREFIX
from stockworker.protocol.wire import Choice, Integer, Kind, Wire, plan_of

KeyId = NewType("KeyId", str)
"""The first 16 hex digits of SHA-256 of a raw public key."""

GroupName = NewType("GroupName", str)

VERSION: Final = 2
"""The version of new jobs."""

UNPROVEN_VERSION: Final = 1
"""The version whose answers prove nothing about the worker."""

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
SIGNATURE_BYTES: Final = 64
ENCAPSULATION_BYTES: Final = 32
DIGEST_BYTES: Final = 16
MARK_BYTES: Final = 16
LATEST_EXPIRY: Final = int(LATEST_TIME)

_PARTS: Final = 5
_LONGEST_HEADER: Final = 2048
_KEY_ID_DIGITS: Final = 16
_HEX: Final = frozenset("0123456789abcdef")
_VERSIONS: Final = {str(version): version for version in (UNPROVEN_VERSION, VERSION)}


class Refusal(StrEnum):
    """Why a sealed string is refused; for counters and programs."""

    DAMAGED = "damaged"
    PLAIN = "plain"
    UNSIGNED = "unsigned"
    UNTRUSTED = "untrusted"
    FORGED = "forged"
    UNPROVEN = "unproven"
    NOT_ALLOWED = "not_allowed"
    MOVED = "moved"
    EXPIRED = "expired"
    NO_KEY = "no_key"


class SealKind(StrEnum):
    """The content of a sealed string."""

    JOB = "job"
    RESULT = "result"
    ERROR = "error"
    OUTPUT = "output"


class _KeyId(Kind):
    notation = f"{_KEY_ID_DIGITS} hex digits"

    def read(self, value: Any) -> KeyId:
        text = check_text(value, _KEY_ID_DIGITS)
        if len(text) != _KEY_ID_DIGITS or not _HEX.issuperset(text):
            raise FieldError(f"not a key ID ({_KEY_ID_DIGITS} hex digits)")
        return KeyId(text)


class _Bytes(Kind):
    """A fixed number of bytes, as base64url."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.notation = f"{size} bytes as base64url"

    def read(self, value: Any) -> bytes:
        content = _decode_bytes(check_text(value, 2 * self.size))
        if len(content) != self.size:
            raise FieldError(f"must be {self.size} bytes")
        return content

    def write(self, value: bytes) -> str:
        return encode_bytes(value)


class _KindOf(Choice):
    """The kinds of content that a header of one class may announce."""

    def __init__(self, *allowed: SealKind) -> None:
        super().__init__(SealKind)
        self._allowed = allowed

    def read(self, value: Any) -> StrEnum:
        kind = super().read(value)
        if kind not in self._allowed:
            raise FieldError(f"expected {' or '.join(self._allowed)}, got {kind}")
        return kind


_KEY_ID: Final = _KeyId()


@dataclass(frozen=True, slots=True)
class JobHeader:
    """The header of a sealed payload: readable for all, protected against changes."""

    kind: Annotated[SealKind, _KindOf(SealKind.JOB), Wire("what is sealed")]
    id: Annotated[JobId, Wire("the job's ID")]
    type: Annotated[JobType, Wire("the job's type")]
    group: Annotated[GroupName, Wire("the workers that can open the payload")]
    key: Annotated[KeyId, _KEY_ID, Wire("the group's key that the payload is sealed to")]
    enc: Annotated[bytes, _Bytes(ENCAPSULATION_BYTES), Wire("encapsulation of HPKE")]
    nonce: Annotated[bytes, _Bytes(NONCE_BYTES), Wire("nonce of AES-256-GCM")]
    sender: Annotated[ClientId, Wire("the submitter", "from")]
    until: Annotated[int, Integer(0, LATEST_EXPIRY), Wire("latest start, in seconds since the epoch")]
    reply: Annotated[KeyId, _KEY_ID, Wire("the submitter's key that the result must be sealed to")]
    mark: Annotated[bytes | None, _Bytes(MARK_BYTES), Wire("name of the content; see `proof`")]
    signer: Annotated[KeyId | None, _KEY_ID, Wire("the submitter's key of the signature, if there is one")]


@dataclass(frozen=True, slots=True)
class AnswerHeader:
    """The header of a sealed result or error text."""

    kind: Annotated[SealKind, _KindOf(SealKind.RESULT, SealKind.ERROR, SealKind.OUTPUT), Wire("what is sealed")]
    id: Annotated[JobId, Wire("the job's ID")]
    type: Annotated[JobType, Wire("the job's type")]
    attempt: Annotated[int, Integer(1, 1 << 31), Wire("number of the attempt")]
    sender: Annotated[WorkerId, Wire("the worker", "from")]
    to: Annotated[ClientId, Wire("the submitter")]
    key: Annotated[KeyId, _KEY_ID, Wire("the submitter's key that the answer is sealed to")]
    enc: Annotated[bytes, _Bytes(ENCAPSULATION_BYTES), Wire("encapsulation of HPKE")]
    nonce: Annotated[bytes, _Bytes(NONCE_BYTES), Wire("nonce of AES-256-GCM")]
    of: Annotated[bytes, _Bytes(DIGEST_BYTES), Wire("`Envelope.digest` of the job")]
    group: Annotated[GroupName | None, Wire("the group of the job")]
    mark: Annotated[bytes | None, _Bytes(MARK_BYTES), Wire("name of the job's content")]
    signer: Annotated[KeyId | None, _KEY_ID, Wire("the worker's key of the signature, if there is one")]


Header = TypeVar("Header", JobHeader, AnswerHeader)


@dataclass(frozen=True, slots=True)
class Envelope(Generic[Header]):
    """A parsed sealed string. Nothing in it is verified yet.

    Attributes:
        version: 1 or 2.
        associated: the bytes of the header, as sent.
        signature: empty without a signature.
    """

    version: int
    header: Header
    associated: bytes
    ciphertext: bytes
    signature: bytes

    @property
    def signed(self) -> bytes:
        """The bytes that the signature covers."""
        return statement(self.version, self.associated, self.ciphertext)


def statement(version: int, associated: bytes, ciphertext: bytes) -> bytes:
    """The signed bytes: a prefix that no other use of the key has, the header, and a digest of the ciphertext."""
    return b"stockworker sealed %d signature\0" % version + associated + hashlib.sha256(ciphertext).digest()


def job_info(version: int, group: GroupName, key: KeyId, sender: ClientId) -> bytes:
    """HPKE's `info` for a payload. A key agreed for one group and sender has no other use."""
    return _info(version, "job", group, key, sender)


def answer_info(version: int, to: ClientId, key: KeyId, sender: WorkerId) -> bytes:
    """HPKE's `info` for a result or error text."""
    return _info(version, "answer", to, key, sender)


def _info(version: int, *words: str) -> bytes:
    return "\0".join((f"stockworker sealed {version}", *words)).encode()


def digest(version: int, associated: bytes, sealed: str = "") -> bytes:
    """The digest by which an answer names its job: the first 16 bytes of SHA-256.

    Args:
        version: that of the job.
        associated: the header of the job.
        sealed: the whole sealed string of the job, which version 1 needs.
    """
    content = sealed.encode() if version == UNPROVEN_VERSION else associated
    return hashlib.sha256(content).digest()[:DIGEST_BYTES]


# --- writing ----------------------------------------------------------------------------------------------------------


def encode_header(header: JobHeader | AnswerHeader) -> bytes:
    """The header's bytes, as sent."""
    fields = plan_of(type(header)).write(header)
    return json.dumps(fields, separators=(",", ":")).encode()


def join(version: int, associated: bytes, ciphertext: bytes, signature: bytes) -> str:
    """Build a sealed string."""
    parts = map(encode_bytes, (associated, ciphertext, signature))
    return f"{PREFIX}{version}.{'.'.join(parts)}"


def encode_bytes(content: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(content).rstrip(b"=").decode()


# --- reading ----------------------------------------------------------------------------------------------------------


def read_job(text: str) -> Envelope[JobHeader]:
    """Parse a sealed payload.

    Raises:
        SealRefused: the text is not a sealed payload, or is damaged.
    """
    return _read(text, JobHeader)


def read_answer(text: str) -> Envelope[AnswerHeader]:
    """Parse a sealed result or error text.

    Raises:
        SealRefused: the text is not a sealed answer, or is damaged.
    """
    return _read(text, AnswerHeader)


def _read(text: str, of: type[Header]) -> Envelope[Header]:
    try:
        parts = text.split(".", _PARTS)
        if len(parts) != _PARTS or f"{parts[0]}." != PREFIX:
            raise FieldError("it does not have the five parts of a sealed string")
        version = _VERSIONS.get(parts[1])
        if version is None:
            raise FieldError(f"version {parts[1][:20]!r} is not supported, only {' and '.join(_VERSIONS)}")
        associated, ciphertext, signature = map(_decode_bytes, parts[2:])
        if len(associated) > _LONGEST_HEADER:
            raise FieldError(f"its header has more than {_LONGEST_HEADER} bytes")
        if len(ciphertext) < TAG_BYTES:
            raise FieldError("its ciphertext is too short")
        header = plan_of(of).read(parse_json(associated.decode()))
        _check_fields(version, header)
        if len(signature) != (0 if header.signer is None else SIGNATURE_BYTES):
            raise FieldError("its signature has the wrong length")
    except ValueError as error:  # UnicodeDecodeError is one
        raise SealRefused(Refusal.DAMAGED, f"damaged: {error}") from None
    return Envelope(version, header, associated, ciphertext, signature)


def _check_fields(version: int, header: JobHeader | AnswerHeader) -> None:
    """Check that a header has the fields of its version: all of them, and none of another version."""
    has_fields = [header.mark is not None]
    if isinstance(header, AnswerHeader):
        has_fields.append(header.group is not None)
    if has_fields != [version != UNPROVEN_VERSION] * len(has_fields):
        raise FieldError(f"its header does not have the fields of version {version}")


def _decode_bytes(text: str) -> bytes:
    """Decode base64url; reject all non-canonical spellings, so that every change of a sealed string is detected."""
    try:
        content = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        content = None
    if content is None or encode_bytes(content) != text:
        raise FieldError("a part is not base64url without padding")
    return content
