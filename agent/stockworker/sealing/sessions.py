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
from stockworker.sealing.envelope import NONCE_BYTES, AnswerHeader, Envelope, JobHeader, KeyId, Refusal
from stockworker.sealing.keyring import key_id
from stockworker.sealing.keys import OpeningKey
from stockworker.sealing.proof import answer_key

LONGEST_SESSION_S: Final = 3600.0
MOST_MESSAGES: Final = 1 << 20
"""With random nonces, the probability that two messages of a session share a nonce is 2**-57. NIST SP 800-38D, section
8.3, allows 2**-32."""

_MOST_SESSIONS: Final = 256
_MOST_RECEIVED: Final = 1024


class AgreedKey:
    """A key that both sides have agreed on, with the cipher for everything but answers with a token."""

    __slots__ = ("_cipher", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cipher = AESGCM(key)

    def cipher(self, token: bytes | None) -> AESGCM:
        """The cipher of a message; of an answer, with the token of its job."""
        return self._cipher if token is None else AESGCM(answer_key(token, self._key))


@dataclass(slots=True)
class Session:
    """One agreement with one recipient.

    Attributes:
        enc: encapsulation, from which the recipient derives the key.
        key: the agreed key.
        began: start, in seconds on the clock of `Sessions.to`.
        left: number of messages that it may still seal.
    """

    enc: bytes
    began: float
    key: AgreedKey = field(repr=False)
    left: int = MOST_MESSAGES

    def seal(self, nonce: bytes, plain: bytes, associated: bytes, token: bytes | None = None) -> bytes:
        """Encrypt one message; an answer with the token of its job."""
        self.left -= 1
        return self.key.cipher(token).encrypt(nonce, plain, associated)


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
            session = self._sessions[name] = Session(enc, now, AgreedKey(key))
        self._sessions.move_to_end(name)
        if len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return session


class Received:
    """The agreed keys of a recipient; a cache of the most recently used ones."""

    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[KeyId, bytes, bytes], AgreedKey] = OrderedDict()

    def open(
        self, envelope: Envelope[JobHeader] | Envelope[AnswerHeader], key: OpeningKey, info: bytes, token: bytes | None
    ) -> bytes:
        """Decrypt a message.

        Args:
            envelope: the message.
            key: the key that the message is sealed to.
            info: the purpose of the key.
            token: the token of the job, to decrypt an answer to it.

        Raises:
            SealRefused: the message was sealed with another key or token, or for another purpose, or was changed.
        """
        header = envelope.header
        name = (key.id, header.enc, info)
        try:
            agreed = self._keys.get(name) or AgreedKey(hpke.derive(key.private, header.enc, info))
            plain = agreed.cipher(token).decrypt(header.nonce, envelope.ciphertext, envelope.associated)
        except (InvalidTag, ValueError):  # ValueError: the encapsulation is not a point on the curve
            raise SealRefused(Refusal.DAMAGED, "damaged: decryption failed, so it was changed in transit") from None
        self._keys[name] = agreed  # only after success: forged messages must not displace keys in use
        self._keys.move_to_end(name)
        if len(self._keys) > _MOST_RECEIVED:
            self._keys.popitem(last=False)
        return plain


def text_of(plain: bytes) -> str:
    """The text of a decrypted message.

    Raises:
        SealRefused: it is not UTF-8.
    """
    try:
        return plain.decode()
    except UnicodeDecodeError:
        raise SealRefused(Refusal.DAMAGED, "damaged: its content is not UTF-8") from None


def make_nonce() -> bytes:
    """Make a random nonce. A counter would repeat its values in a forked process."""
    return os.urandom(NONCE_BYTES)
