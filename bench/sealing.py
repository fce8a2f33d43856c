"""``make bench-sealing``: the cost of sealing, signing, verifying and opening a job, beside its other costs.

The steps run in this process and thread, in alternating rounds; the result is the median of their processor time. Then
sealed and plain jobs alternate in a whole fleet, and the processor time of each service is compared.
"""

import argparse
import asyncio
import hashlib
import io
import json
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from statistics import median

from bench.figures import cpu_s, show
from stockworker.client import make_submission
from stockworker.protocol import codec
from stockworker.protocol.ids import ClientId, JobId, JobType, Token, WorkerId
from stockworker.protocol.messages import Assign, Assignment, Reply, Submit
from stockworker.sealing import hpke
from stockworker.sealing.envelope import SealKind, read_job
from stockworker.sealing.keyring import Holder, Keyring
from stockworker.sealing.keys import KeyFile
from tests.harness.fleet import Fleet
from tests.harness.fleet_keys import FleetKeys
from tests.harness.seals import (
    DESK,
    EDGE,
    JOB,
    NOW,
    PRICE_UPDATE,
    PRICES,
    Parties,
    identity,
    line,
    opening_key,
    sent_of,
    signing_key,
)

BATCH = 64
_TYPE = JobType("price_update")
_HANDLERS = str(Path(__file__).resolve().parent)
Run = Callable[[], object]


def timed(runs: dict[str, Run], rounds: int, repeats: int) -> dict[str, float]:
    """The median of the rounds of each step, in microseconds."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.process_time()
            for _ in range(repeats):
                run()
            samples[name].append((time.process_time() - began) / repeats * 1e6)
    return {name: median(values) for name, values in samples.items()}


def travel(payload: str) -> None:
    """The cost of every job: it is encoded and decoded on its way to the dispatcher and to the worker."""
    submission = make_submission(_TYPE, text=payload, id=JOB)
    codec.decode(codec.encode(Submit((submission,), Reply(ClientId(DESK), "1"))))
    assignment = Assignment(JobId(JOB), _TYPE, 1, Token("t"), 60.0, payload)
    codec.decode(codec.encode(Assign(WorkerId(EDGE), 30.0, (assignment,))))


def sides(parties: Parties, *, sign: bool) -> dict[str, Run]:
    """The four steps of one job, within existing sessions."""
    submitter, worker = parties.submitter(sign=sign), parties.worker(sign=sign)
    job = make_submission(_TYPE, PAYLOAD, id=JOB)
    sealed = submitter.seal_job(job, JOB, NOW).text
    opened = worker.open_job(sealed, JOB, PRICE_UPDATE, NOW)
    result = worker.seal_answer(SealKind.RESULT, RESULT, opened, 1, NOW)
    sent = sent_of(sealed)
    return {
        "client seals the payload": lambda: submitter.seal_job(job, JOB, NOW).text,
        "worker opens it": lambda: worker.open_job(sealed, JOB, PRICE_UPDATE, NOW),
        "worker seals the result": lambda: worker.seal_answer(SealKind.RESULT, RESULT, opened, 1, NOW),
        "client opens it": lambda: submitter.open_result(result, JOB, NOW, sent),
    }


PAYLOAD = {"symbols": ["AAPL", "MSFT", "GOOG"], "since": "2026-01-01", "source": "primary", "note": "x" * 100}
RESULT = json.dumps({"updated": 3, "bars": [[1.0, 2.0, 0.5, 1.5, 1000]] * 5})


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """The levels of a Merkle tree over a power of two of leaves."""
    level = [hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [hashlib.sha256(b"\1" + left + right).digest() for left, right in pairs]
    return level[0]


def tree_path(leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root computed from a leaf and its siblings."""
    node = hashlib.sha256(b"\0" + leaf).digest()
    for sibling in path:
        node = hashlib.sha256(b"\1" + node + sibling).digest()
    return node


def signatures(rounds: int) -> None:
    """One signature per job, beside one per batch in which each job carries its path to the root."""
    key = signing_key()
    public = key.private.public_key()
    sealed = Parties().submitter()
    job = make_submission(_TYPE, PAYLOAD, id=JOB)
    texts = [sealed.seal_job(job, JOB, NOW).text for _ in range(BATCH)]
    leaves = [read_job(text).signed for text in texts]
    path = [hashlib.sha256(bytes([depth])).digest() for depth in range(6)]
    single, whole = key.private.sign(leaves[0]), key.private.sign(tree_root(leaves))
    root = tree_root(leaves)
    costs = timed(
        {
            "sign": lambda: key.private.sign(leaves[0]),
            "verify": lambda: public.verify(single, leaves[0]),
            "tree and one signature": lambda: key.private.sign(tree_root(leaves)),
            "path": lambda: tree_path(leaves[0], path),
            "verify the root": lambda: public.verify(whole, root),
        },
        rounds,
        50,
    )
    sign_batch = costs["tree and one signature"] / BATCH
    verify_alone = costs["path"] + costs["verify the root"]
    verify_batch = costs["path"] + costs["verify the root"] / BATCH
    path_bytes = len(path) * 32 * 4 // 3
    show(
        f"Signatures, per job: one each, or one for a batch of {BATCH}",
        [
            (
                "sign",
                f"{costs['sign']:6.1f} µs, in a batch {sign_batch:5.1f} µs ({costs['sign'] / sign_batch:.1f} to 1)",
            ),
            ("verify", f"{costs['verify']:6.1f} µs, in a batch {verify_batch:5.1f} µs if one worker gets all of it"),
            ("", f"{'':6}     in a batch {verify_alone:5.1f} µs if it gets one job of it"),
            ("carried by each job", f"{86:6d} bytes, in a batch {86 + path_bytes} bytes"),
        ],
    )


def agreements(rounds: int) -> None:
    """The cost once per session, which would be paid for each job otherwise."""
    key = opening_key()
    encapsulation, _ = hpke.agree(key.public, b"info")
    costs = timed(
        {
            "agree": lambda: hpke.agree(key.public, b"info"),
            "derive": lambda: hpke.derive(key.private, encapsulation, b"info"),
        },
        rounds,
        10,
    )
    show(
        "Key agreement (HPKE), once per sender, recipient and hour",
        [("sender", f"{costs['agree']:6.1f} µs"), ("recipient", f"{costs['derive']:6.1f} µs")],
    )


def steps(rounds: int) -> None:
    """Each step of a sealed job, beside a plain one."""
    parties = Parties()
    plain = json.dumps(PAYLOAD)
    sealed = parties.submitter().seal_job(make_submission(_TYPE, PAYLOAD, id=JOB), JOB, NOW).text
    signed, unsigned = sides(parties, sign=True), sides(parties, sign=False)
    runs: dict[str, Run] = {"plain": lambda: travel(plain), "sealed": lambda: travel(sealed)}
    runs |= {f"signed {name}": run for name, run in signed.items()}
    runs |= {f"unsigned {name}": run for name, run in unsigned.items()}
    costs = timed(runs, rounds, 20)
    plain_us, sealed_us = costs["plain"], costs["sealed"]

    def beside(signed_us: float, unsigned_us: float) -> str:
        ratio, bare = signed_us / plain_us, unsigned_us / plain_us
        return f"{signed_us:6.1f} µs {ratio:5.1f}   unsigned {unsigned_us:6.1f} µs {bare:5.1f}"

    rows = [("plain: encoding and decoding on the way", f"{plain_us:6.1f} µs   1.0")]
    rows += [(name, beside(costs[f"signed {name}"], costs[f"unsigned {name}"])) for name in signed]
    total = costs["sealed"] + sum(costs[f"signed {name}"] for name in signed)
    bare = costs["sealed"] + sum(costs[f"unsigned {name}"] for name in signed)
    rows.append(("sealed: encoding and decoding on the way", f"{sealed_us:6.1f} µs {sealed_us / plain_us:5.1f}"))
    rows.append(("sealed: all of it", beside(total, bare)))
    rows.append(
        ("size of the payload", f"{len(plain)} bytes, sealed {len(sealed)}: {len(sealed) / len(plain):.1f} to 1")
    )
    show("One job of a batch, per step; the ratio is to a plain job's encoding and decoding", rows)


async def end_to_end(folder: Path, jobs: int, turns: int) -> None:
    """Sealed and plain jobs alternate, through the same services."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # hides the output of the commands
        fleet_keys = FleetKeys(folder / "fleet_keys", {"sealed": (["sealed"], ["host-1", "host-2"])}, required=False)
    handlers = {name: {"python": "handlers:nothing"} for name in ("sealed", "plain")}
    settings = {"worker": {"max_concurrent_jobs": 2, "handler_paths": [_HANDLERS]}, "handlers": handlers}
    spent: dict[str, Counter[str]] = {"sealed": Counter(), "plain": Counter()}
    with Fleet(folder / "fleet", settings=settings, personal=fleet_keys.settings) as fleet:
        services = [fleet.dispatcher, *fleet.workers]
        pids = {"client": os.getpid(), "broker": fleet.broker.pid, **{each.name: each.pid for each in services}}

        def used() -> Counter[str]:
            return Counter(
                {name: round(cpu_s(pid, with_children=name != "client") * 1e6) for name, pid in pids.items()}
            )

        async with fleet.client(timeout_s=120.0) as client:
            for turn in range(turns + 1):
                for kind, total in spent.items():
                    before = used()
                    receipts = await client.submit_many([make_submission(kind, PAYLOAD) for _ in range(jobs)])
                    async for ended in client.wait([str(receipt.job_id) for receipt in receipts], timeout_s=600):
                        if not ended.has_result:
                            raise AssertionError(ended)
                    if turn > 0:  # the first turn warms up
                        total.update({name: us - before[name] for name, us in used().items()})
    count = jobs * turns
    rows = [
        (name, f"{spent['sealed'][name] / count:6.0f} µs, plain {spent['plain'][name] / count:6.0f} µs")
        for name in pids
    ]
    sealed_us, plain_us = (spent[kind].total() / count for kind in ("sealed", "plain"))
    rows.append(("all", f"{sealed_us:6.0f} µs, plain {plain_us:6.0f} µs: {sealed_us / plain_us:.2f} to 1"))
    show(f"Processor time per job, {count} sealed (and signed) and {count} plain no-op jobs in turn", rows)


def large_keyrings(rounds: int) -> None:
    """A keyring of a fleet of 10,000."""
    parties = Parties()
    other = identity()
    many = [
        line(Holder.WORKER, f"edge-{number}", KeyFile(Path(), other.signing, other.opening)) for number in range(10_000)
    ]
    parties.lines = [*many, *parties.lines]
    ring = Keyring(parties.lines)
    now = timed(
        {
            "group": lambda: ring.group_for(_TYPE, NOW),
            "signer": lambda: ring.trusted(Holder.SUBMITTER, DESK, parties.desk.signing[0].id, NOW),
        },
        rounds,
        100,
    )
    show(
        f"Looking up keys among {len(parties.lines)} lines, {PRICES} being the group",
        [(name, f"{cost:6.2f} µs") for name, cost in now.items()],
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="make bench-sealing", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=31, help="how often each is measured")
    parser.add_argument("--jobs", type=int, default=500, help="jobs of each kind in a turn through the fleet")
    parser.add_argument("--turns", type=int, default=4, help="turns through the fleet")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    print(f"{platform.machine()}, Python {platform.python_version()}, medians of {rounds} rounds in turn")
    steps(rounds)
    signatures(rounds)
    agreements(rounds)
    large_keyrings(rounds)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(end_to_end(Path(folder), arguments.jobs, arguments.turns))


if __name__ == "__main__":
    main()
