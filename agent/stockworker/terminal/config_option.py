"""The option `--config`. In a module of its own, because every command has it and most need no slow import."""

import argparse
from pathlib import Path


def add_config(parser: argparse.ArgumentParser, default: str | None = argparse.SUPPRESS) -> None:
    """Accept ``--config``: before the command, and after it for those that read the configuration."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="PATH",
        default=default,
        help="configuration file, or the folder that holds it (default: /etc/stockworker/job_processor.yml)",
    )
