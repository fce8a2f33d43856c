"""``stockworker web serve`` and ``stockworker web account``: the web page, and who may sign in."""

import argparse
import getpass
import os
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stockworker.adapters.files import SECRET, replace_file
from stockworker.adapters.systemd import Notifier
from stockworker.adapters.tls import host_names, server_context
from stockworker.cli.market import opened_at
from stockworker.cli.services import become_service, prepare, run_main, until_stopped
from stockworker.client import Client, client_name, link_settings, own_service
from stockworker.config import Config, load, load_with_warnings
from stockworker.config.schema import WebConfig
from stockworker.errors import ConfigError
from stockworker.protocol.topics import Role
from stockworker.terminal.config_option import add_config
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import note
from stockworker.web.accounts import (
    SALT_BYTES,
    Account,
    AccountRole,
    load_accounts,
    make_account,
    read_accounts,
    write_accounts,
)
from stockworker.web.market_charts import MarketCharts

if TYPE_CHECKING:
    from stockworker.web.server import PageSettings

DEFAULT_ACCOUNTS: Final = Path("/etc/stockworker/web-accounts")

_ANSWER_S: Final = 5.0
"""How long the page waits for an answer of the dispatcher, before it shows that none came."""

_LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")


def serve(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker web serve``."""
    parser.description = (
        "Serve the web page of the fleet in the foreground. SIGTERM stops it. SIGHUP reads the accounts again. Its section in "
        "the configuration is `web`."
    )
    add_config(parser)
    parser.set_defaults(run=_serve, is_service=True)


def account(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker web account``."""
    parser.description = (
        "Create an account of the web page, or give it another password or role. The command asks for the password, or reads "
        "the first line of standard input. The page uses the change after 'systemctl restart stockworker-web'."
    )
    parser.add_argument("name", metavar="NAME", help="the name to sign in with")
    parser.add_argument(
        "--role",
        choices=tuple(map(str, AccountRole)),
        default=str(AccountRole.VIEWER),
        help="an operator may act, a viewer may only look (default: viewer)",
    )
    parser.add_argument("--delete", action="store_true", help="delete the account instead")
    parser.add_argument(
        "--file",
        type=Path,
        default=DEFAULT_ACCOUNTS,
        metavar="FILE",
        help=f"the file of the accounts, as in web.accounts (default: {DEFAULT_ACCOUNTS})",
    )
    parser.set_defaults(run=_account)


# --- the service ------------------------------------------------------------------------------------------------------


def _serve(arguments: argparse.Namespace) -> int:
    become_service()
    try:
        from stockworker.web.service import WebService  # noqa: PLC0415 (of all commands, only this one needs aiohttp and Jinja)
    except ImportError as error:
        raise ConfigError(
            f"the web page needs aiohttp and Jinja ({error}). Run 'apt install python3-aiohttp python3-jinja2'"
        ) from error
    config, warnings = load_with_warnings(arguments.config, None)
    prepare(config, warnings, Role.CLIENT)
    market = MarketCharts(partial(opened_at, config.market_data.read_location()))

    async def run() -> None:
        with closing(Notifier()) as notifier:
            address = config.web.address, config.web.port
            reread = partial(_reread, arguments.config)
            await until_stopped(WebService(address, partial(_client, config), market, reread, notifier))

    run_main(run)
    return Exit.OK


def _client(config: Config) -> Client:
    name = client_name(config)
    return Client(
        link_settings(config, name),
        name,
        timeout_s=_ANSWER_S,
        notices=False,
        encryption=config.encryption,
        service=own_service(config, name),
    )


def _reread(path: Path | None) -> "PageSettings":
    return page_settings(load(path).web)


def page_settings(page: WebConfig) -> "PageSettings":
    """How the page is protected.

    Raises:
        ConfigError: a file that the section names is not usable.
    """
    from stockworker.web.server import PageSettings  # noqa: PLC0415 (see `_serve`)

    tls, names = None, {*_LOOPBACK_NAMES, page.address, *page.names}
    if page.cert_file is not None and page.key_file is not None:
        tls = server_context(page.cert_file, page.key_file)
        names |= host_names(page.cert_file)
    accounts = None if page.accounts is None else load_accounts(page.accounts)
    return PageSettings(frozenset(name.lower() for name in names), accounts, tls)


# --- accounts ---------------------------------------------------------------------------------------------------------


def _account(arguments: argparse.Namespace) -> int:
    file, name = arguments.file, arguments.name
    accounts = _existing(file)
    if arguments.delete:
        if accounts.pop(name, None) is None:
            raise UsageError(f"{file} has no account {name!r}; it has: {', '.join(sorted(accounts)) or 'none'}")
        _write(file, accounts)
        note(f"deleted the account {name} from {file}")
        return Exit.OK
    try:
        accounts[name] = make_account(name, AccountRole(arguments.role), _password(name), os.urandom(SALT_BYTES))
    except ValueError as error:
        raise UsageError(str(error)) from None
    _write(file, accounts)
    note(f"wrote the account {name} ({arguments.role}) to {file}. Run 'systemctl restart stockworker-web'")
    return Exit.OK


def _existing(file: Path) -> dict[str, Account]:
    return load_accounts(file) if file.exists() else read_accounts("")


def _write(file: Path, accounts: dict[str, Account]) -> None:
    try:
        replace_file(file, write_accounts(accounts).encode(), SECRET)
    except OSError as error:
        raise ConfigError(
            f"{file} can't be written: {error.strerror}. Run this as root, or name another --file"
        ) from None


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass(f"Password of {name}: ")
    if getpass.getpass("Again: ") != password:
        raise UsageError("the two passwords differ; nothing was written")
    return password
