"""The option `--config`, in a module without slow imports, because the parser of every command needs it."""

import argparse
from pathlib import Path
from typing import Final

CLIENT_DEFAULT: Final = (
    "$STOCKWORKER_CONFIG, else the first of ~/.config/stockworker/client.yml, /etc/stockworker/client.yml and "
    "/etc/stockworker/job_processor.yml"
)


def add_config(
    parser: argparse.ArgumentParser,
    default: str | None = argparse.SUPPRESS,
    read: str = "/etc/stockworker/job_processor.yml",
) -> None:
    """Accept ``--config``: before the command, and after the commands that read the configuration.

    Args:
        parser: of the program or a command.
        default: the value without the option.
        read: what is read without the option, for the help.
    """
    parser.add_argument(
        "--config",
        type=Path,
        metavar="PATH",
        default=default,
        help=f"configuration file, or its folder (default: {read})",
    )
