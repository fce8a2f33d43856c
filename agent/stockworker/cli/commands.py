"""Every command there is, and a parser that imports a command's code only when that command is called."""

import argparse
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from stockworker import __version__
from stockworker.terminal.config_option import add_config
from stockworker.terminal.exits import Exit

PROGRAM: Final = "stockworker"
DESCRIPTION: Final = (
    "Job processing for fleets of Linux machines over MQTT: submit jobs, watch and steer them, run them."
)


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        summary: what it does, in a few words.
        complete: `module:function` that gives its parser arguments, a description and `run`.
    """

    summary: str
    complete: str

    def load(self) -> Callable[[argparse.ArgumentParser], None]:
        """Import the function that completes the command's parser."""
        module, _, function = self.complete.partition(":")
        complete: Callable[[argparse.ArgumentParser], None] = getattr(import_module(module), function)
        return complete


GROUPS: Final = {
    "broker": "set up Mosquitto",
    "pki": "keep the fleet's certificates",
    "keys": "keep the keys that payloads and results are sealed with",
}
"""The first words of commands that have two, each with what it is about."""

COMMANDS: Final = {
    "submit": Command("submit a job, or a batch of jobs", "stockworker.cli.submit:submit"),
    "status": Command("show how jobs stand", "stockworker.cli.jobs:status"),
    "wait": Command("wait until jobs have ended", "stockworker.cli.jobs:wait"),
    "result": Command("print the result of a job", "stockworker.cli.jobs:result"),
    "list": Command("list jobs, newest first", "stockworker.cli.jobs:list_jobs"),
    "cancel": Command("cancel jobs", "stockworker.cli.steering:cancel"),
    "retry": Command("run failed jobs again", "stockworker.cli.steering:retry"),
    "why": Command("tell why a job is where it is", "stockworker.cli.why:why"),
    "pause": Command("give out no jobs of a type", "stockworker.cli.holds:pause"),
    "resume": Command("give out jobs of a type again", "stockworker.cli.holds:resume"),
    "drain": Command("give a worker no jobs", "stockworker.cli.holds:drain"),
    "undrain": Command("give a worker jobs again", "stockworker.cli.holds:undrain"),
    "stats": Command("show queues, workers and counters", "stockworker.cli.stats:stats"),
    "check": Command("find out what is wrong with this machine's setup", "stockworker.cli.check:check"),
    "backup": Command("copy the dispatcher's store, while it runs", "stockworker.cli.backup:backup"),
    "acl": Command("print the broker's access list", "stockworker.broker.acl_cli:acl"),
    "broker setup": Command("set up this machine's Mosquitto", "stockworker.broker.setup:setup"),
    "broker config": Command("print Mosquitto's configuration", "stockworker.broker.cli:config"),
    "pki init": Command("make a certificate authority", "stockworker.pki.cli:init"),
    "pki issue": Command("issue a certificate and a key", "stockworker.pki.cli:issue"),
    "pki request": Command("make a key and a request for a certificate", "stockworker.pki.cli:request"),
    "pki sign": Command("sign a request", "stockworker.pki.cli:sign"),
    "pki renew": Command("issue the successor of a certificate", "stockworker.pki.cli:renew"),
    "pki revoke": Command("revoke certificates", "stockworker.pki.cli:revoke"),
    "pki list": Command("list certificates, and how long they are valid", "stockworker.pki.cli:list_certificates"),
    "pki crl": Command("write the revocation list anew", "stockworker.pki.cli:crl"),
    "keys generate": Command("make keys, and enter them into the keyring", "stockworker.sealing.cli:generate"),
    "keys rotate": Command("make new keys beside the old ones", "stockworker.sealing.cli:rotate"),
    "keys list": Command("show all keys, and how long they count", "stockworker.sealing.cli:list_keys"),
    "keys export": Command("print the keyring lines of a file of private keys", "stockworker.sealing.cli:export"),
    "agent": Command("run a worker (what stockworker@.service starts)", "stockworker.cli.services:agent"),
    "dispatcher": Command(
        "run the dispatcher (what stockworker-dispatcher.service starts)", "stockworker.cli.services:dispatcher"
    ),
}


class CommandParser(argparse.ArgumentParser):
    """Learns its arguments when it is first needed."""

    def __init__(self, *, command: Command | None = None, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._command = command

    def complete(self) -> None:
        """Import the command, and learn its arguments."""
        if self._command is not None:
            command, self._command = self._command, None
            command.load()(self)
            self.description = textwrap.fill(self.description or "", 78)

    def parse_known_args(  # type: ignore[override] # the overloads of the stubs add nothing here
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse, knowing all arguments."""
        self.complete()
        return super().parse_known_args(args, namespace)


def make_parser() -> tuple[CommandParser, dict[str, CommandParser]]:
    """Make the parser of the program, and those of its commands by name."""
    parser = CommandParser(prog=PROGRAM, description=DESCRIPTION, epilog=exit_statuses())
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    add_config(parser, default=None)
    groups = {"": _add_group(parser)}
    parsers = {}
    for name, command in COMMANDS.items():
        first, _, word = name.rpartition(" ")
        if first not in groups:
            about = GROUPS[first]
            groups[first] = _add_group(groups[""].add_parser(first, help=about, description=f"{about}."))
        parsers[name] = groups[first].add_parser(word, help=command.summary, command=command)
    return parser, parsers


def _add_group(parser: CommandParser) -> "argparse._SubParsersAction[CommandParser]":
    return parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=CommandParser)


def exit_statuses() -> str:
    """The list of exit statuses, for people."""
    return "exit statuses:\n" + "\n".join(f"  {status:>3}  {status.meaning}" for status in Exit)
