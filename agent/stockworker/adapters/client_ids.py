"""MQTT client IDs that no other client can take. A module of its own, because it needs no slow import."""

import hashlib
import hmac


def private_client_id(name: str, key_pem: bytes) -> str:
    """Derive the MQTT client ID of a service from its private key: `<name>-<16 hex digits>`.

    A client that connects with the client ID of another one disconnects that one (MQTT 5.0, section 3.1.4). Only the owner
    of the key can compute this ID, so other clients, even with a valid certificate, can't do that. Two processes with the
    same identity still disconnect each other, and notice it.
    """
    proof = hmac.new(key_pem.strip(), b"stockworker MQTT client id", hashlib.sha256)
    return f"{name}-{proof.hexdigest()[:16]}"
