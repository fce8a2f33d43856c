"""``make bench``: jobs per second and latency, end to end, beside the limits of the machine.

No-op jobs in child processes, over TLS. The dispatcher fsyncs every job before its receipt; the worker fsyncs it before it
starts, and its result before it is reported. Client, broker, dispatcher and workers share this machine.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import uvloop

from bench.ceilings import mqtt_ceilings, sqlite_commits
from bench.figures import cpu_s, memory, milliseconds, show
from stockworker.client import Client, make_submission
from stockworker.protocol.messages import ReceiptStatus
from tests.harness.broker import Broker
from tests.harness.fleet import Fleet


async def latency(client: Client, jobs: int) -> tuple[list[float], list[float]]:
    """Seconds from submit to receipt, and from submit to result: one job at a time on an idle system."""
    receipts, results = [], []
    for _ in range(jobs):
        began = time.perf_counter()
        job_id = await client.submit("nothing")
        receipts.append(time.perf_counter() - began)
        await client.result(job_id)
        results.append(time.perf_counter() - began)
    return receipts, results


async def throughput(client: Client, jobs: int) -> tuple[float, float]:
    """Receipts per second, and completed jobs per second, of jobs submitted together."""
    submissions = [make_submission("nothing", {"number": number}) for number in range(jobs)]
    began = time.perf_counter()
    receipts = await client.submit_many(submissions)
    submitted_s = time.perf_counter() - began
    if any(receipt.status is not ReceiptStatus.STORED for receipt in receipts):
        raise AssertionError("not every job was stored")
    async for ended in client.wait([str(receipt.job_id) for receipt in receipts], timeout_s=600):
        if ended.state != "completed":
            raise AssertionError(f"{ended.job_id} is {ended.state}: {ended.reason}")
    return jobs / submitted_s, jobs / (time.perf_counter() - began)


async def measure(fleet: Fleet, jobs: int, singles: int) -> None:
    """Measure the whole system."""
    services = [fleet.dispatcher, *fleet.workers]
    pids = {"broker": fleet.broker.pid, **{service.name: service.pid for service in services}, "client": os.getpid()}
    async with fleet.client(timeout_s=120.0) as client:
        await latency(client, 50)  # processes started, code warm
        receipts, results = await latency(client, singles)
        before = {name: cpu_s(pid, with_children=name != "client") for name, pid in pids.items()}
        stored, completed = await throughput(client, jobs)
        spent = {name: cpu_s(pid, with_children=name != "client") - before[name] for name, pid in pids.items()}
    show(
        f"End to end, {jobs} no-op jobs, {len(fleet.workers)} workers with 2 slots each",
        [
            ("jobs completed", f"{completed:,.0f} /s"),
            ("receipts (fsynced), while jobs run", f"{stored:,.0f} /s"),
            ("submit to receipt, idle", milliseconds(receipts)),
            ("submit to result, idle", milliseconds(results)),
        ],
    )
    show("Processor time per job", [(name, f"{seconds / jobs * 1e6:6.0f} µs") for name, seconds in spent.items()])
    show("Memory (PSS)", [(name, f"{memory(pid).pss:6.1f} MiB") for name, pid in pids.items()])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--singles", type=int, default=500)
    arguments = parser.parse_args()
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        with Broker(Path(folder) / "ceiling") as broker:
            rate, trips = uvloop.run(mqtt_ceilings(broker, 40_000))
        show(
            "This machine's ceilings",
            [
                ("SQLite, 1 row a commit", f"{sqlite_commits(1):,.0f} rows/s"),
                ("SQLite, 64 rows a commit", f"{sqlite_commits(64):,.0f} rows/s"),
                ("MQTT, TLS, one client to another", f"{rate:,.0f} messages/s"),
                ("MQTT, TLS, one way", milliseconds(trips)),
            ],
        )
        settings = {
            "handlers": {"nothing": {"python": "handlers:nothing"}},
            "worker": {"max_concurrent_jobs": 2, "handler_paths": [str(Path(__file__).parent)]},
        }
        with Fleet(Path(folder) / "fleet", workers=2, settings=settings) as fleet:
            uvloop.run(measure(fleet, arguments.jobs, arguments.singles))


if __name__ == "__main__":
    main()
