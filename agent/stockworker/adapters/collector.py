"""The garbage collector of a process that keeps many objects for long."""

# A dispatcher keeps each live job in memory. A full collection looks at every object, which took 0.16 s with 100,000 jobs
# (Python 3.11) and grows with their number, and meanwhile nothing else runs. But an object that has survived one full
# collection is a job, code or a table, and is freed by its count of references, not as garbage. So each full collection
# leaves its survivors out of all later ones (`gc.freeze`), and has only to look at what is new.
#
# A cycle of objects that becomes garbage after that stays in memory. So what ends often must not leave cycles behind: see
# the test of connections that are lost again and again.

import gc
from typing import Any, Final

_FULL: Final = 2  # the oldest generation


def keep_pauses_short() -> None:
    """Leave what exists now out of all collections, and later what survives a full one."""
    gc.collect()
    gc.freeze()
    gc.callbacks.append(_after)


def _after(phase: str, collection: dict[str, Any]) -> None:
    if phase == "stop" and collection["generation"] == _FULL:
        gc.freeze()
