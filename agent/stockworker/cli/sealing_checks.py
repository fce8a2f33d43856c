"""Checks of the keys that seal payloads and results."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from stockworker.adapters import clock
from stockworker.cli.identity import Participant
from stockworker.cli.wiring import handler_specs, worker_seal
from stockworker.client.sealing import submitter_seal
from stockworker.config import Config
from stockworker.config.kinds import TIME
from stockworker.errors import ConfigError
from stockworker.pki.registry import EXPIRES_SOON
from stockworker.protocol.ids import ClientId
from stockworker.protocol.topics import Role
from stockworker.sealing import keyring
from stockworker.terminal.findings import Finding, fail, ok, warn


def check_encryption(config: Config, who: Participant) -> Iterator[Finding]:
    """Check that this machine has the keys that its role needs."""
    encryption = config.encryption
    if encryption is None or who.role is Role.DISPATCHER:
        return
    now = clock.wall()
    try:
        ring = keyring.load(encryption.keyring)
        if who.role is Role.WORKER:
            worker_seal(config)
        else:
            submitter_seal(ClientId(who.name), encryption).check(now)
    except ConfigError as error:
        yield from (fail("encryption", line) for line in str(error).splitlines())
        return
    if encryption.accept_unproven_until is not None and now <= encryption.accept_unproven_until:
        until = TIME.show(encryption.accept_unproven_until)
        text = f"until {until}, results in the format of version 1 are accepted, which any worker can make"
        yield warn(
            "encryption", f"{text}. Remove encryption.accept_unproven_until when no such result is needed any longer"
        )
    holder = keyring.Holder.WORKER if who.role is Role.WORKER else keyring.Holder.SUBMITTER
    yield _lasting(f"{encryption.keyring}: {holder} {who.name}", ring.named(holder, who.name), now)
    if who.role is Role.WORKER:
        yield from _unsealable(config, ring, now)


def _lasting(shown: str, entries: Sequence[keyring.Entry], now: float) -> Finding:
    """Report until when the keys are valid; at least one of them is."""
    ends = [entry.not_after for entry in entries if entry.not_after is None or entry.not_after > now]
    if None in ends:
        return ok("encryption", f"{shown} has valid keys")
    last = datetime.fromtimestamp(max(end for end in ends if end is not None), UTC)
    text = f"{shown} has valid keys until {last:%Y-%m-%d}"
    if last > datetime.fromtimestamp(now, UTC) + EXPIRES_SOON:
        return ok("encryption", text)
    return warn("encryption", f"{text}. Run 'stockworker keys rotate' for it, and copy the keyring to all machines")


def _unsealable(config: Config, ring: keyring.Keyring, now: float) -> Iterator[Finding]:
    """Find job types of this worker that no client can seal jobs for."""
    try:
        types = sorted(handler_specs(config))
    except ConfigError:
        return  # `check_handlers` reports it
    orphans = [job_type for job_type in types if ring.group_for(job_type, now) is None]
    if orphans:
        text = f"no group in the keyring runs {', '.join(orphans)}, so no client can seal jobs for these types"
        yield warn("encryption", f"{text}. Add them to the line of a group, or remove them from worker.types")
