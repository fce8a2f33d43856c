"""The TLS settings of every connection to the broker."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from stockworker.errors import ConfigError
from stockworker.trusted_files import open_trusted

_REMEDIES: Final[dict[type[OSError], str]] = {
    FileNotFoundError: "copy it there, or correct the path",
    PermissionError: "make it readable for this user",
}

_KEY: Final = "private key"
_NOT_OURS: Final = (
    "it is probably the key of another ID. Set tls.cert_file and tls.key_file to the certificate and key of this one (a "
    "systemd unit loads the key that is named after its ID). If it is this user's own key, make this user its owner"
)
"""Not to make it readable: a handler that can read the dispatcher's key can be the dispatcher."""

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""The cipher suites of TLS 1.2: only with forward secrecy and authenticated encryption. TLS 1.3 has no others."""

_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"

Stamp = tuple[tuple[str, int, int, int] | None, ...]


class TlsFiles:
    """The certificate files of a connection. They are read now, and again for the next connection after a change.

    Args and errors are those of `client_context`.
    """

    def __init__(
        self,
        ca_file: Path | None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
        crl_file: Path | None = None,
    ) -> None:
        self.cert_file = cert_file
        self._files = ca_file, cert_file, key_file, crl_file
        self._context: ssl.SSLContext | None = None
        self.stamp: Stamp = ()
        """The state of the files when they were read; equal if nothing has changed."""
        self.context()

    def context(self) -> ssl.SSLContext:
        """The settings of the next connection.

        Raises:
            ConfigError: a file was replaced by an unusable one.
        """
        stamp = tuple(map(_stamp, self._files))  # before they are read, so that a change meanwhile is noticed
        if self._context is None or stamp != self.stamp:
            self._context = client_context(*self._files)
            self.stamp = stamp
        return self._context


def client_context(
    ca_file: Path | None, cert_file: Path | None = None, key_file: Path | None = None, crl_file: Path | None = None
) -> ssl.SSLContext:
    """Trust exactly the authority in `ca_file`, and present the certificate in `cert_file`, if there is one.

    Without a `ca_file`, trust the authorities that the system trusts. With a `crl_file`, the authority that issued the
    broker's certificate must have a revocation list in it, which has not expired and does not list that certificate.

    TLS 1.2 or newer. The broker's certificate must contain the host name of the connection as a subject alternative name.

    Raises:
        ConfigError: a file is missing, unreadable, not PEM, encrypted, other users can change it, or the key is not the
            certificate's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies the chain and the host name by default
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.hostname_checks_common_name = False
    if ca_file is None:
        context.load_default_certs()
    else:
        _trust(context, ca_file)
    if crl_file is not None:
        _check_revocations(context, crl_file)
    if cert_file is not None:
        _load_identity(context, cert_file, cert_file if key_file is None else key_file)
    return context


def server_context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """Present this certificate to those who connect. TLS 1.2 or newer.

    Raises:
        ConfigError: as for `client_context`.
    """
    context = bare_server_context()
    _load_identity(context, cert_file, key_file)
    return context


def bare_server_context() -> ssl.SSLContext:
    """Accept TLS 1.2 or newer; the caller loads the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    return context


def host_names(cert_file: Path) -> frozenset[str]:
    """The host names and addresses that a certificate is valid for.

    Raises:
        ConfigError: the file is missing, unreadable or not PEM.
    """
    names = _decoded(cert_file).get("subjectAltName", ())
    return frozenset(name for kind, name in names if kind in {"DNS", "IP Address"})


def common_name(cert_file: Path) -> str:
    """Return the common name of a certificate, by which the broker identifies its owner. Empty if it has none.

    Raises:
        ConfigError: the file is missing, unreadable or not PEM.
    """
    decoded = _decoded(cert_file)
    return next((value for part in decoded["subject"] for name, value in part if name == "commonName"), "")


def valid_until(cert_file: Path) -> float:
    """Return the time at which a certificate expires, in seconds since 1970.

    Raises:
        ConfigError: the file is missing, unreadable or not PEM.
    """
    return float(ssl.cert_time_to_seconds(_decoded(cert_file)["notAfter"]))


def _decoded(cert_file: Path) -> dict[str, Any]:
    with _opened(cert_file, "client certificate") as name:
        try:
            # The only decoder in the standard library. `cryptography` would take 8 MiB in every service, only for this.
            decoded: dict[str, Any] = ssl._ssl._test_decode_cert(name)  # type: ignore[attr-defined] # noqa: SLF001 (see above)
        except ssl.SSLError as error:
            raise ConfigError(f"{cert_file}: not a client certificate in PEM form") from error
    return decoded


def _stamp(file: Path | None) -> tuple[str, int, int, int] | None:
    try:
        found = None if file is None else file.stat()
    except OSError:
        return None
    return None if found is None else (str(file), found.st_ino, found.st_mtime_ns, found.st_size)


def _trust(context: ssl.SSLContext, ca_file: Path) -> None:
    with _opened(ca_file, "CA certificate") as name:
        try:
            context.load_verify_locations(name)
        except ssl.SSLError as error:
            raise ConfigError(f"{ca_file}: not a CA certificate in PEM form; copy ca.crt of the fleet here") from error


def _check_revocations(context: ssl.SSLContext, crl_file: Path) -> None:
    with _opened(crl_file, "revocation list") as name:
        if _CERTIFICATE in Path(name).read_bytes():  # OpenSSL would trust it
            raise ConfigError(f"{crl_file}: contains a certificate, but must contain revocation lists only")
        try:
            context.load_verify_locations(name)
        except ssl.SSLError as error:
            raise ConfigError(
                f"{crl_file}: not a revocation list in PEM form; copy crl.pem of the fleet here"
            ) from error
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


def _load_identity(context: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
    try:
        with _opened(cert_file, "client certificate") as certificate, _opened(key_file, _KEY) as key:
            # Without a callback OpenSSL would ask for the password of an encrypted key on the terminal.
            context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"{key_file}: not the private key of {cert_file}; issue both again, or copy both"
            ) from error
        raise ConfigError(f"{_culprit(cert_file, key_file)} (OpenSSL: {error.reason or error})") from error


def _culprit(cert_file: Path, key_file: Path) -> str:
    if _CERTIFICATE not in cert_file.read_bytes():
        return f"{cert_file}: not a client certificate in PEM form"
    key = key_file.read_bytes()
    if b"ENCRYPTED" in key:
        return f"{key_file}: the private key is encrypted; store it in plain PEM, readable only for the service"
    if b"PRIVATE KEY-----" not in key:
        return f"{key_file}: not a private key in PEM form"
    return f"{cert_file} or {key_file}: damaged; issue both again"


@contextmanager
def _opened(path: Path, what: str) -> Iterator[str]:
    """Open a file that other users can't change; return a name by which OpenSSL opens that same file."""
    try:
        file = open_trusted(path)
    except OSError as error:
        remedy = _REMEDIES.get(type(error), "correct the path")
        if what == _KEY and isinstance(error, PermissionError):
            remedy = _NOT_OURS
        raise ConfigError(f"{path}: can't read the {what}: {error.strerror}; {remedy}") from error
    with file:
        name = f"/proc/self/fd/{file.fileno()}"
        # An image that has not booted has no /proc, and no other user who could exchange the file.
        yield name if Path(name).exists() else str(path)
