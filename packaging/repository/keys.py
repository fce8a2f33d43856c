"""The signing key, and the keys that clients trust."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repository.errors import Refused
from repository.programs import attempt, run

MAKE_KEY: Final = "gpg --quick-generate-key 'NAME <ADDRESS>' rsa4096 sign 2y"
_GPG: Final = ("gpg", "--batch", "--no-tty", "--quiet")


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs, and verifies signatures.

    Attributes:
        fingerprint: of the signing key.
        public: all keys that clients trust, armored.
        private: environment variables with which gpg finds the private key.
        trusted: folder in which gpg and rpm find only the trusted keys.
    """

    fingerprint: str
    public: bytes
    private: Mapping[str, str]
    trusted: Path

    def clearsign(self, text: bytes) -> bytes:
        """The text and its signature in one message (RFC 9580, section 7)."""
        return run(*_GPG, "--local-user", self.fingerprint, "--clearsign", given=text, environment=self.private)

    def signature(self, content: bytes) -> bytes:
        """An armored, detached signature."""
        options = ("--local-user", self.fingerprint, "--armor", "--detach-sign")
        return run(*_GPG, *options, given=content, environment=self.private)

    def text_of(self, signed: Path) -> bytes:
        """The text that a trusted key has clearsigned.

        Raises:
            Refused: no trusted key has, or the text was changed after that.
        """
        # Not --decrypt, which accepts a message without any signature.
        options = ("--homedir", self.trusted, "--trust-model", "always", "--output", "-")
        done = attempt(*_GPG, *options, "--verify", signed)
        if done.returncode != 0:
            raise Refused(
                f"{signed}: no trusted key has signed this content. If the key that signed it is missing, add it with "
                f"--keyring. Else the file was changed: {done.stderr.decode(errors='replace').strip()}"
            )
        return done.stdout

    def sign_rpm(self, rpm: Path) -> None:
        """Sign a package in place."""
        # Debian's rpm expects gpg under a name that only one of Debian's gpg packages provides.
        macros = ("--define", "__gpg /usr/bin/gpg", "--define", f"_gpg_name {self.fingerprint}")
        run("rpmsign", *macros, "--addsign", rpm, environment=self.private)

    def has_signed(self, rpm: Path) -> bool:
        """Whether a trusted key has signed a package, and the package has not changed since."""
        macros = ("--define", "_pkgverify_level all", "--dbpath", self.trusted / "rpm")
        return attempt("rpmkeys", *macros, "--checksig", rpm).returncode == 0


@contextmanager
def opened(key: str | None, keyring: Path | None) -> Iterator[Signer]:
    """Find the signing key, by fingerprint or in a file. No copy of it remains afterwards.

    Args:
        key: fingerprint of a key in gpg's own keyring, or path of a file with a private key.
        keyring: file with all public keys that clients trust; None for the signing key alone.

    Raises:
        Refused: the key is missing or has expired, or clients would not trust it.
    """
    if not key:
        raise Refused(f"no signing key. Pass its fingerprint or its file. To make a key: {MAKE_KEY}")
    with tempfile.TemporaryDirectory(prefix="repository-") as name:
        private: dict[str, str] = {}
        try:
            if Path(key).is_file():
                private = {"GNUPGHOME": str(_folder(name, "private"))}
                run(*_GPG, "--import", key, environment=private)
            fingerprint = _fingerprint(key, private)
            exported = run(*_GPG, "--armor", "--export", fingerprint, environment=private)
            trusted = _folder(name, "trusted")
            public = _trust(trusted, exported if keyring is None else _read(keyring))
            if fingerprint not in _listed(run(*_GPG, "--homedir", trusted, "--with-colons", "--list-keys")):
                raise Refused(
                    f"{keyring} does not contain {fingerprint}: clients would refuse the signatures of that key"
                )
            yield Signer(fingerprint, public, private, trusted)
        finally:
            for home in Path(name).iterdir():
                run("gpgconf", "--homedir", home, "--kill", "all")


def _folder(parent: str, name: str) -> Path:
    folder = Path(parent, name)
    folder.mkdir(mode=0o700)
    return folder


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Refused(f"{file}: can't read the public keys: {error.strerror}") from error


def _fingerprint(key: str, private: Mapping[str, str]) -> str:
    chosen = () if private else (key,)
    done = attempt(*_GPG, "--with-colons", "--list-secret-keys", *chosen, environment=private)
    found = _listed(done.stdout)
    if len(found) != 1:
        many = "has several private keys" if found else "no private key"
        raise Refused(f"{key}: {many}. Pass a fingerprint from 'gpg --list-secret-keys'. To make a key: {MAKE_KEY}")
    ((fingerprint, validity),) = found.items()
    if validity in {"e", "r"}:
        state = "has expired" if validity == "e" else "was revoked"
        raise Refused(
            f"{fingerprint} {state}: clients would refuse it. docs/packages.md describes the change to a new key"
        )
    return fingerprint


def _listed(colons: bytes) -> dict[str, str]:
    """Fingerprints of the primary keys, and their validity (gnupg's doc/DETAILS, "Format of the colon listings")."""
    found: dict[str, str] = {}
    validity = ""
    for line in colons.decode().splitlines():
        fields = line.split(":")
        if fields[0] in {"sec", "pub"}:
            validity = fields[1]
        elif fields[0] == "fpr" and validity:
            found[fields[9]], validity = validity, ""
    return found


def _trust(folder: Path, keys: bytes) -> bytes:
    """Make gpg and rpm trust only these keys; return the public keys in gpg's minimal form."""
    run(*_GPG, "--homedir", folder, "--import", given=keys)
    public = run(*_GPG, "--homedir", folder, "--export-options", "export-minimal", "--armor", "--export")
    file = folder / "public.asc"
    file.write_bytes(public)
    run("rpmkeys", "--dbpath", folder / "rpm", "--import", file)
    return public
