"""The README of each role of the Ansible collection, from its argument specification."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROLES: Final = Path(__file__).resolve().parents[2] / "ansible" / "roles"


def names() -> list[str]:
    """The names of all roles."""
    return sorted(folder.name for folder in ROLES.iterdir())


def specification(role: str) -> dict[str, Any]:
    """The entry points of a role, from its `meta/argument_specs.yml`."""
    found: dict[str, Any] = yaml.safe_load((ROLES / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    return dict(found["argument_specs"])


def readme(role: str) -> str:
    """The README of a role: a table of variables for each entry point."""
    lines = [f"# stockworker.edge.{role}", ""]
    for entry, found in specification(role).items():
        if entry != "main":
            lines += [f"## tasks_from: {entry}", ""]
        lines += [f"{found['short_description']}.", ""]
        rows = list(_rows(found.get("options", {})))
        if rows:
            lines += ["| Variable | Type | Default | Meaning |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _rows(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, option in options.items():
        kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
        if option.get("required"):
            default = "required"
        elif "default" in option:
            default = f"`{json.dumps(option['default'])}`" if option["default"] != "" else "empty"
        else:
            default = ""
        meaning = option["description"].strip()
        if "choices" in option:
            meaning += f" One of {', '.join(f'`{each}`' for each in option['choices'])}."
        if option.get("no_log"):
            meaning += " Secret: it is never logged."
        yield f"| `{prefix}{name}` | {kind} | {default} | {meaning} |"
        yield from _rows(option.get("options", {}), f"{prefix}{name}[].")
