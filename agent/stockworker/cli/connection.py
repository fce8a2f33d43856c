"""How a command talks to the dispatcher."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from stockworker.cli.identity import identify
from stockworker.client import Client, client_name, link_settings
from stockworker.config import load
from stockworker.protocol.topics import Role
from stockworker.terminal.findings import Finding
from stockworker.terminal.output import note

T = TypeVar("T")


def converse(arguments: argparse.Namespace, talk: Callable[[Client], Awaitable[T]], **options: Any) -> T:
    """Connect as the configuration says, talk, and disconnect.

    Args:
        arguments: with what `add_client_options` has added.
        talk: what to do while connected.
        options: for `Client`.

    Raises:
        ConfigError: the configuration can't be used.
        ConnectionFailed: the broker can't be reached, refuses us, or nobody answers.
    """
    config = load(arguments.config)
    who = identify(config, Role.CLIENT)
    if isinstance(who, Finding):
        note(who.text)
    name = client_name(config)
    link = link_settings(config, name)
    client = Client(link, name, timeout_s=arguments.answer_timeout, encryption=config.encryption, **options)

    async def run() -> T:
        async with client:
            return await talk(client)

    return asyncio.run(run())
