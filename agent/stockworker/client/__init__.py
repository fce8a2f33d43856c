"""The Python API: submit jobs, wait for results, query and control them.

::

    async with Client.from_config() as client:
        job_id = await client.submit("technical_analysis", {"symbol": "AAPL"})
        print(await client.result(job_id))

Once `submit` has returned a job's ID, the job is on the dispatcher's disk. Every request is repeated until it is answered,
so a restart of the broker or the dispatcher only costs time.
"""

from stockworker.client.api import Client
from stockworker.client.completions import Completion
from stockworker.client.settings import client_name, link_settings, own_service
from stockworker.client.submission import make_submission

__all__ = ["Client", "Completion", "client_name", "link_settings", "make_submission", "own_service"]
