"""The error that ends a publication before clients see any part of it."""


class Refused(Exception):
    """The publication would harm clients, or is not possible. The text names the remedy."""
