"""Signatures: made with our newest key that the keyring lists, checked against whom the keyring names."""

from collections.abc import Sequence
from typing import TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from stockworker.errors import ConfigError, SealRefused
from stockworker.sealing.envelope import AnswerHeader, Envelope, JobHeader, Refusal, statement
from stockworker.sealing.keyring import Holder, Keyring
from stockworker.sealing.keys import OpeningKey, SigningKey

Key = TypeVar("Key", SigningKey, OpeningKey)


def newest_listed(keys: Sequence[Key], keyring: Keyring, holder: Holder, name: str, now: float) -> Key:
    """The first of our keys that others are told to be ours, now.

    Raises:
        ConfigError: there is none.
    """
    for key in keys:
        try:
            keyring.trusted(holder, name, key.id, now)
        except SealRefused:
            continue
        return key
    ours = ", ".join(key.id for key in keys) or "none"
    raise ConfigError(
        f"the keyring lists no key of ours (we have {ours}) for {holder} {name} at this time: add the line that "
        f"'stockworker keys export {holder} {name}' prints, on every machine"
    )


def sign(key: SigningKey | None, associated: bytes, ciphertext: bytes) -> bytes:
    """Sign a sealed string; without a key the signature is empty."""
    return b"" if key is None else key.private.sign(statement(associated, ciphertext))


def check_signature(
    envelope: Envelope[JobHeader] | Envelope[AnswerHeader],
    keyring: Keyring,
    holder: Holder,
    now: float,
    *,
    required: bool,
) -> None:
    """Check that a sealed string is from whom it says.

    Raises:
        SealRefused: it is not, or that one is not trusted now, or it is not signed and has to be.
    """
    sender, signer = envelope.header.sender, envelope.header.signer
    if signer is None:
        if required:
            raise SealRefused(
                Refusal.UNSIGNED, f"it is not signed by {holder} {sender}, and has to be (encryption.sign)"
            )
        return
    entry = keyring.trusted(holder, sender, signer, now)
    try:
        Ed25519PublicKey.from_public_bytes(entry.verifying or b"").verify(envelope.signature, envelope.signed)
    except (InvalidSignature, ValueError):
        raise SealRefused(Refusal.FORGED, f"its signature is not that of {holder} {sender}") from None
