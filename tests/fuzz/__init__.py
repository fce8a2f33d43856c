"""Mutated inputs for every parser of untrusted bytes."""
