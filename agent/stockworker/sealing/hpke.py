"""Key agreement with the holder of an X25519 key: HPKE (RFC 9180), base mode, through its export interface."""

# DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. One agreement costs two multiplications on the curve. So the
# agreed key is used for many messages (see `stockworker.sealing.sessions`).

from functools import cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey, KEMKeyPair

KEY_BYTES: Final = 32

EXPORTER_CONTEXT: Final = b"stockworker sealed 1 key"


def agree(public: bytes, info: bytes, ephemeral: X25519PrivateKey | None = None) -> tuple[bytes, bytes]:
    """Agree on a key with the holder of the private key of `public`.

    Args:
        public: X25519 public key, 32 bytes.
        info: the purpose of the key; both sides must use the same.
        ephemeral: ephemeral key for known-answer tests; a new one by default.

    Returns:
        The encapsulation, from which the other side derives the key, and the key: 32 bytes each.

    Raises:
        ValueError: not a valid public key.
    """
    recipient = KEMKey.from_pyca_cryptography_key(X25519PublicKey.from_public_bytes(public))
    encapsulation, context = suite().create_sender_context(recipient, info, eks=_pair(ephemeral))
    return encapsulation, context.export(EXPORTER_CONTEXT, KEY_BYTES)


def derive(private: X25519PrivateKey, encapsulation: bytes, info: bytes) -> bytes:
    """Derive the key that `agree` returned on the other side.

    Raises:
        ValueError: not a valid encapsulation.
    """
    context = suite().create_recipient_context(encapsulation, KEMKey.from_pyca_cryptography_key(private), info)
    return context.export(EXPORTER_CONTEXT, KEY_BYTES)


@cache
def suite() -> CipherSuite:
    """The cipher suite of all sealed strings."""
    return CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES256_GCM)


def _pair(private: X25519PrivateKey | None) -> KEMKeyPair | None:
    if private is None:
        return None
    public = KEMKey.from_pyca_cryptography_key(private.public_key())
    return KEMKeyPair(KEMKey.from_pyca_cryptography_key(private), public)
