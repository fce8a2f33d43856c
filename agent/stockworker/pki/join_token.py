"""Join tokens: each lets one new machine get one worker's certificate from the authority, without an operator in between."""

# A token is `ID.SECRET.FINGERPRINT`:
#
#     ID            names the token in lists and logs; public
#     SECRET        192 random bits; the authority stores only their SHA-256, which is enough for a random secret
#     FINGERPRINT   SHA-256 of the authority's certificate, by which the machine recognises the authority
#
# The file `join-tokens.jsonl` in the authority's folder has one line per token, used ones included. It is written under
# the lock of that folder. A token is marked as used before the certificate is signed: a crash between the two costs a
# token, never a second certificate.

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from stockworker.adapters.files import SECRET, replace_file
from stockworker.errors import CertificateRefused, ConfigError, unread
from stockworker.protocol.frozen import dataclass
from stockworker.trusted_files import read_trusted

FILE: Final = "join-tokens.jsonl"
MOST_TOKENS: Final = 10_000
_KEPT: Final = timedelta(days=30)
_PATTERN: Final = re.compile(r"[A-Za-z0-9._*-]{1,64}")
_TOKEN: Final = re.compile(r"([0-9a-f]{8})\.([A-Za-z0-9_-]{32})\.([A-Za-z0-9_-]{43})")
_UNKNOWN: Final = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A token as an operator passes it to a new machine.

    Attributes:
        id: its public part.
        secret: what proves it.
        fingerprint: SHA-256 of the authority's certificate in DER form.
    """

    id: str
    secret: str
    fingerprint: bytes

    @classmethod
    def parse(cls, written: str) -> Self:
        """Read a token.

        Raises:
            ValueError: it is not one.
        """
        found = _TOKEN.fullmatch(written)
        if found is None:
            raise ValueError("not a join token; copy the whole line that `stockworker pki token create` printed")
        try:
            return cls(found[1], found[2], base64.urlsafe_b64decode(f"{found[3]}="))
        except binascii.Error as error:
            raise ValueError("not a join token") from error

    def __str__(self) -> str:
        return f"{self.id}.{self.secret}.{base64.urlsafe_b64encode(self.fingerprint).decode().rstrip('=')}"

    def is_of(self, authority: x509.Certificate) -> bool:
        """Whether this is a token of the authority with this certificate."""
        return hmac.compare_digest(fingerprint_of(authority), self.fingerprint)


def fingerprint_of(certificate: x509.Certificate) -> bytes:
    """The SHA-256 of a certificate in DER form."""
    return certificate.fingerprint(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What the authority knows about a token.

    Attributes:
        id: its public part.
        sha256: of its secret, in hexadecimal.
        pattern: which worker IDs it is for; `*` matches any characters.
        created_at: time of its creation.
        until: last moment of its validity.
        used_by: the worker that joined with it.
        used_at: when it did.
    """

    id: str
    sha256: str
    pattern: str
    created_at: datetime
    until: datetime
    used_by: str | None = None
    used_at: datetime | None = None

    def state(self, now: datetime) -> str:
        """One of used, expired, valid."""
        if self.used_by is not None:
            return "used"
        return "expired" if now > self.until else "valid"


class TokenFile:
    """The tokens of one authority. Its users hold the lock of the authority's folder while they change it.

    Args:
        folder: of the authority.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def records(self) -> list[TokenRecord]:
        """All tokens, oldest first.

        Raises:
            ConfigError: the file is not usable.
        """
        try:
            lines = read_trusted(self._path, private=True).decode().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigError(f"{self._path}: can't be read: {unread(error)}") from error
        try:
            return [_record(json.loads(line)) for line in lines]
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self._path}: is damaged; delete it, which makes all join tokens invalid") from error

    def create(
        self, authority: x509.Certificate, pattern: str, now: datetime, valid: timedelta, count: int = 1
    ) -> list[JoinToken]:
        """Make tokens.

        Raises:
            CertificateRefused: the pattern is not one, or there are too many tokens.
            ConfigError: the file is not usable.
        """
        if not _PATTERN.fullmatch(pattern):
            raise CertificateRefused(f"{pattern[:80]!r} is not a pattern of worker IDs; write one such as 'edge-*'")
        records = [each for each in self.records() if now < each.until + _KEPT]
        if len(records) + count > MOST_TOKENS:
            raise CertificateRefused(
                f"the authority would have more than {MOST_TOKENS} join tokens; revoke some, or wait until old ones are forgotten"
            )
        of = fingerprint_of(authority)
        made = [JoinToken(secrets.token_hex(4), secrets.token_urlsafe(24), of) for _ in range(count)]
        self._save([*records, *(TokenRecord(each.id, _hash(each.secret), pattern, now, now + valid) for each in made)])
        return made

    def revoke(self, token_id: str) -> None:
        """Forget a token.

        Raises:
            CertificateRefused: it is unknown.
            ConfigError: the file is not usable.
        """
        records = self.records()
        others = [each for each in records if each.id != token_id]
        if len(others) == len(records):
            raise CertificateRefused(f"{token_id!r} is not the ID of a join token; see 'stockworker pki token list'")
        self._save(others)

    def prove(self, token: JoinToken, now: datetime) -> TokenRecord:
        """The record of a valid token.

        Raises:
            CertificateRefused: it is not valid. Whether it ever was is not revealed.
            ConfigError: the file is not usable.
        """
        found = next((each for each in self.records() if each.id == token.id), None)
        # The time of the comparison must not depend on the secret, nor on whether the ID is known.
        proven = hmac.compare_digest(_hash(token.secret), _UNKNOWN if found is None else found.sha256)
        if found is None or not proven or found.state(now) != "valid":
            raise CertificateRefused("the join token is unknown, expired or used already; create another one")
        return found

    def check(self, token: JoinToken, name: str, now: datetime) -> TokenRecord:
        """The record of a token that is valid for this name.

        Raises:
            CertificateRefused: it is not.
            ConfigError: the file is not usable.
        """
        found = self.prove(token, now)
        if not fnmatchcase(name, found.pattern):
            raise CertificateRefused(f"the join token is for workers {found.pattern!r}, not for {name!r}")
        return found

    def use(self, token: JoinToken, name: str, now: datetime) -> None:
        """Mark a token as used. Errors are those of `check`."""
        used = self.check(token, name, now)
        marked = replace(used, used_by=name, used_at=now)
        self._save(marked if each.id == used.id else each for each in self.records())

    def _save(self, records: Iterable[TokenRecord]) -> None:
        text = "".join(json.dumps(_fields(each)) + "\n" for each in records)
        try:
            replace_file(self._path, text.encode(), SECRET)
        except OSError as error:
            raise ConfigError(f"{self._path}: can't be written: {error.strerror}") from error


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _fields(record: TokenRecord) -> dict[str, Any]:
    fields = asdict(record).items()
    return {name: each.isoformat() if isinstance(each, datetime) else each for name, each in fields if each is not None}


def _record(fields: dict[str, Any]) -> TokenRecord:
    times = {
        name: datetime.fromisoformat(value)
        for name, value in fields.items()
        if name in {"created_at", "until", "used_at"}
    }
    return TokenRecord(**{**fields, **times})
