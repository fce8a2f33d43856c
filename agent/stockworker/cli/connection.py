"""Connecting a command to the dispatcher."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from stockworker.cli.identity import identify
from stockworker.client import Client, client_name, link_settings, own_service
from stockworker.config import client_path, client_places, load
from stockworker.errors import ConnectionFailed
from stockworker.protocol.topics import Role
from stockworker.terminal.findings import Finding
from stockworker.terminal.output import note

T = TypeVar("T")


def converse(arguments: argparse.Namespace, talk: Callable[[Client], Awaitable[T]], **options: Any) -> T:
    """Connect as configured, await `talk`, and disconnect.

    Args:
        arguments: contain the options of `add_client_options`.
        talk: called with the connected client.
        options: passed on to `Client`.

    Raises:
        ConfigError: the configuration is not usable.
        ConnectionFailed: the broker is unreachable or refuses the connection, or no dispatcher answers.
    """
    config = load(arguments.config or client_path())
    who = identify(config, Role.CLIENT)
    if isinstance(who, Finding):
        note(who.text)
    name = client_name(config)
    link = link_settings(config, name)
    options |= {"encryption": config.encryption, "service": own_service(config, name)}
    client = Client(link, name, timeout_s=arguments.answer_timeout, **options)

    async def run() -> T:
        async with client:
            return await talk(client)

    try:
        return asyncio.run(run())
    except ConnectionFailed as error:
        places = "" if arguments.config else client_places()
        if places:
            error.args = (
                f"{error}\nNo configuration was found. Write one to one of these files, or name it: {places}",
            )
        raise
