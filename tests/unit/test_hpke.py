"""HPKE: the known answers of RFC 9180, and interoperability with other implementations."""

import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from pyhpke import KEMKey, KEMKeyPair

from stockworker.sealing import hpke
from tests.harness.seals import opening_key

INFO = b"what the key is for"


@pytest.fixture(scope="module")
def vector() -> Any:
    return json.loads((Path(__file__).parents[1] / "vectors" / "hpke-rfc9180.json").read_text(encoding="utf-8"))


def private(vector: Any, name: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(vector[name]))


def sender(vector: Any) -> Any:
    recipient = KEMKey.from_pyca_cryptography_key(private(vector, "skRm").public_key())
    ours = private(vector, "skEm")
    pair = KEMKeyPair(KEMKey.from_pyca_cryptography_key(ours), KEMKey.from_pyca_cryptography_key(ours.public_key()))
    return hpke.suite().create_sender_context(recipient, bytes.fromhex(vector["info"]), eks=pair)


def recipient(vector: Any) -> Any:
    key = KEMKey.from_pyca_cryptography_key(private(vector, "skRm"))
    return hpke.suite().create_recipient_context(bytes.fromhex(vector["enc"]), key, bytes.fromhex(vector["info"]))


def test_the_known_answer_is_of_our_suite(vector: Any) -> None:
    ids = [hpke.suite().kem.id.value, hpke.suite().kdf.id.value, hpke.suite().aead.id.value]
    assert ids == [vector["kem_id"], vector["kdf_id"], vector["aead_id"]]


def test_known_exports(vector: Any) -> None:
    encapsulation, context = sender(vector)
    assert encapsulation.hex() == vector["enc"]
    for export in vector["exports"]:
        exporter_context = bytes.fromhex(export["exporter_context"])
        for side in (context, recipient(vector)):
            assert side.export(exporter_context, export["L"]).hex() == export["exported_value"]


def test_known_encryptions(vector: Any) -> None:
    _, context = sender(vector)
    sent = [context.seal(bytes.fromhex(vector["encryptions"][0]["pt"]), f"Count-{n}".encode()) for n in range(257)]
    for encryption in vector["encryptions"]:
        assert sent[encryption["sequence"]].hex() == encryption["ct"]


def test_what_we_agree_on_is_the_export_of_the_known_answer(vector: Any) -> None:
    public, info = bytes.fromhex(vector["pkRm"]), bytes.fromhex(vector["info"])
    encapsulation, key = hpke.agree(public, info, private(vector, "skEm"))

    assert encapsulation.hex() == vector["enc"]
    assert key == labeled_expand(bytes.fromhex(vector["exporter_secret"]), b"sec", hpke.EXPORTER_CONTEXT)
    assert key == hpke.derive(private(vector, "skRm"), encapsulation, info)


def test_both_sides_come_to_a_key_that_nobody_else_has() -> None:
    ours, other = opening_key(), opening_key()
    encapsulation, key = hpke.agree(ours.public, INFO)

    assert hpke.derive(ours.private, encapsulation, INFO) == key
    assert hpke.derive(ours.private, encapsulation, INFO + b"!") != key
    assert hpke.derive(other.private, encapsulation, INFO) != key
    assert hpke.agree(ours.public, INFO)[1] != key


def test_an_encapsulation_of_small_order_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        hpke.derive(opening_key().private, bytes(32), INFO)


# --- RFC 9180, written out once more: with nothing in common with the library but the curve ----------------------------

_KEM_SUITE = b"KEM" + struct.pack(">H", 0x0020)
_HPKE_SUITE = b"HPKE" + struct.pack(">HHH", 0x0020, 0x0001, 0x0002)


def labeled_extract(salt: bytes, label: bytes, material: bytes, suite: bytes = _HPKE_SUITE) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, hashlib.sha256)


def labeled_expand(secret: bytes, label: bytes, info: bytes, suite: bytes = _HPKE_SUITE) -> bytes:
    """32 bytes: one block of HKDF-Expand."""
    labeled = struct.pack(">H", 32) + b"HPKE-v1" + suite + label + info
    return hmac.digest(secret, labeled + b"\x01", hashlib.sha256)


def written_out(ours: X25519PrivateKey, encapsulation: bytes, public: bytes, info: bytes) -> bytes:
    shared = ours.exchange(X25519PublicKey.from_public_bytes(encapsulation))
    extracted = labeled_extract(b"", b"eae_prk", shared, _KEM_SUITE)
    shared_secret = labeled_expand(extracted, b"shared_secret", encapsulation + public, _KEM_SUITE)
    context = b"\x00" + labeled_extract(b"", b"psk_id_hash", b"") + labeled_extract(b"", b"info_hash", info)
    secret = labeled_extract(shared_secret, b"secret", b"")
    return labeled_expand(labeled_expand(secret, b"exp", context), b"sec", hpke.EXPORTER_CONTEXT)


def test_the_rfc_written_out_comes_to_the_same_key() -> None:
    for _ in range(20):
        ours = opening_key()
        encapsulation, key = hpke.agree(ours.public, INFO)
        assert written_out(ours.private, encapsulation, ours.public, INFO) == key


# --- cryptography's own HPKE, where it has one --------------------------------------------------------------------------


def native_suite() -> Any:
    """Since version 47 or so; the distributions' are older, and then the sides are the library's own."""
    try:
        from cryptography.hazmat.primitives import hpke as native  # noqa: PLC0415 (not everywhere)
    except ImportError:
        return None
    return native.Suite(native.KEM.X25519, native.KDF.HKDF_SHA256, native.AEAD.AES_256_GCM)


def seal_once(public: X25519PublicKey) -> bytes:
    """Seal with another implementation, if one is installed."""
    native = native_suite()
    if native is not None:
        return bytes(native.encrypt(b"text", public, INFO))
    enc, context = hpke.suite().create_sender_context(KEMKey.from_pyca_cryptography_key(public), INFO)
    return enc + context.seal(b"text")


def open_once(sealed: bytes, key: X25519PrivateKey) -> bytes:
    """Open with another implementation, if one is installed."""
    native = native_suite()
    if native is not None:
        return bytes(native.decrypt(sealed, key, INFO))
    ours = KEMKey.from_pyca_cryptography_key(key)
    return hpke.suite().create_recipient_context(sealed[:32], ours, INFO).open(sealed[32:])


def test_the_native_implementation_and_the_library_understand_each_other() -> None:
    key = opening_key().private
    ours = KEMKey.from_pyca_cryptography_key(key)
    sealed = seal_once(key.public_key())
    enc, context = hpke.suite().create_sender_context(KEMKey.from_pyca_cryptography_key(key.public_key()), INFO)

    assert hpke.suite().create_recipient_context(sealed[:32], ours, INFO).open(sealed[32:]) == b"text"
    assert open_once(enc + context.seal(b"text"), key) == b"text"
