"""Keys that were agreed once and are used for many messages, and the ciphers that use them."""

import os
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stockworker.errors import ConfigError, SealRefused
from stockworker.sealing import hpke
from stockworker.sealing.envelope import NONCE_BYTES, KeyId, Refusal
from stockworker.sealing.keyring import key_id
from stockworker.sealing.keys import OpeningKey

LONGEST_SESSION_S: Final = 3600.0
MOST_MESSAGES: Final = 1 << 20
"""With random nonces two messages of a session share one with a chance of 2**-57: NIST SP 800-38D, section 8.3, allows
2**-32."""

_MOST_SESSIONS: Final = 256
_MOST_RECEIVED: Final = 1024


@dataclass(slots=True)
class Session:
    """One agreement with one recipient.

    Attributes:
        enc: what the recipient derives the key from.
        began: seconds on the clock of `Sessions.begin`.
        left: messages that it may still be used for.
    """

    enc: bytes
    began: float
    cipher: AESGCM = field(repr=False)
    left: int = MOST_MESSAGES

    def seal(self, nonce: bytes, plain: bytes, associated: bytes) -> bytes:
        """Encrypt one message."""
        self.left -= 1
        return self.cipher.encrypt(nonce, plain, associated)


class Sessions:
    """Agreements with everybody that we seal to. They live in this process only."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[tuple[bytes, bytes], Session] = OrderedDict()

    def to(self, public: bytes, info: bytes, now: float) -> Session:
        """The agreement with the holder of a key, a new one where there is none or it has served its time.

        Args:
            public: X25519 public key.
            info: what it is for.
            now: in seconds; that it may step does no harm.

        Raises:
            ConfigError: nothing can be sealed to that key.
        """
        name = (public, info)
        session = self._sessions.get(name)
        if session is None or not 0 <= now - session.began < LONGEST_SESSION_S or session.left <= 0:
            try:
                enc, key = hpke.agree(public, info)
            except ValueError:  # a point of small order: RFC 9180, section 7.1.4
                raise ConfigError(f"the keyring: nothing can be sealed to key {key_id(public)}: make another") from None
            session = self._sessions[name] = Session(enc, now, AESGCM(key))
        self._sessions.move_to_end(name)
        if len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return session


class Received:
    """Keys that others have agreed with us, the most used ones remembered."""

    def __init__(self) -> None:
        self._ciphers: OrderedDict[tuple[KeyId, bytes, bytes], AESGCM] = OrderedDict()

    def open(self, key: OpeningKey, enc: bytes, info: bytes, nonce: bytes, sealed: tuple[bytes, bytes]) -> str:
        """Decrypt a message.

        Args:
            key: that it is sealed to.
            enc: HPKE's encapsulation.
            info: what the key was agreed for.
            nonce: of this message.
            sealed: ciphertext and associated data.

        Raises:
            SealRefused: it was sealed with another key or for another purpose, was changed, or holds no text.
        """
        name = (key.id, enc, info)
        try:
            cipher = self._ciphers.get(name) or AESGCM(hpke.derive(key.private, enc, info))
            plain = cipher.decrypt(nonce, *sealed).decode()
        except (InvalidTag, ValueError):  # ValueError: an encapsulation that is no point on the curve; no UTF-8
            raise SealRefused(Refusal.DAMAGED, "damaged: it can't be decrypted, so it was changed on its way") from None
        self._ciphers[name] = cipher  # only now: what is forged must not push out what is used
        self._ciphers.move_to_end(name)
        if len(self._ciphers) > _MOST_RECEIVED:
            self._ciphers.popitem(last=False)
        return plain


def make_nonce() -> bytes:
    """A random nonce: a counter would repeat itself in a process that has forked."""
    return os.urandom(NONCE_BYTES)
