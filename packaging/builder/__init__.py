"""Builds the system packages: `make packages`."""
