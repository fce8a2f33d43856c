"""This product: the submitting process, with the configuration of a client."""

import sys
from collections.abc import Sequence
from typing import Any

from bench.apps.driving import Payload, Queue, drive
from bench.apps.product_jobs import TYPE
from stockworker.client import Client, make_submission
from stockworker.protocol.messages import ReceiptStatus

_TIMEOUT_S = 300.0


class ProductQueue(Queue):
    """A client; its library reconnects and repeats requests by itself."""

    def __init__(self, config: str) -> None:
        self._client = Client.from_config(config, timeout_s=_TIMEOUT_S)

    async def open(self) -> None:
        await self._client.__aenter__()

    async def submit(self, payload: Payload) -> Any:
        return await self._client.submit(TYPE, payload)

    async def submit_many(self, payloads: Sequence[Payload], *, urgent: bool = False) -> None:
        priority = "high" if urgent else "normal"
        # With an ID of its own, a job that is submitted again after an error is the same job.
        jobs = [make_submission(TYPE, each, priority=priority, id=f"n{each['n']}") for each in payloads]
        if any(receipt.status is ReceiptStatus.REJECTED for receipt in await self._client.submit_many(jobs)):
            raise AssertionError("not every job was stored")

    async def result(self, handle: Any) -> None:
        await self._client.result(handle, _TIMEOUT_S)

    async def close(self) -> None:
        await self._client.__aexit__(None, None, None)


if __name__ == "__main__":
    drive(lambda: ProductQueue(sys.argv[1]))
