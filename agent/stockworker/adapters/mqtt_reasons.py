"""Why a connection failed or ended, with the next step for an operator."""

import errno
import socket
import ssl

SUCCESS = 0x00
NO_MATCHING_SUBSCRIBERS = 0x10
PACKET_TOO_LARGE = 0x95
SESSION_TAKEN_OVER = 0x8E

# CONNACK codes that no retry solves: an operator must change a certificate, a password, an ID or the broker.
# 0x01 is how a broker without MQTT 5 refuses (MQTT 3.1.1, section 3.2.2.3).
PERMANENT_REFUSALS = frozenset({0x01, 0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C})

# MQTT 5.0, section 2.4
_NAMES = {
    0x00: "success",
    0x01: "unacceptable protocol version",
    0x10: "no matching subscribers",
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x84: "unsupported protocol version",
    0x85: "client identifier not valid",
    0x86: "bad user name or password",
    0x87: "not authorized",
    0x88: "server unavailable",
    0x89: "server busy",
    0x8A: "banned",
    0x8B: "server shutting down",
    0x8C: "bad authentication method",
    0x8D: "keep alive timeout",
    0x8E: "session taken over",
    0x8F: "topic filter invalid",
    0x90: "topic name invalid",
    0x91: "packet identifier in use",
    0x93: "receive maximum exceeded",
    0x94: "topic alias invalid",
    0x95: "packet too large",
    0x96: "message rate too high",
    0x97: "quota exceeded",
    0x98: "administrative action",
    0x99: "payload format invalid",
    0x9A: "retain not supported",
    0x9B: "QoS not supported",
    0x9C: "use another server",
    0x9D: "server moved",
    0x9F: "connection rate exceeded",
    0xA1: "subscription identifiers not supported",
    0xA2: "wildcard subscriptions not supported",
}

# Mosquitto answers "not authorized" to a wrong password too, so that a client can't learn which of the two was wrong.
_CHECK_IDENTITY = "check the user name and the password, or whether the broker accepts the client certificate"

_NEXT_STEPS = {
    0x01: "the broker does not support MQTT 5: use Mosquitto 2.0 or newer",
    0x84: "the broker does not support MQTT 5: use Mosquitto 2.0 or newer",
    0x85: "give this client another ID",
    0x86: _CHECK_IDENTITY,
    0x87: _CHECK_IDENTITY,
    0x8E: "another connection uses the same client ID",
    0x95: "a message was larger than the broker's max_packet_size",
}

# By OpenSSL's X509_V_ERR_* code.
_VERIFY_STEPS = {
    3: "crl_file must have the list of the authority that issued it",
    9: "check the clock of this machine",
    10: "renew the broker's certificate, or check the clock of this machine",
    11: "check the clock of this machine",
    12: "copy the authority's current list to crl_file; 'stockworker pki crl' writes one",
    18: "the CA file must be the one of the authority that issued it",
    19: "the CA file must be the one of the authority that issued it",
    20: "the CA file must be the one of the authority that issued it",
    23: "do not use this broker: it was revoked at the authority. Issue a new certificate for a new key there",
    62: "connect by a name in the certificate, or issue one for this name",
    64: "connect by an address in the certificate, or issue one for this address",
}

CLIENT_CERTIFICATE = "the client certificate"
"""A part of every reason about it."""

_TLS_STEPS = {
    "WRONG_VERSION_NUMBER": "the peer does not use TLS: is this the broker's TLS port?",
    "UNSUPPORTED_PROTOCOL": "the peer has no TLS 1.2 or newer",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer has no TLS 1.2 or newer",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the broker requires a client certificate: set cert_file and key_file",
    "TLSV1_ALERT_UNKNOWN_CA": "the broker does not trust the authority of the client certificate: get one of the fleet's with 'stockworker pki request'",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client certificate has expired: renew it with 'stockworker pki renew'",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the client certificate has been revoked: request a new one with 'stockworker pki request'",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the broker does not accept the client certificate",
}


def reason_name(code: int) -> str:
    """For people: `not authorized (0x87)`."""
    return f"{_NAMES.get(code, 'unknown reason')} (0x{code:02x})"


def explain_code(code: int, reason_string: str = "") -> str:
    """Name a reason code of the broker, with its own text and the next step, if any."""
    return _join(reason_name(code), reason_string, _NEXT_STEPS.get(code, ""))


def explain_error(error: BaseException) -> str:
    """Explain an error of the socket, the resolver or TLS."""
    match error:
        case ssl.SSLError():
            return _explain_tls(error)
        case socket.gaierror() | UnicodeError():
            return f"can't resolve the host name ({_text(error)}): check the name, and DNS"
        case OSError() if _is_refused(error):
            return "connection refused: is the broker running, and is this its port?"
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError():
            return "connection reset by the peer"
        case TimeoutError():
            return "timed out: is the address right, and does a firewall allow the connection?"
        case _:
            return _text(error)


def _explain_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        step = _VERIFY_STEPS.get(error.verify_code, "")
        return _join("the broker's certificate does not verify", error.verify_message, step)
    reason = error.reason or ""
    return _join("TLS failed", reason.lower().replace("_", " ") or str(error), _TLS_STEPS.get(reason, ""))


def _is_refused(error: OSError) -> bool:
    # asyncio merges the failures of several addresses (::1, 127.0.0.1) into one OSError that has only their text.
    return error.errno == errno.ECONNREFUSED or f"[Errno {errno.ECONNREFUSED}]" in str(error)


def _text(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _join(*parts: str) -> str:
    return ": ".join(part for part in parts if part)
