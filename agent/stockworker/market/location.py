"""What a location of market data means."""


def is_file(location: str) -> bool:
    """Whether the store at `location` is an SQLite file."""
    return not location.startswith(("postgresql://", "postgres://"))
