"""Publishes packages in signed repositories for apt and dnf: `make repo`."""
