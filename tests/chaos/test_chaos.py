"""Through all faults, each job with a receipt ends once, with one result. `make chaos` is the same at full size.

All random choices follow from one seed, which is printed. Set STOCKWORKER_SEED to repeat them.
"""

import os
from pathlib import Path
from random import SystemRandom
from typing import Final

import pytest

from tests.chaos.faults import KINDS
from tests.chaos.storm import storm

JOBS: Final = 5_000
FAULTS: Final = 40


@pytest.mark.timeout(300)
def test_every_receipt_is_kept_and_no_result_is_accepted_twice(tmp_path: Path) -> None:
    seed = int(os.environ.get("STOCKWORKER_SEED") or SystemRandom().getrandbits(32))
    print(f"STOCKWORKER_SEED={seed}")  # noqa: T201
    findings = storm(tmp_path, seed, JOBS, FAULTS)
    happened = findings.performed + findings.left_out
    assert happened.total() == FAULTS
    assert happened.keys() == {(kind, role) for role, kinds in KINDS.items() for kind in kinds}
