"""Sends the test notification of `stockworker check --notify`."""

import json
from pathlib import Path
from typing import Final

from stockworker.adapters.delivery import DeliveryFailed, deliver
from stockworker.cli.wiring import has_recipient, recipient
from stockworker.config import load
from stockworker.errors import ConfigError
from stockworker.terminal.findings import Finding, fail, ok

_SUBJECT: Final = "notifications"


def try_notification(path: Path | None) -> Finding:
    """Send a test notification to the configured recipient, as this user and without the sandbox of the dispatcher."""
    try:
        config = load(path)
        if config.notifications is None or not has_recipient(config.notifications):
            return fail(_SUBJECT, "the configuration names no recipient in the section 'notifications'; add one")
        sender = str(config.dispatcher.id)
        body = {"dispatcher": sender, "text": "This is a test.", "counts": {}, "occurrences": [], "omitted": 0}
        variables = {"STOCKWORKER_DISPATCHER": sender, "STOCKWORKER_SUBJECTS": "", "STOCKWORKER_COUNT": "0"}
        deliver(recipient(config.notifications), json.dumps(body).encode(), variables)
    except (ConfigError, DeliveryFailed) as error:
        return fail(_SUBJECT, str(error))
    return ok(_SUBJECT, "sent a test notification")
