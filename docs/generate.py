"""Writes the documents that are generated from the code: `make docs`. `python -m docs.generate --check` reports outdated ones.

To add one, add a line to PAGES: its path, and the function that returns its text.
"""

import argparse
import ast
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from docs.pages import (
    commands,
    config_schema,
    configuration,
    dashboard,
    job_types,
    log_events,
    metrics,
    protocol,
    python_api,
    roles,
)
from stockworker.broker import acl
from stockworker.broker import configuration as broker

ROOT = Path(__file__).resolve().parent.parent

PAGES: dict[str, Callable[[], str]] = {
    "docs/cli.md": commands.markdown,
    "docs/configuration.md": configuration.reference,
    "docs/job-types.md": lambda: _with_sections("docs/job-types.md", job_types.sections(_job_examples())),
    "docs/lifecycle.md": protocol.lifecycle,
    "docs/logging.md": log_events.reference,
    "docs/monitoring.md": lambda: _with_sections("docs/monitoring.md", {"metrics": metrics.table()}),
    "docs/protocol.md": lambda: _with_sections("docs/protocol.md", protocol.sections()),
    "docs/python-api.md": lambda: _with_sections("docs/python-api.md", python_api.sections()),
    "docs/simulation.md": lambda: _with_sections("docs/simulation.md", {"laws": _laws()}),
    "ansible/roles/monitoring/files/rules.yml": (ROOT / "etc/prometheus/stockworker.rules.yml").read_text,
    "etc/grafana/stockworker.json": dashboard.dashboard,
    "etc/mosquitto/stockworker.acl": acl.acl,
    **{f"ansible/roles/{role}/README.md": partial(roles.readme, role) for role in roles.names()},
    **{f"etc/mosquitto/{profile}.conf": partial(broker.sample, profile) for profile in broker.Profile},
    "etc/stockworker/job_processor.schema.json": config_schema.schema,
    "etc/stockworker/job_processor.yml": configuration.sample,
    "systemd/stockworker.catalog": log_events.catalog,
}


def outdated() -> list[str]:
    """The pages whose file is missing, or differs from the generated text."""
    return [name for name, text in PAGES.items() if _current(ROOT / name) != text()]


def write() -> None:
    """Write every page."""
    for name, text in PAGES.items():
        file = ROOT / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text(), encoding="utf-8")


def main() -> int:
    """Run as a command; 1 if a page is outdated."""
    parser = argparse.ArgumentParser(description="Write the documents that are generated from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a page is outdated")
    if not parser.parse_args().check:
        write()
        return 0
    pages = outdated()
    for name in pages:
        sys.stderr.write(f"{name} is outdated: run make docs\n")
    return 1 if pages else 0


def _current(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.exists() else None


def _laws() -> str:
    """The laws of the simulation, as a table. Their file is parsed, not imported: tests are not installed."""
    file = ast.parse((ROOT / "tests/simulation/invariants.py").read_text(encoding="utf-8"))
    (law,) = (node for node in file.body if isinstance(node, ast.ClassDef) and node.name == "Law")
    rows = ["| Law | Meaning |", "|---|---|"]
    for node in law.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            text = " ".join(str(node.value.value).split())
            rows.append(f"| `{ast.unparse(node.targets[0])}` | {text} |")
    return "\n".join(rows) + "\n"


def _job_examples() -> dict[str, Any]:
    examples: dict[str, Any] = yaml.safe_load((ROOT / "docs/job-types.yml").read_text(encoding="utf-8"))
    return examples


def _with_sections(name: str, sections: Mapping[str, str]) -> str:
    """A page written by hand with generated sections, each between `<!-- section -->` and `<!-- /section -->`."""
    page = (ROOT / name).read_text(encoding="utf-8")
    for section, text in sections.items():
        before, begin, rest = page.partition(f"<!-- {section} -->\n")
        _, end, after = rest.partition(f"<!-- /{section} -->\n")
        if not end:
            raise ValueError(f"{name} has no section {section!r}")
        page = f"{before}{begin}{text}{end}{after}"
    return page


if __name__ == "__main__":
    sys.exit(main())
