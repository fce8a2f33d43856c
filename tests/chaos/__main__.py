"""``make chaos``: the storm with all its jobs and faults."""

import argparse
import os
import tempfile
from pathlib import Path
from random import SystemRandom

from tests.chaos.storm import storm


def main() -> None:
    """Run the storm."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--faults", type=int, default=500)
    arguments = parser.parse_args()
    seed = int(os.environ.get("STOCKWORKER_SEED") or SystemRandom().getrandbits(32))
    print(f"STOCKWORKER_SEED={seed}", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        storm(Path(folder), seed, arguments.jobs, arguments.faults)


if __name__ == "__main__":
    main()
