"""What can be checked on this machine: configuration, certificates, handlers, folders."""

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from stockworker.adapters import clock
from stockworker.adapters.tls import client_context
from stockworker.cli.wiring import handler_specs
from stockworker.config import Config, Tls, problems
from stockworker.errors import ConfigError
from stockworker.handlers.spec import CommandHandler
from stockworker.pki.inspection import CertificateFacts, inspect
from stockworker.terminal.findings import Finding, fail, ok, warn

_RENEW_BEFORE: Final = timedelta(days=30)


def check_configuration(path: Path | None, instance: str | None, shown: str) -> Iterator[Finding]:
    """Look for all that is wrong or unwise in the files."""
    found = problems(path, instance)
    for problem in found:
        yield (fail if problem.severity == "error" else warn)("configuration", problem.show())
    if not found:
        yield ok("configuration", shown)


def check_tls(tls: Tls | None) -> Iterator[Finding]:
    """Look at the files, and at how long they are good for."""
    if tls is None:
        return
    try:
        client_context(tls.ca_file, tls.cert_file, tls.key_file)
        authorities = [] if tls.ca_file is None else inspect(tls.ca_file)
        chain = [] if tls.cert_file is None else inspect(tls.cert_file)
    except ConfigError as error:
        yield fail("tls", str(error))
        return
    now = datetime.fromtimestamp(clock.wall(), UTC)
    for file, facts in [*((tls.ca_file, each) for each in authorities), *((tls.cert_file, each) for each in chain)]:
        yield validity("tls", f"{file} ({facts.name})", facts, now)
    if chain and authorities and not {facts.issuer for facts in chain} & {facts.subject for facts in authorities}:
        text = f"{tls.cert_file} was issued by {chain[-1].issuer}, and not by the authority in {tls.ca_file}"
        yield warn("tls", f"{text}: if the broker refuses it, have it issued by the authority of the fleet")


def validity(subject: str, shown: str, facts: CertificateFacts, now: datetime) -> Finding:
    """Judge how long a certificate is good for."""
    until = f"{facts.valid_until:%Y-%m-%d}"
    if now < facts.valid_from:
        return fail(subject, f"{shown} is not valid before {facts.valid_from:%Y-%m-%d}: check this machine's clock")
    if now > facts.valid_until:
        return fail(subject, f"{shown} expired on {until}: renew it")
    if now > facts.valid_until - _RENEW_BEFORE:
        return warn(subject, f"{shown} expires on {until}: renew it")
    return ok(subject, f"{shown} is valid until {until}")


def check_handlers(config: Config) -> Iterator[Finding]:
    """Look at what this worker is to run."""
    try:
        specs = handler_specs(config)
    except ConfigError as error:
        yield fail("handlers", str(error))
        return
    for folder in config.worker.handler_paths:
        if not folder.is_dir():
            yield fail(
                "handlers", f"worker.handler_paths: {folder} is no folder: create it, or remove it from the list"
            )
    for job_type, spec in specs.items():
        if isinstance(spec, CommandHandler) and shutil.which(spec.argv[0]) is None:
            text = f"handlers.{job_type}: {spec.argv[0]} is no program that we may run"
            yield fail("handlers", f"{text}: install it, or correct 'command'")
    yield ok("handlers", f"{len(specs)} job types: {', '.join(sorted(specs))}")


def check_folder(key: str, file: Path) -> Finding:
    """Look whether a service could keep its file where it is configured."""
    folder = file.parent
    if not folder.is_dir():
        text = f"{key}: the folder {folder} does not exist"
        return warn("files", f"{text}: the systemd unit makes it when it starts; else run 'mkdir -p {folder}'")
    unusable = [path for path in (folder, file) if path.exists() and not os.access(path, os.R_OK | os.W_OK)]
    if unusable:
        text = f"{key}: {unusable[0]} can't be written by {os.getuid()}, the user that runs this check"
        return fail("files", f"{text}: run it as the user of the service, or change the owner of {folder}")
    return ok("files", f"{key}: {file}")
