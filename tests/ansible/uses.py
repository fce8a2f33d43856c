"""All playbooks, with the arguments that docs/fleet.md shows."""

from dataclasses import dataclass
from typing import Final

from tests.harness import releases


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a playbook.

    Attributes:
        playbook: its name.
        options: its arguments.
        settles: a second run changes nothing. Otherwise, each run makes something new, such as keys.
    """

    playbook: str
    options: tuple[str, ...] = ()
    settles: bool = True


LIFE: Final = (
    Use("site"),
    Use("add_machines", ("--limit", "edge-3")),
    Use("status"),
    Use("backup", settles=False),
    Use("drain", ("--limit", "edge-2")),
    Use("undrain", ("--limit", "edge-2")),
    Use("rollout", ("-e", f"repo_version={releases.GOOD.version}")),
    Use("rollback", ("-e", f"rollback_from={releases.GOOD.version}")),
    Use("rotate_certificates", settles=False),
    Use("rotate_keys", settles=False),
    Use("revoke", ("-e", '{"revoke_names": ["edge-2-1"]}')),
    Use("readmit", ("--limit", "edge-2"), settles=False),
    Use("remove_machine", ("-e", "remove_name=edge-3")),
)
"""All playbooks, in an order in which a fleet can use them."""
