"""Diagnosis of a host: facts are read by `probes`, and judged by pure modules. `cli.doctor` is the command."""
