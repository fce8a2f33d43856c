"""Recorded sealed strings of each version can always be opened, and have the format of the protocol."""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stockworker.errors import SealRefused
from stockworker.protocol.ids import ClientId, JobId, JobType, WorkerId
from stockworker.sealing import hpke, keyring
from stockworker.sealing.envelope import SealKind, join, read_answer, read_job
from stockworker.sealing.keyring import Keyring, key_id
from stockworker.sealing.keys import KeyFile, SigningKey
from stockworker.sealing.submitter_seal import SubmitterSeal
from stockworker.sealing.worker_seal import WorkerSeal
from tests.harness.seals import opening_key, sent_of

VECTORS: dict[int, dict[str, Any]] = {
    version: json.loads((Path(__file__).parents[1] / "vectors" / f"sealed-{version}.json").read_text(encoding="utf-8"))
    for version in (1, 2)
}
(NOW,) = {float(vector["now"]) for vector in VECTORS.values()}
SIGNERS = {"job": "desk-1", "result": "edge-7-1", "error": "edge-7-1", "output": "edge-7-1"}
RECIPIENTS = {"job": "prices", "result": "desk-1", "error": "desk-1", "output": "desk-1"}
RECORDED = [(version, kind) for version, vector in VECTORS.items() for kind in SIGNERS if kind in vector]
VERSIONS = pytest.mark.parametrize("version", VECTORS)


def signing(name: str) -> SigningKey:
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS[1]["private"][f"{name} ed25519"]))
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return SigningKey(key_id(public), public, private)


def x25519(version: int, name: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS[version]["private"][name]))


@pytest.fixture(scope="module")
def ring() -> Keyring:
    return keyring.parse("\n".join(VECTORS[2]["keyring"]), "keyring")


@pytest.fixture(scope="module")
def worker(ring: Keyring) -> WorkerSeal:
    prices = KeyFile(Path("group"), (), (opening_key(x25519(2, "prices x25519")),))
    own = KeyFile(Path("own"), (signing("edge-7-1"),), ())
    return WorkerSeal(WorkerId("edge-7-1"), ring, [prices], own, required=True, sign=True)


def submitter(ring: Keyring, unproven_until: float | None = None) -> SubmitterSeal:
    own = KeyFile(Path("own"), (signing("desk-1"),), (opening_key(x25519(2, "desk-1 x25519")),))
    return SubmitterSeal(ClientId("desk-1"), ring, own, sign=True, valid_for_s=3600.0, unproven_until=unproven_until)


@VERSIONS
def test_a_recorded_job_is_opened_and_answered_in_its_version(version: int, ring: Keyring, worker: WorkerSeal) -> None:
    job = VECTORS[version]["job"]
    opened = worker.open_job(job["sealed"], JobId("job-1"), JobType("price_update"), NOW)
    answer = worker.seal_answer(SealKind.RESULT, "1", opened, 1, NOW)

    assert opened.payload == job["plain"]
    assert read_answer(answer).version == version
    assert submitter(ring, NOW).open_result(answer, JobId("job-1"), NOW, None) == "1"


@VERSIONS
def test_recorded_answers_are_opened(version: int, ring: Keyring) -> None:
    result, error = VECTORS[version]["result"], VECTORS[version]["error"]
    desk = submitter(ring, unproven_until=NOW)
    assert desk.open_result(result["sealed"], JobId("job-1"), NOW, None) == result["plain"]
    assert desk.open_error(error["sealed"], JobId("job-1"), NOW, None) == error["plain"]


def test_recorded_answers_belong_to_the_recorded_job(ring: Keyring) -> None:
    sent = sent_of(VECTORS[2]["job"]["sealed"])
    result, error = VECTORS[2]["result"], VECTORS[2]["error"]
    assert submitter(ring).open_result(result["sealed"], JobId("job-1"), NOW, sent) == result["plain"]
    assert submitter(ring).open_error(error["sealed"], JobId("job-1"), NOW, sent) == error["plain"]
    output = VECTORS[2]["output"]
    assert submitter(ring).open_output(output["sealed"], JobId("job-1"), 1, NOW, sent) == output["plain"]


def test_version_1_is_accepted_until_the_configured_time_and_never_for_a_job_that_is_remembered(ring: Keyring) -> None:
    """A worker of another group can make an answer of version 1 to a job of version 2, but only the former is at risk."""
    old, sent = VECTORS[1]["result"]["sealed"], sent_of(VECTORS[2]["job"]["sealed"])

    def refusal(unproven_until: float | None, *, remembered: bool) -> str:
        with pytest.raises(SealRefused) as refused:
            submitter(ring, unproven_until).open_result(old, JobId("job-1"), NOW, sent if remembered else None)
        return f"{refused.value.reason}: {refused.value}"

    text = "unproven: version 1 does not prove that worker edge-7-1 could open the job"
    remedy = "For results of jobs from before the upgrade, set encryption.accept_unproven_until"
    assert refusal(None, remembered=False) == f"{text}. {remedy}"
    assert refusal(NOW - 1, remembered=False) == f"{text}. {remedy} (it is 2026-09-21T14:13:19Z)"
    assert refusal(None, remembered=True) == refusal(NOW, remembered=True) == text


@pytest.mark.parametrize(("version", "kind"), RECORDED)
def test_it_is_made_of_what_the_protocol_says(version: int, kind: str) -> None:
    vector = VECTORS[version][kind]
    info, nonce, header = bytes.fromhex(vector["info"]), bytes.fromhex(vector["nonce"]), vector["header"].encode()
    recipient = x25519(version, f"{RECIPIENTS[kind]} x25519").public_key()
    encapsulation, key = hpke.agree(raw(recipient), info, x25519(version, f"{kind} ephemeral"))
    cipher = AESGCM(bytes.fromhex(vector.get("answer_key", key.hex())))
    plain = bytes.fromhex(vector.get("token", "")) + vector["plain"].encode()
    ciphertext = cipher.encrypt(nonce, plain, header)
    signature = signing(SIGNERS[kind]).private.sign(bytes.fromhex(vector["signed"]))

    assert (encapsulation.hex(), key.hex()) == (vector["enc"], vector["key"])
    assert (ciphertext.hex(), signature.hex()) == (vector["ciphertext"], vector["signature"])
    assert join(version, header, ciphertext, signature) == vector["sealed"]
    envelope = read_job(vector["sealed"]) if kind == "job" else read_answer(vector["sealed"])
    assert envelope.signed.hex() == vector["signed"]


def test_the_proof_is_made_of_what_the_protocol_says() -> None:
    """Written out once more, with nothing in common with the product but HMAC."""
    job, result = VECTORS[2]["job"], VECTORS[2]["result"]

    def mac(key: bytes, *parts: bytes) -> bytes:
        return hmac.digest(key, b"".join(parts), hashlib.sha256)

    private = bytes.fromhex(VECTORS[2]["private"]["desk-1 x25519"])
    root = mac(b"stockworker sealed 2 root", private)
    mark = mac(root, b"mark\0job-1\0price_update\0", job["plain"].encode())[:16]
    of = hashlib.sha256(job["header"].encode()).digest()[:16]
    token = mac(root, b"token\0job-1\0price_update\0prices\0", mark, of)

    assert [each.hex() for each in (root, mark, of, token)] == [job[name] for name in ("root", "mark", "of", "token")]
    for kind in ("result", "error", "output"):
        answer = VECTORS[2][kind]
        session = bytes.fromhex(answer["key"])
        assert mac(token, b"stockworker sealed 2 answer\0", session).hex() == answer["answer_key"]
    header = read_answer(result["sealed"]).header
    assert (header.mark, header.of, header.group) == (mark, of, "prices")


def raw(public: X25519PublicKey) -> bytes:
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
