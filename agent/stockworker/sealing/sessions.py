"""Sessions: keys that are agreed once and used for many messages."""

# Asymmetric cryptography would cost more per job than all its MQTT messages. So a sender agrees on a key with each
# recipient (`hpke`), and seals all messages of up to an hour with it. The key's encapsulation is in every message, so
# the recipient needs no state: it derives the key again, or takes it from a cache. Sessions only exist in memory, and
# end with the process.

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
"""With random nonces, the probability that two messages of a session share a nonce is 2**-57. NIST SP 800-38D, section
8.3, allows 2**-32."""

_MOST_SESSIONS: Final = 256
_MOST_RECEIVED: Final = 1024


@dataclass(slots=True)
class Session:
    """One agreement with one recipient.

    Attributes:
        enc: encapsulation, from which the recipient derives the key.
        began: start, in seconds on the clock of `Sessions.to`.
        left: number of messages that it may still seal.
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
    """The sessions of a sender."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[tuple[bytes, bytes], Session] = OrderedDict()

    def to(self, public: bytes, info: bytes, now: float) -> Session:
        """The session with the holder of a key; a new one if none exists or the existing one is used up.

        Args:
            public: X25519 public key.
            info: the purpose of the key.
            now: time in seconds; after a clock step, a new session starts.

        Raises:
            ConfigError: the public key is not usable.
        """
        name = (public, info)
        session = self._sessions.get(name)
        if session is None or not 0 <= now - session.began < LONGEST_SESSION_S or session.left <= 0:
            try:
                enc, key = hpke.agree(public, info)
            except ValueError:  # a point of small order: RFC 9180, section 7.1.4
                raise ConfigError(f"keyring: key {key_id(public)} is not usable for sealing; replace it") from None
            session = self._sessions[name] = Session(enc, now, AESGCM(key))
        self._sessions.move_to_end(name)
        if len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return session


class Received:
    """The agreed keys of a recipient; a cache of the most recently used ones."""

    def __init__(self) -> None:
        self._ciphers: OrderedDict[tuple[KeyId, bytes, bytes], AESGCM] = OrderedDict()

    def open(self, key: OpeningKey, enc: bytes, info: bytes, nonce: bytes, sealed: tuple[bytes, bytes]) -> str:
        """Decrypt a message.

        Args:
            key: the key that the message is sealed to.
            enc: encapsulation of HPKE.
            info: the purpose of the key.
            nonce: nonce of this message.
            sealed: ciphertext and associated data.

        Raises:
            SealRefused: the message was sealed with another key or for another purpose, was changed, or is not text.
        """
        name = (key.id, enc, info)
        try:
            cipher = self._ciphers.get(name) or AESGCM(hpke.derive(key.private, enc, info))
            plain = cipher.decrypt(nonce, *sealed).decode()
        except (InvalidTag, ValueError):  # ValueError: the encapsulation is not a point on the curve, or not UTF-8
            raise SealRefused(Refusal.DAMAGED, "damaged: decryption failed, so it was changed in transit") from None
        self._ciphers[name] = cipher  # only after success: forged messages must not displace keys in use
        self._ciphers.move_to_end(name)
        if len(self._ciphers) > _MOST_RECEIVED:
            self._ciphers.popitem(last=False)
        return plain


def make_nonce() -> bytes:
    """Make a random nonce. A counter would repeat its values in a forked process."""
    return os.urandom(NONCE_BYTES)
