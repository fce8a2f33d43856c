"""The Python API: submit jobs, wait for results, query and control them.

::

    async with Client.from_config() as client:
        job_id = await client.submit("technical_analysis", {"symbol": "AAPL"})
        print(await client.result(job_id))

Once `submit` has returned a job's ID, the job is on the dispatcher's disk. Every request is repeated until it is answered,
so a restart of the broker or the dispatcher only costs time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stockworker.client.api import Client
    from stockworker.client.completions import Completion
    from stockworker.client.output import Output
    from stockworker.client.settings import client_name, link_settings, own_service
    from stockworker.client.submission import make_submission

__all__ = ["Client", "Completion", "Output", "client_name", "link_settings", "make_submission", "own_service"]

_MODULES: Final = {
    "Client": "api",
    "Completion": "completions",
    "Output": "output",
    "client_name": "settings",
    "link_settings": "settings",
    "make_submission": "submission",
    "own_service": "settings",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: a service needs only the settings of a connection, not the client."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return found
