"""Benchmarks: what the system does, beside what this machine could do at all, measured in the same run."""
