"""``stockworker pause``, ``resume``, ``drain`` and ``undrain``: what is kept from work."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from stockworker.cli.connection import converse
from stockworker.client import Client
from stockworker.config import instances, load
from stockworker.protocol.body import present
from stockworker.protocol.messages import ReceiptEntry
from stockworker.terminal.arguments import add_client_options, identifier
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import note, print_json

Order = Callable[[Client, str], Awaitable[ReceiptEntry]]


def pause(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pause``."""
    parser.description = (
        "Give out no jobs of these types, to any worker, until `stockworker resume`. They are still taken, and wait; "
        "what a worker has already is finished. Needs the rights of an operator."
    )
    _complete_for_types(parser, Client.pause, "paused")


def resume(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker resume``."""
    parser.description = "Give out jobs of these types again, at once. Needs the rights of an operator."
    _complete_for_types(parser, Client.resume, "resumed")


def drain(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker drain``."""
    parser.description = (
        "Give these workers no jobs until `stockworker undrain`, though they or the dispatcher restart meanwhile. What "
        "runs on them is finished, what waits on them goes to others; `stockworker stats` shows when they have no "
        "leases any more. Needs the rights of an operator."
    )
    _complete_for_workers(parser, Client.drain, "drained")


def undrain(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker undrain``."""
    parser.description = "Give these workers jobs again, at once. Needs the rights of an operator."
    _complete_for_workers(parser, Client.undrain, "undrained")


def _complete_for_types(parser: argparse.ArgumentParser, order: Order, done: str) -> None:
    parser.add_argument("names", type=identifier, nargs="+", metavar="TYPE", help="a job type")
    add_client_options(parser)
    parser.set_defaults(run=lambda arguments: _run(arguments, order, "type", done))


def _complete_for_workers(parser: argparse.ArgumentParser, order: Order, done: str) -> None:
    parser.add_argument(
        "names",
        type=identifier,
        nargs="+",
        metavar="WORKER",
        help="id of a worker, or an instance of this machine: 1 is the worker of stockworker@1",
    )
    add_client_options(parser)
    parser.set_defaults(run=lambda arguments: _run(arguments, order, "worker", done))


def _run(arguments: argparse.Namespace, order: Order, kind: str, done: str) -> int:
    async def talk(client: Client) -> dict[str, ReceiptEntry]:
        names = arguments.names
        if kind == "worker":
            names = worker_ids(names, {worker.worker_id for worker in (await client.stats()).workers}, arguments.config)
        names = list(dict.fromkeys(names))
        entries = await asyncio.gather(*(order(client, name) for name in names))
        return dict(zip(names, entries, strict=True))

    for name, entry in converse(arguments, talk, notices=False).items():
        if arguments.json:
            print_json(present({kind: name, "status": done, "reason": entry.reason}))
        else:
            print(f"{name} {done}")
            if entry.reason is not None and not arguments.quiet:
                note(f"{name}: {entry.reason}")
    return Exit.OK


def worker_ids(names: Iterable[str], known: set[str], config: Path | None) -> list[str]:
    """The workers that are meant: known ones by their ids, instances of this machine by number or by their files.

    Raises:
        ConfigError: the configuration of an instance can't be used.
    """
    own = set(instances(config))
    return [
        load(config, name).worker.id if name not in known and (name in own or name.isdecimal()) else name
        for name in names
    ]
