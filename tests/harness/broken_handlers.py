"""A module of handlers that can't be imported."""

raise RuntimeError("a library is missing here")
