import errno
import socket
import ssl

import pytest

from stockworker.adapters.mqtt_reasons import explain_code, explain_error, reason_name


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"), "connection refused: is the broker"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 111] x"), "connection refused: is the"),
        (socket.gaierror(-2, "Name or service not known"), "can't resolve the host name (Name or service not known)"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "connection reset by the peer"),
        (TimeoutError(errno.ETIMEDOUT, "x"), "timed out: is the address right"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "Network is unreachable"),
        (tls_error("TLSV1_ALERT_UNKNOWN_CA"), "the broker does not trust the authority of the client certificate"),
        (tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "set cert_file and key_file"),
        (tls_error("SSLV3_ALERT_CERTIFICATE_EXPIRED"), "the client certificate has expired: renew it with"),
        (tls_error("A_NEW_ONE"), "TLS failed: a new one"),
        (EOFError(), "EOFError"),
    ],
)
def test_an_error_says_what_to_do(error: BaseException, words: str) -> None:
    assert words in explain_error(error)


def test_an_expired_certificate_of_the_broker_is_named() -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code, error.verify_message = 10, "certificate has expired"
    assert explain_error(error) == (
        "the broker's certificate does not verify: certificate has expired: "
        "renew the broker's certificate, or check the clock of this machine"
    )


def test_a_code_is_named_with_the_words_of_the_broker_and_the_next_step() -> None:
    assert reason_name(0x10) == "no matching subscribers (0x10)"
    assert reason_name(0xFE) == "unknown reason (0xfe)"
    assert explain_code(0x8E, "bye") == "session taken over (0x8e): bye: another connection uses the same client ID"
