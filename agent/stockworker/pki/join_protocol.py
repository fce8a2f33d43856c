"""The conversation of a new machine with the authority: lines of JSON over TLS. Both sides take lines from a stranger."""

# authority → machine   {"join": 1, "authority": PEM}
# machine → authority   {"token": "ID.SECRET", "request": PEM}
# authority → machine   {"certificate": PEM, "broker": "HOST:PORT"}  or  {"error": TEXT}
#
# The authority speaks first. A new machine does not have its certificate yet, so it opens a connection without
# verification, reads the first line, and closes it without a word. If the certificate in that line has the fingerprint
# of the token, a second connection trusts that certificate alone, and verifies the host name. Only there does the machine
# send its token. So a server in the middle gets nothing.

import json
from typing import Final

from stockworker.errors import CertificateRefused

VERSION: Final = 1
PORT: Final = 8884
LONGEST_LINE: Final = 16 * 1024
"""Longest line of either side, in bytes. A request and a certificate have less than one KiB each."""

TIME_LIMIT_S: Final = 15.0
"""Time for a whole connection, with its TLS handshake."""

GREETING: Final = ("join", "authority")
REQUEST: Final = ("token", "request")
ANSWER: Final = ("certificate", "broker")


def encoded(**fields: object) -> bytes:
    """One line."""
    return json.dumps(fields).encode() + b"\n"


def decoded(line: bytes, names: tuple[str, ...]) -> list[str]:
    """The fields with these names, each as text.

    Raises:
        CertificateRefused: the line is not such a message, or it is an error, whose text is in the exception.
    """
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        fields = None
    if not line.endswith(b"\n") or not isinstance(fields, dict):
        raise CertificateRefused("the peer does not speak the join protocol, or closed the connection")
    if isinstance(error := fields.get("error"), str):
        raise CertificateRefused(error[:500])
    found = [fields.get(name) for name in names]
    if fields.get("join", VERSION) != VERSION:
        raise CertificateRefused(
            "the peer speaks another version of the join protocol; install the same version on both"
        )
    if not all(isinstance(each, str) or name == "join" for name, each in zip(names, found, strict=True)):
        raise CertificateRefused("the peer sent an incomplete message of the join protocol")
    return [str(each) for each in found]
