"""The key that signs, and the keys that clients are told to trust."""

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
    """What signs, and checks what was signed.

    Attributes:
        fingerprint: of the key that signs.
        public: all the keys that clients trust, armored.
        private: environment in which gpg finds the private key.
        trusted: folder in which gpg and rpm find the trusted keys, and no others.
    """

    fingerprint: str
    public: bytes
    private: Mapping[str, str]
    trusted: Path

    def clearsign(self, text: bytes) -> bytes:
        """The text with its signature in one (RFC 9580, section 7)."""
        return run(*_GPG, "--local-user", self.fingerprint, "--clearsign", given=text, environment=self.private)

    def signature(self, content: bytes) -> bytes:
        """An armored signature of its own."""
        options = ("--local-user", self.fingerprint, "--armor", "--detach-sign")
        return run(*_GPG, *options, given=content, environment=self.private)

    def text_of(self, signed: Path) -> bytes:
        """The text that a trusted key has clearsigned.

        Raises:
            Refused: nobody has, or it was changed since.
        """
        # Not --decrypt, which is content with a message that bears no signature at all.
        options = ("--homedir", self.trusted, "--trust-model", "always", "--output", "-")
        done = attempt(*_GPG, *options, "--verify", signed)
        if done.returncode != 0:
            raise Refused(
                f"{signed}: no trusted key has signed it as it is. If the key is missing that it was signed with, give "
                f"it with --keyring; if not, it was changed on its way: {done.stderr.decode(errors='replace').strip()}"
            )
        return done.stdout

    def sign_rpm(self, rpm: Path) -> None:
        """Sign a package in place."""
        # Debian's rpm looks for gpg under a name that only one of Debian's packages for it provides.
        macros = ("--define", "__gpg /usr/bin/gpg", "--define", f"_gpg_name {self.fingerprint}")
        run("rpmsign", *macros, "--addsign", rpm, environment=self.private)

    def has_signed(self, rpm: Path) -> bool:
        """Whether a trusted key has signed a package, and nobody has changed it since."""
        macros = ("--define", "_pkgverify_level all", "--dbpath", self.trusted / "rpm")
        return attempt("rpmkeys", *macros, "--checksig", rpm).returncode == 0


@contextmanager
def opened(key: str | None, keyring: Path | None) -> Iterator[Signer]:
    """Find the key to sign with, by fingerprint or in a file; nothing of it is left behind.

    Args:
        key: fingerprint of a key in gpg's own keyring, or path of a file with a private key.
        keyring: file with all public keys that clients are to trust; the signing key alone if there is none.

    Raises:
        Refused: the key is not there, has expired, or clients would not trust it.
    """
    if not key:
        raise Refused(f"no key to sign with: give its fingerprint or its file. To make one: {MAKE_KEY}")
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
                raise Refused(f"{keyring}: {fingerprint} is not in it: clients would refuse what that key signs")
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
        raise Refused(f"{key}: {many}: give a fingerprint of 'gpg --list-secret-keys'. To make a key: {MAKE_KEY}")
    ((fingerprint, validity),) = found.items()
    if validity in {"e", "r"}:
        state = "has expired" if validity == "e" else "was revoked"
        raise Refused(
            f"{fingerprint} {state}: clients would refuse it. docs/packages.md says how to go on to a new key"
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
    """Let gpg and rpm trust these keys alone; return the public halves, in the one form that there is of them."""
    run(*_GPG, "--homedir", folder, "--import", given=keys)
    public = run(*_GPG, "--homedir", folder, "--export-options", "export-minimal", "--armor", "--export")
    file = folder / "public.asc"
    file.write_bytes(public)
    run("rpmkeys", "--dbpath", folder / "rpm", "--import", file)
    return public
