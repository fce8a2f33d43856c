"""Real parts for tests, the demo and the benchmarks: broker, services, databases."""

import os

# Some systems let the group of a user write all new files (umask 002). The programs refuse such configurations and keys.
os.umask(0o022)
