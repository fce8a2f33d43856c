"""The proof that a worker has opened the job that it answers. Only the submitter can make it, and only it can check it."""

# A worker's signature shows who answers, and not that this worker was entitled to. The dispatcher hands a sealed job to
# any worker that asks for its type. A worker of another group can't open the job, but it could sign a made-up result. So
# an answer must show what only a worker that has opened the payload can know:
#
#     root  = HMAC("stockworker sealed 2 root", private key)           known to the submitter alone
#     mark  = HMAC(root, "mark",  ID, type, payload)                   in the job's header: names the content
#     of    = SHA-256(header of the job)                               names this one sealing of it
#     token = HMAC(root, "token", ID, type, group, mark, of)           sealed, in front of the payload
#     key   = HMAC(token, "stockworker sealed 2 answer", session key)  encrypts the answer
#
# The private key is the one that opens the answer. The header of the answer repeats `group`, `mark` and `of`. So the
# submitter computes the token from its private key and the answer alone: any process of it can, days later, without a
# memory of the job. If the answer can be decrypted, then its worker had the token, and the header of the answer is right.
#
# The cases:
#
# - A worker of another group has no token of this job. It has tokens of jobs of its own group, but each is only good for
#   one ID, type, group and header. The submitter can't decrypt its answer and refuses it (`UNPROVEN`).
# - A worker of the right group can answer every job of it: that is what the group means. `groups=` in the keyring limits
#   for which groups a worker may answer. The group in the header of an answer is proven, so the limit holds.
# - The answer belongs to another payload under the same ID: then it has another `mark`. A submitter that remembers what
#   it has submitted refuses the answer (`MOVED`). It knows the mark under each of its own keys: after a rotation, an
#   earlier process may have sealed the same payload with an older one.
# - The answer belongs to an earlier sealing of the same payload: then it has another `of`. The submitter refuses it, too,
#   unless the dispatcher reports that it had the job before, and this process has not submitted it earlier.
# - An error text of an attempt is an answer like any other. A worker that could not open the payload reports a plain
#   reason: it is shown as unproven, and can never be a result.
# - Jobs of version 1 have no token, and neither have their answers. The version is in the `info` of each key and in each
#   signature, so no string of one version passes for one of the other. A submitter that remembers a job accepts only
#   answers of the job's version. One that does not remember accepts version 1 only until the time that its configuration
#   names (`encryption.accept_unproven_until`; never, by default).
#
# The `mark` reveals nothing of the payload: without `root` it can't be computed, and it differs for each job ID. Several
# submissions of one payload under one ID have the same mark, so the dispatcher can see that they are the same job.

import hashlib
import hmac
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from stockworker.sealing.envelope import MARK_BYTES

TOKEN_BYTES: Final = 32

_ROOT: Final = b"stockworker sealed 2 root"
_ANSWER: Final = b"stockworker sealed 2 answer\0"


def root_of(private: X25519PrivateKey) -> bytes:
    """The secret of a submitter from which its marks and tokens follow."""
    raw = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return hmac.digest(_ROOT, raw, hashlib.sha256)


def mark_of(root: bytes, job_id: str, job_type: str, payload: bytes) -> bytes:
    """The name of a job's content: equal only for the same payload, type and ID."""
    return _authenticated(root, "mark", job_id, job_type, rest=payload)[:MARK_BYTES]


def token_of(root: bytes, job_id: str, job_type: str, group: str, names: tuple[bytes, bytes]) -> bytes:
    """What a worker has after it has opened a job; `names` are the job's `mark` and `of`, both of a fixed length."""
    return _authenticated(root, "token", job_id, job_type, group, rest=b"".join(names))


def answer_key(token: bytes, session_key: bytes) -> bytes:
    """The key of one answer: HKDF-Extract (RFC 5869) of the session's key, with the token as salt."""
    return hmac.digest(token, _ANSWER + session_key, hashlib.sha256)


def _authenticated(root: bytes, *words: str, rest: bytes) -> bytes:
    """HMAC over words without zero bytes, each with a zero byte after it, and then over `rest`."""
    return hmac.digest(root, "".join(f"{word}\0" for word in words).encode() + rest, hashlib.sha256)
