"""The option `--config`, in a module without slow imports, because the parser of every command needs it."""

import argparse
from pathlib import Path


def add_config(parser: argparse.ArgumentParser, default: str | None = argparse.SUPPRESS) -> None:
    """Accept ``--config``: before the command, and after the commands that read the configuration."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="PATH",
        default=default,
        help="configuration file, or its folder (default: /etc/stockworker/job_processor.yml)",
    )
