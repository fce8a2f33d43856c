"""Recorded sealed strings can always be opened, and have the format of the protocol."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stockworker.protocol.ids import ClientId, JobId, JobType, WorkerId
from stockworker.sealing import hpke, keyring
from stockworker.sealing.envelope import digest, join, read_answer, read_job
from stockworker.sealing.keyring import Keyring, key_id
from stockworker.sealing.keys import KeyFile, SigningKey
from stockworker.sealing.submitter_seal import SubmitterSeal
from stockworker.sealing.worker_seal import WorkerSeal
from tests.harness.seals import opening_key

VECTOR: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "sealed-1.json").read_text(encoding="utf-8")
)
NOW = float(VECTOR["now"])
SIGNERS = {"job": "desk-1", "result": "edge-7-1", "error": "edge-7-1"}
RECIPIENTS = {"job": "prices", "result": "desk-1", "error": "desk-1"}


def signing(name: str) -> SigningKey:
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTOR["private"][f"{name} ed25519"]))
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return SigningKey(key_id(public), public, private)


def x25519(name: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(VECTOR["private"][name]))


@pytest.fixture(scope="module")
def ring() -> Keyring:
    return keyring.parse("\n".join(VECTOR["keyring"]), "keyring")


@pytest.fixture(scope="module")
def worker(ring: Keyring) -> WorkerSeal:
    prices = KeyFile(Path("group"), (), (opening_key(x25519("prices x25519")),))
    own = KeyFile(Path("own"), (signing("edge-7-1"),), ())
    return WorkerSeal(WorkerId("edge-7-1"), ring, [prices], own, required=True, sign=True)


@pytest.fixture(scope="module")
def submitter(ring: Keyring) -> SubmitterSeal:
    own = KeyFile(Path("own"), (signing("desk-1"),), (opening_key(x25519("desk-1 x25519")),))
    return SubmitterSeal(ClientId("desk-1"), ring, own, sign=True, valid_for_s=3600.0)


def test_a_recorded_job_is_opened(worker: WorkerSeal) -> None:
    opened = worker.open_job(VECTOR["job"]["sealed"], JobId("job-1"), JobType("price_update"), NOW)
    assert opened.payload == VECTOR["job"]["plain"]


def test_recorded_answers_are_opened(submitter: SubmitterSeal) -> None:
    of = digest(VECTOR["job"]["sealed"])
    result, error = VECTOR["result"], VECTOR["error"]
    assert submitter.open_result(result["sealed"], JobId("job-1"), NOW, of) == result["plain"]
    assert submitter.open_error(error["sealed"], JobId("job-1"), NOW, of) == error["plain"]


@pytest.mark.parametrize("kind", SIGNERS)
def test_it_is_made_of_what_the_protocol_says(kind: str) -> None:
    vector = VECTOR[kind]
    info, nonce, header = bytes.fromhex(vector["info"]), bytes.fromhex(vector["nonce"]), vector["header"].encode()
    recipient = x25519(f"{RECIPIENTS[kind]} x25519").public_key()
    encapsulation, key = hpke.agree(raw(recipient), info, x25519(f"{kind} ephemeral"))
    ciphertext = AESGCM(key).encrypt(nonce, vector["plain"].encode(), header)
    signature = signing(SIGNERS[kind]).private.sign(bytes.fromhex(vector["signed"]))

    assert (encapsulation.hex(), key.hex()) == (vector["enc"], vector["key"])
    assert (ciphertext.hex(), signature.hex()) == (vector["ciphertext"], vector["signature"])
    assert join(header, ciphertext, signature) == vector["sealed"]
    envelope = read_job(vector["sealed"]) if kind == "job" else read_answer(vector["sealed"])
    assert envelope.signed.hex() == vector["signed"]


def raw(public: X25519PublicKey) -> bytes:
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
