"""Files of private keys: PEM blocks (PKCS #8, RFC 8410), newest generation first. Old ones still open old jobs."""

# A generation of a submitter or worker has an Ed25519 and an X25519 key, a generation of a group an X25519 key.
# ``openssl pkey -in FILE -text`` shows the first key. Text between the blocks is ignored (RFC 7468, section 2), except
# for the line with the creation time of a generation.

import dataclasses
import re
from dataclasses import field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Generic, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from stockworker.adapters.files import SECRET, make_folder, replace_file
from stockworker.errors import ConfigError, unread
from stockworker.protocol.frozen import dataclass
from stockworker.sealing.envelope import KeyId
from stockworker.sealing.keyring import key_id
from stockworker.trusted_files import open_trusted

_BLOCK: Final = re.compile(
    rb"# created (?P<created>[0-9T:Z-]{20})|(?P<pem>-----BEGIN [A-Z ]+-----.+?-----END [A-Z ]+-----\r?\n?)", re.DOTALL
)
_CREATED: Final = "%Y-%m-%dT%H:%M:%SZ"
_LARGEST_FILE: Final = 1024 * 1024


Private = TypeVar("Private", Ed25519PrivateKey, X25519PrivateKey)


_ABSENT: Final = "copy it from a backup, or create new keys with 'stockworker keys generate'"


@dataclasses.dataclass(
    frozen=True
)  # without slots, which a frozen generic class can't have: `SigningKey(…)` would fail
class OwnKey(Generic[Private]):
    """A private key with its public one; `created` is None if the file has no creation time."""

    id: KeyId
    public: bytes
    private: Private = field(repr=False, compare=False)
    created: datetime | None = None

    @classmethod
    def of(cls, private: Private, created: datetime | None = None) -> Self:
        """Add the public key and its ID."""
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return cls(key_id(public), public, private, created)


SigningKey = OwnKey[Ed25519PrivateKey]
OpeningKey = OwnKey[X25519PrivateKey]


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The keys of a file, each type newest first."""

    path: Path
    signing: tuple[SigningKey, ...]
    opening: tuple[OpeningKey, ...]


def load(path: Path) -> KeyFile:
    """Read a file of private keys.

    Raises:
        ConfigError: the file is not readable, is readable for other users, or contains an unsupported key.
    """
    return _parse(path, _read_secret(path))


def _parse(path: Path, content: bytes) -> KeyFile:
    signing: list[SigningKey] = []
    opening: list[OpeningKey] = []
    created: datetime | None = None
    for block in _BLOCK.finditer(content):
        if block["created"] is not None:
            created = _read_created(block["created"].decode())
            continue
        match _read_pem(path, block["pem"]):
            case Ed25519PrivateKey() as private:
                signing.append(SigningKey.of(private, created))
            case X25519PrivateKey() as private:
                opening.append(OpeningKey.of(private, created))
            case _:
                raise ConfigError(f"{path}: contains a key that is neither Ed25519 nor X25519; remove it")
    if not signing and not opening:
        raise ConfigError(f"{path}: contains no private key in PEM format; move it away, and {_ABSENT}")
    return KeyFile(path, tuple(signing), tuple(opening))


def create(path: Path, now: datetime, *, identity: bool) -> KeyFile:
    """Create a file with a first generation of keys.

    Args:
        path: the file; its folder is created if it does not exist.
        now: the current time, with its time zone.
        identity: with a signing key, for a submitter or worker; a group needs none.

    Raises:
        ConfigError: the file exists already, or is not writable.
    """
    if path.exists():
        raise ConfigError(
            f"{path} already exists; print its lines for the keyring with 'stockworker keys export', or move it away"
        )
    try:
        make_folder(path.parent, 0o755)
    except OSError as error:
        raise ConfigError(f"{path.parent}: can't be created: {error.strerror}") from error
    _write_secret(path, _generation(now, identity=identity))
    return load(path)


def add_generation(path: Path, now: datetime) -> KeyFile:
    """Add a new generation at the beginning of a file. The old keys stay, because they open what was sealed to them.

    Raises:
        ConfigError: the file is not usable or not writable.
    """
    content = _read_secret(path)
    identity = bool(_parse(path, content).signing)
    _write_secret(path, _generation(now, identity=identity) + content)
    return load(path)


def _generation(now: datetime, *, identity: bool) -> bytes:
    private: list[Ed25519PrivateKey | X25519PrivateKey] = [X25519PrivateKey.generate()]
    if identity:
        private.insert(0, Ed25519PrivateKey.generate())
    pem = b"".join(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for key in private)
    return f"# created {now.astimezone(UTC).strftime(_CREATED)}\n".encode() + pem


def _read_created(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, _CREATED).replace(tzinfo=UTC)
    except ValueError:
        return None


def _read_pem(path: Path, pem: bytes) -> object:
    try:
        return load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:  # TypeError: the key is encrypted
        raise ConfigError(f"{path}: contains a damaged or encrypted private key: {error}") from None
    except Exception as error:  # cryptography has its own error class for unknown algorithms
        raise ConfigError(f"{path}: contains a private key that is not supported: {error}") from error


def _read_secret(path: Path) -> bytes:
    """Read a file that only the current user and root can read: the same rule as for keys of ssh."""
    try:
        with open_trusted(path, private=True) as file:
            return file.read(_LARGEST_FILE)
    except OSError as error:
        raise ConfigError(f"{path}: can't read the private keys: {unread(error, _ABSENT)}") from error


def _write_secret(path: Path, content: bytes) -> None:
    try:
        replace_file(path, content, SECRET)
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror}") from error
