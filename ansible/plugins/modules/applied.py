"""Make a running unit of systemd read its files again, if one of them is newer than what it has read."""

# An Ansible handler runs only in the run that changed a file. If that run ends before the handler, nothing ever applies the
# change. This module compares times, so the next run applies it.

from datetime import datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: applied
short_description: Make a running service read files that are newer than its last start or reload
description:
  - Restarts or reloads a unit that runs, if one of its files has changed since it last read them.
  - A stopped unit stays stopped. It reads its files when it starts.
author: The stockworker maintainers
options:
  unit:
    description: Name of the unit.
    type: str
    required: true
  files:
    description: Files that it reads. Those that do not exist are ignored.
    type: list
    elements: path
    required: true
  by:
    description: How the unit reads them.
    type: str
    required: true
    choices: [restart, reload]
"""

EXAMPLES = r"""
- name: Make the dispatcher read its configuration
  stockworker.edge.applied:
    unit: stockworker-dispatcher
    files: [/etc/stockworker/job_processor.d/50-dispatcher.yml]
    by: restart
"""

RETURN = r"""
newer:
  description: The files that the unit has not read before.
  returned: always
  type: list
  elements: str
"""

_STARTED = ("ExecMainStartTimestamp", "ActiveEnterTimestamp")
_CHANGED = "StateChangeTimestamp"
"""A reload is a change of the state: systemd has no other time of it."""


def _seconds(shown: str) -> float:
    """A time of systemd, as `--timestamp=us+utc` shows it, in seconds since 1970; 0 for none."""
    try:
        return datetime.strptime(shown.replace("UTC", "+0000"), "%a %Y-%m-%d %H:%M:%S.%f %z").timestamp()
    except ValueError:
        return 0.0


def _changed_at(file: str) -> float:
    """When a file got its content or its place; 0 if it does not exist."""
    try:
        return Path(file).stat().st_ctime
    except OSError:
        return 0.0


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "path", "required": True},
            "by": {"type": "str", "required": True, "choices": ["restart", "reload"]},
        },
        supports_check_mode=True,
    )
    unit, by = module.params["unit"], module.params["by"]
    wanted = ",".join(("ActiveState", *_STARTED, _CHANGED))
    show = ["systemctl", "show", "--timestamp=us+utc", f"--property={wanted}", unit]
    _, said, _ = module.run_command(show, check_rc=True)
    shown = dict(line.partition("=")[::2] for line in said.splitlines())
    read_at = next((found for found in (_seconds(shown.get(name, "")) for name in _STARTED) if found), 0.0)
    if by == "reload":
        read_at = max(read_at, _seconds(shown.get(_CHANGED, "")))
    newer = [file for file in module.params["files"] if _changed_at(file) > read_at]
    due = shown.get("ActiveState") == "active" and bool(newer)
    if due and not module.check_mode:
        module.run_command(["systemctl", by, unit], check_rc=True)
    module.exit_json(changed=due, newer=newer)


if __name__ == "__main__":
    main()
