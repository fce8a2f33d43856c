"""Delivers a notification: to a program, or to a web address."""

import os
import signal
import subprocess
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from stockworker.errors import StockworkerError
from stockworker.protocol.frozen import dataclass

TIMEOUT_S: Final = 10.0
"""For one attempt. The service can stop within that time."""

_EVERYWHERE: Final = ("0.0.0.0/0", "::/0")
"""An operator may name a host of the own network."""

_INHERITED: Final = ("PATH", "LANG", "HOME", "TZ")


class DeliveryFailed(StockworkerError):
    """The notification was not delivered. `retryable`: a later attempt may succeed."""

    def __init__(self, reason: str, *, retryable: bool) -> None:
        super().__init__(reason)
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class Recipient:
    """Where notifications go: to a program or to an address.

    Attributes:
        command: a program with its arguments.
        webhook: an http or https address.
    """

    command: tuple[str, ...] = ()
    webhook: str | None = None


def deliver(recipient: Recipient, body: bytes, variables: Mapping[str, str]) -> None:
    """Deliver a notification, within `TIMEOUT_S`.

    Args:
        recipient: where it goes.
        body: the notification as JSON.
        variables: for the environment of a program.

    Raises:
        DeliveryFailed: the text names no secret.
    """
    if recipient.webhook is not None:
        _post(recipient.webhook, body)
    else:
        _run(recipient.command, body, variables)


def _post(url: str, body: bytes) -> None:
    from stockworker.adapters.http import FetchError, post  # noqa: PLC0415 (a service must start without HTTP)
    from stockworker.adapters.http_hosts import Hosts, read_host, read_network  # noqa: PLC0415 (the same)

    try:
        host = urlsplit(url).netloc
        hosts = Hosts([read_host(host)], [*map(read_network, _EVERYWHERE)])
    except ValueError:
        raise DeliveryFailed(
            "the address of the webhook is not valid; it needs a host, and no user", retryable=False
        ) from None
    try:
        post(url, body, timeout_s=TIMEOUT_S, hosts=hosts)
    except FetchError as error:  # the path of a webhook is mostly a secret
        reason = str(error).partition(": ")[2]
        raise DeliveryFailed(f"the webhook at {host}: {reason}", retryable=error.retryable) from None


def _run(command: tuple[str, ...], body: bytes, variables: Mapping[str, str]) -> None:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    try:
        process = subprocess.Popen(  # noqa: S603 (the command of the operator)
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**inherited, **variables},
            start_new_session=True,
        )
    except OSError as error:
        raise DeliveryFailed(f"{command[0]} can't be started: {error.strerror}", retryable=True) from None
    with process:
        try:
            process.communicate(body, TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise DeliveryFailed(f"{command[0]} did not end within {TIMEOUT_S:.0f} s", retryable=True) from None
    if process.returncode:
        raise DeliveryFailed(f"{command[0]} ended with status {process.returncode}", retryable=True)
