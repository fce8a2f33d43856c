"""MQTT client ids that nobody else can take. Apart from the certificates, because it needs no slow import."""

import hashlib
import hmac


def private_client_id(name: str, key_pem: bytes) -> str:
    """Derive the MQTT client id of a service from its private key: `<name>-<16 hex digits>`.

    A broker lets whoever connects with a client id throw out the session that has it (MQTT 5.0, section 3.1.4). An id
    that only the holder of the key can compute keeps everybody else, valid certificate or not, from doing so; two
    processes with one identity still meet, and find out.
    """
    proof = hmac.new(key_pem.strip(), b"stockworker MQTT client id", hashlib.sha256)
    return f"{name}-{proof.hexdigest()[:16]}"
