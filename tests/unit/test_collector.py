"""Full collections look only at what is new since the last one."""

import subprocess
import sys

CHECK = """
import gc
from stockworker.adapters.collector import keep_pauses_short

def tracked():
    return sum(map(len, map(gc.get_objects, range(3))))

keep_pauses_short()
assert tracked() < 1_000, tracked()
jobs = [[] for _ in range(100_000)]
gc.collect()
assert tracked() < 1_000, tracked()
before = gc.get_freeze_count()
assert before > 100_000
jobs.clear()
assert gc.get_freeze_count() <= before - 100_000  # freed without a collection
cycle = []
cycle.append(cycle)
del cycle
assert gc.collect() >= 1  # new garbage is found
"""


def test_a_full_collection_looks_only_at_what_is_new() -> None:
    """In a process of its own, whose garbage this test may leave alone."""
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
