"""Moves waiting jobs from an old queue to the dispatcher, and back.

`source` is the port of an old queue, and explains how to write one. `mapping` is how its records become jobs, `mapping_file`
reads that from YAML, and `decoding` applies it. `run` moves jobs, and explains why a crash at any point is harmless.
"""
