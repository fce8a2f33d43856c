"""Signatures: made with the newest own key that the keyring lists, checked against the keyring."""

# A rotation needs no pause. The new key is made first, and its line in the keyring becomes valid later, when all
# machines have the new keyring. Until then the owner signs with the old key, although it has the new one: the newest
# key is used that the keyring lists as valid now. For some time both lines are valid, and answers to old jobs are still
# accepted.
#
# The signature covers the header and a digest of the ciphertext. The header names the sender and its key, and the
# keyring decides whether that key belongs to that sender at this moment. So no name is trusted that is only in the
# message.

from collections.abc import Sequence
from typing import TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from stockworker.errors import ConfigError, SealRefused
from stockworker.sealing.envelope import AnswerHeader, Envelope, JobHeader, Refusal, statement
from stockworker.sealing.keyring import Entry, Holder, Keyring
from stockworker.sealing.keys import OpeningKey, SigningKey

Key = TypeVar("Key", SigningKey, OpeningKey)


def newest_listed(keys: Sequence[Key], keyring: Keyring, holder: Holder, name: str, now: float) -> Key:
    """The newest of the own keys that is valid in the keyring now.

    A key that the keyring does not list yet would be refused by others: after a rotation, the old key stays in use until
    the new one is valid.

    Raises:
        ConfigError: no key is.
    """
    for key in keys:
        try:
            keyring.trusted(holder, name, key.id, now)
        except SealRefused:
            continue
        return key
    own = ", ".join(key.id for key in keys) or "none"
    raise ConfigError(
        f"the keyring lists no valid key for {holder} {name} (private keys on this machine: {own}). Add the output of "
        f"'stockworker keys export {holder} {name}' to the keyring on all machines"
    )


def sign(key: SigningKey | None, version: int, associated: bytes, ciphertext: bytes) -> bytes:
    """Sign a sealed string; without a key, the signature is empty."""
    return b"" if key is None else key.private.sign(statement(version, associated, ciphertext))


def check_signature(
    envelope: Envelope[JobHeader] | Envelope[AnswerHeader],
    keyring: Keyring,
    holder: Holder,
    now: float,
    *,
    required: bool,
) -> Entry | None:
    """Check that a sealed string comes from the sender in its header.

    Returns:
        The sender's line in the keyring; None if there is no signature, and none is required.

    Raises:
        SealRefused: the signature is wrong or missing, or the keyring does not trust the sender now.
    """
    sender, signer = envelope.header.sender, envelope.header.signer
    if signer is None:
        if required:
            raise SealRefused(Refusal.UNSIGNED, f"it is not signed by {holder} {sender}, but must be (encryption.sign)")
        return None
    entry = keyring.trusted(holder, sender, signer, now)
    try:
        Ed25519PublicKey.from_public_bytes(entry.verifying or b"").verify(envelope.signature, envelope.signed)
    except (InvalidSignature, ValueError):
        raise SealRefused(Refusal.FORGED, f"its signature is not from {holder} {sender}") from None
    return entry
