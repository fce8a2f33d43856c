"""The names in an access control list of the broker. Pure. `broker.acl` generates the list; the authority reserves its names."""

from typing import Final

FILE: Final = "/etc/mosquitto/stockworker/acl"
"""Where `stockworker broker setup` installs it."""

REMOVED: Final = "removed"
"""The role of a name that was listed before: it has no rights, not even those of a worker."""


def users_of(text: str) -> dict[str, str]:
    """The user names in an access control list, each with its role.

    The role is the comment above the line, as `broker.acl` writes it; empty if the list was written by hand.
    """
    users: dict[str, str] = {}
    above = ""
    for line in map(str.strip, text.splitlines()):
        keyword, _, name = line.partition(" ")
        if keyword == "user":
            users[name.strip()] = above
        above = line.removeprefix("#").strip() if line.startswith("#") else ""
    return users
