"""All commands, and a parser that imports the code of a command only when that command is called."""

import argparse
import sys
import textwrap
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

from stockworker import __version__
from stockworker.errors import ConfigError
from stockworker.logs.lines import printable
from stockworker.protocol.frozen import dataclass
from stockworker.terminal.config_option import add_config
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import write

PACKAGE_OF: Final = {
    "stockworker.worker": "stockworker-agent",
    "stockworker.dispatcher": "stockworker-dispatcher",
    "stockworker.market": "stockworker-agent",
    "stockworker.doctor": "stockworker-doctor",
    "stockworker.migration": "stockworker-migrate",
    "stockworker.web": "stockworker-web",
}
"""The package that has code of a service, where it is not the package of the command."""

PROGRAM: Final = "stockworker"
DESCRIPTION: Final = "Job processing for fleets of Linux machines over MQTT: submit, control and run jobs."


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        summary: what it does, in a few words.
        complete: `module:function` below `stockworker` that adds arguments, a description and `run` to its parser.
        example: arguments of the program, for the help.
        aliases: other names that it is called by.
    """

    summary: str
    complete: str
    example: str
    aliases: tuple[str, ...] = ()

    def load(self) -> Callable[[argparse.ArgumentParser], None]:
        """Import the function that completes the command's parser.

        Raises:
            ConfigError: the command belongs to a package that is not installed.
        """
        name, _, function = self.complete.partition(":")
        try:
            module = import_module(f"stockworker.{name}")
        except ModuleNotFoundError as error:
            package = PACKAGE_OF.get(".".join((error.name or "").split(".")[:2]))
            if package is None:
                raise
            raise ConfigError(
                f"this command is a part of the package {package}, which is not installed here; install it with "
                f"'apt install {package}' or 'dnf install {package}'"
            ) from None
        complete: Callable[[argparse.ArgumentParser], None] = getattr(module, function)
        return complete


GROUPS: Final = {
    "broker": "set up Mosquitto",
    "pki": "manage the fleet's certificates",
    "keys": "manage the keys that seal payloads and results",
    "market": "read, draw and delete stored market data",
    "web": "show the fleet on a web page",
}
"""The summary of each group: the first word of the commands that have two words."""

COMMANDS: Final = {
    "submit": Command(
        "submit a job or a batch of jobs",
        "cli.submit:submit",
        """submit technical_analysis '{"symbol": "AAPL"}' --wait""",
    ),
    "status": Command("show job status", "cli.jobs:status", "status JOB --json"),
    "wait": Command("wait until jobs end", "cli.jobs:wait", "wait JOB1 JOB2 --timeout 10m"),
    "result": Command("print the result of a job", "cli.jobs:result", "result JOB --wait-timeout 5m"),
    "list": Command("list jobs, newest first", "cli.listing:list_jobs", "list --state failed --since 2h"),
    "cancel": Command("cancel jobs", "cli.job_orders:cancel", "cancel JOB1 JOB2"),
    "retry": Command("run failed jobs again", "cli.job_orders:retry", "retry --all --type price_update"),
    "show": Command("show everything about a job", "cli.show:show", "show JOB"),
    "logs": Command("print what a job has printed and logged", "cli.logs:logs", "logs JOB --attempt 2"),
    "why": Command("explain why a job waits or how it ended", "cli.why:why", "why JOB"),
    "pause": Command("stop dispatching jobs of a type", "cli.operator_commands:pause", "pause price_update"),
    "resume": Command("dispatch jobs of a type again", "cli.operator_commands:resume", "resume price_update"),
    "drain": Command("stop assigning jobs to a worker", "cli.operator_commands:drain", "drain edge-7-1"),
    "undrain": Command("assign jobs to a worker again", "cli.operator_commands:undrain", "undrain edge-7-1"),
    "top": Command("show the fleet live, with keys to act", "cli.top:top", "top"),
    "events": Command(
        "show what happens in the fleet", "cli.events:events", "events --type price_update --event failed"
    ),
    "stats": Command("show queues, workers and counters", "cli.stats:stats", "stats --watch 5s"),
    "workers": Command("list workers", "cli.listing:workers", "workers --state offline"),
    "words": Command("print what a shell completes: jobs, types or workers", "cli.words:words", "words workers"),
    "check": Command("check the setup of this machine", "cli.check:check", "check --instance 1"),
    "doctor": Command("find out what is wrong on this machine", "cli.doctor:doctor", "doctor --bundle support.tar.gz"),
    "backup": Command(
        "copy the dispatcher's store while it runs", "cli.backup:backup", "backup /var/backups/stockworker.sqlite3"
    ),
    "migrate": Command(
        "move jobs from an old queue: a database, Redis or RabbitMQ",
        "cli.migrate:migrate",
        "migrate @old-database.url --preset laravel --dry-run",
    ),
    "acl": Command(
        "print the broker's access control list",
        "broker.cli:acl",
        "acl --operator admin --client shop --in-force /etc/mosquitto/stockworker/acl",
    ),
    "broker setup": Command(
        "set up Mosquitto on this machine", "broker.cli:setup", "broker setup --host mq.example.org --dry-run"
    ),
    "broker check": Command("check that Mosquitto on this machine does not hang", "broker.cli:check", "broker check"),
    "broker config": Command("print the Mosquitto configuration", "broker.cli:config", "broker config --profile wan"),
    "pki init": Command("create a certificate authority", "pki.cli:init", "pki init"),
    "pki issue": Command("issue certificates and private keys", "pki.cli:issue", "pki issue worker edge-7-1"),
    "pki request": Command(
        "create a private key and a certificate request",
        "pki.cli:request",
        "pki request edge-7-1 --out /etc/stockworker/tls",
    ),
    "pki sign": Command("sign certificate requests", "pki.cli:sign", "pki sign worker edge-7-1 edge-7-1.csr"),
    "pki renew": Command("renew a certificate", "pki.cli:renew", "pki renew edge-7-1"),
    "pki revoke": Command("revoke certificates", "pki.cli:revoke", "pki revoke edge-7-1"),
    "pki list": Command("list certificates and their expiry dates", "pki.cli:list_certificates", "pki list"),
    "pki crl": Command("write a new revocation list", "pki.cli:crl", "pki crl"),
    "pki token": Command(
        "create, list and revoke join tokens", "pki.joining:token", "pki token create --name 'edge-*' --valid 1h"
    ),
    "pki serve": Command("sign the requests of machines that have a join token", "pki.joining:serve", "pki serve"),
    "pki join": Command(
        "get a worker's certificate for a join token", "pki.joining:join_fleet", "pki join TOKEN@ca.example.org:8884"
    ),
    "keys generate": Command(
        "create keys and add them to the keyring",
        "sealing.cli:generate",
        "keys generate worker edge-7-1 --groups prices",
    ),
    "keys rotate": Command("create new keys beside the old ones", "sealing.cli:rotate", "keys rotate group prices"),
    "keys remove": Command("remove a party from the keyring", "sealing.cli:remove", "keys remove worker edge-7-1"),
    "keys list": Command("list all keys and their validity", "sealing.cli:list_keys", "keys list"),
    "keys export": Command(
        "print the keyring lines of a private key file", "sealing.cli:export", "keys export submitter shop"
    ),
    "market symbols": Command("list the symbols with stored bars", "cli.market:symbols", "market symbols"),
    "market show": Command("show the newest bars of a symbol", "cli.market:show", "market show AAPL --last 5"),
    "market export": Command(
        "write bars as CSV, JSON or Parquet",
        "cli.market_export:export",
        "market export AAPL MSFT --since 2024-01-01 --out bars.csv",
    ),
    "market plot": Command(
        "draw a chart of a symbol",
        "cli.market_plot:plot",
        "market plot AAPL --indicators sma:50,bollinger,rsi --out aapl.svg",
    ),
    "market quality": Command(
        "report what is doubtful in stored bars", "cli.market_quality:quality", "market quality --all"
    ),
    "market inspect": Command(
        "propose how to read a file of bars", "cli.market_inspect:inspect", "market inspect prices.csv"
    ),
    "market delete": Command("delete all data of symbols", "cli.market:delete", "market delete AAPL --yes"),
    "web serve": Command("serve the page (started by stockworker-web.service)", "cli.web:serve", "web serve"),
    "web account": Command(
        "create or delete an account of the page", "cli.web:account", "web account mary --role operator"
    ),
    "worker": Command(
        "run a worker (started by stockworker@.service)",
        "cli.worker:worker",
        "worker --instance 1",
        aliases=("agent",),
    ),
    "dispatcher": Command(
        "run the dispatcher (started by stockworker-dispatcher.service)", "cli.dispatcher:dispatcher", "dispatcher"
    ),
}


class CommandParser(argparse.ArgumentParser):
    """A parser that imports its command, and so gets its arguments, when it is first used."""

    def __init__(self, *, command: Command | None = None, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._command = command

    def complete(self) -> None:
        """Import the command, which adds its arguments."""
        if self._command is not None:
            command, self._command = self._command, None
            command.load()(self)
            self.description = textwrap.fill(self.description or "", 78)
            self.epilog = f"example:\n  {PROGRAM} {command.example}"

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print a help text, or an error that quotes an argument."""
        write(file or sys.stderr, "\n".join(map(printable, message.split("\n"))))

    def parse_known_args(  # type: ignore[override] # the overloads of the stubs add nothing here
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse with all arguments of the command."""
        self.complete()
        return super().parse_known_args(args, namespace)


def make_parser() -> tuple[CommandParser, dict[str, CommandParser]]:
    """Make the parser of the program and the parsers of its commands, by name."""
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
        parsers[name] = groups[first].add_parser(word, help=command.summary, command=command, aliases=command.aliases)
    return parser, parsers


def _add_group(parser: CommandParser) -> "argparse._SubParsersAction[CommandParser]":
    return parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=CommandParser)


def exit_statuses() -> str:
    """The table of exit statuses for the help text."""
    return "exit statuses:\n" + "\n".join(f"  {status:>3}  {status.meaning}" for status in Exit)
