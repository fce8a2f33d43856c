"""The Python API: submit jobs, wait for results, ask, steer.

::

    async with Client.from_config() as client:
        job_id = await client.submit("technical_analysis", {"symbol": "AAPL"})
        print(await client.result(job_id))

A job whose id `submit` has returned is on the dispatcher's disk. Everything is repeated until it is answered, so that
a broker or dispatcher that restarts meanwhile costs time and nothing else.
"""

from stockworker.client.api import Client
from stockworker.client.completions import Ended
from stockworker.client.settings import client_name, link_settings
from stockworker.client.submission import make_submission

__all__ = ["Client", "Ended", "client_name", "link_settings", "make_submission"]
