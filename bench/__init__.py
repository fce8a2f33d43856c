"""Benchmarks: the speed of the system beside the limits of this machine, measured in the same run."""
