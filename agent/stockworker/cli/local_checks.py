"""Checks that need no connection: configuration, certificates, handlers, folders."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from stockworker.adapters import clock
from stockworker.adapters.tls import client_context
from stockworker.cli.wiring import handler_specs
from stockworker.config import Config, Tls, problems
from stockworker.errors import ConfigError
from stockworker.handlers.spec import CommandHandler, HandlerSpec, PythonHandler
from stockworker.handlers.trial_import import failed_imports
from stockworker.pki.inspection import CertificateFacts, inspect, is_issued_by, revocations_until
from stockworker.pki.registry import EXPIRES_SOON
from stockworker.protocol.ids import JobType
from stockworker.terminal.findings import Finding, fail, ok, warn
from stockworker.trusted_files import read_trusted


def check_configuration(path: Path | None, instance: str | None, shown: str) -> Iterator[Finding]:
    """Check the configuration files."""
    found = problems(path, instance)
    for problem in found:
        yield (fail if problem.severity == "error" else warn)("configuration", problem.show())
    if not found:
        yield ok("configuration", shown)


def check_tls(tls: Tls | None) -> Iterator[Finding]:
    """Check the TLS files and the validity of their certificates."""
    if tls is None:
        return
    try:
        client_context(tls.ca_file, tls.cert_file, tls.key_file, tls.crl_file)
        authorities = [] if tls.ca_file is None else inspect(tls.ca_file)
        chain = [] if tls.cert_file is None else inspect(tls.cert_file)
        lists_until = None if tls.crl_file is None else revocations_until(read_trusted(tls.crl_file), tls.crl_file)
    except ConfigError as error:
        yield fail("tls", str(error))
        return
    now = clock.utc_now()
    for facts in authorities:
        yield validity("tls", f"{tls.ca_file} ({facts.name})", facts, now)
    for facts in chain:
        yield validity("tls", f"{tls.cert_file} ({facts.name})", facts, now, f"'stockworker pki renew {facts.name}'")
    if lists_until is not None and now > lists_until:
        text = f"{tls.crl_file} expired on {lists_until:%Y-%m-%d}, so no broker is accepted"
        yield fail("tls", f"{text}. Copy the current list of the authority; 'stockworker pki crl' writes one")
    if tls.cert_file is not None and tls.ca_file is not None and not is_issued_by(tls.cert_file, tls.ca_file):
        text = f"{tls.cert_file} was issued by {chain[-1].issuer}, not by the authority in {tls.ca_file}"
        yield warn("tls", f"{text}. If the broker refuses it, get a certificate from the fleet's authority")


def validity(subject: str, shown: str, facts: CertificateFacts, now: datetime, command: str | None = None) -> Finding:
    """Check the validity period of a certificate. `command` renews it."""
    renew = "Renew it" if command is None else f"Renew it with {command}"
    until = f"{facts.valid_until:%Y-%m-%d}"
    if now < facts.valid_from:
        return fail(
            subject, f"{shown} is not valid before {facts.valid_from:%Y-%m-%d}. Check the clock of this machine"
        )
    if now > facts.valid_until:
        return fail(subject, f"{shown} expired on {until}. {renew}")
    if now > facts.valid_until - EXPIRES_SOON:
        return warn(subject, f"{shown} expires on {until}. {renew}")
    return ok(subject, f"{shown} is valid until {until}")


def check_handlers(config: Config) -> Iterator[Finding]:
    """Check the handlers of this worker."""
    try:
        specs = handler_specs(config)
    except ConfigError as error:
        yield fail("handlers", str(error))
        return
    for folder in config.worker.handler_paths:
        if not folder.is_dir():
            yield fail(
                "handlers", f"worker.handler_paths: {folder} is not a folder. Create it, or remove it from the list"
            )
    broken = _broken(specs, config.worker.handler_paths)
    for job_type, problem in broken.items():
        yield fail("handlers", f"handlers.{job_type}: {problem}")
    usable = sorted(specs.keys() - broken.keys())
    if usable:
        yield ok("handlers", f"{len(usable)} job types: {', '.join(usable)}")


def _broken(specs: Mapping[JobType, HandlerSpec], folders: Sequence[Path]) -> dict[JobType, str]:
    """The handlers that can't start, each with its problem and the remedy."""
    python = [spec for spec in specs.values() if isinstance(spec, PythonHandler)]
    coroutines = [spec.function for spec in python if spec.concurrency > 1]
    problems = failed_imports([spec.function for spec in python], list(map(str, folders)), coroutines)
    broken = {}
    for job_type, spec in specs.items():
        if isinstance(spec, CommandHandler):
            if shutil.which(spec.argv[0]) is None:
                broken[job_type] = f"{spec.argv[0]} is not an executable file. Install it, or correct 'command'"
        elif spec.function in problems:
            remedy = "Correct 'python', or add the folder of the module to worker.handler_paths"
            broken[job_type] = f"{spec.function} can't be loaded: {problems[spec.function]}. {remedy}"
    return broken


def check_folder(key: str, file: Path) -> Finding:
    """Check that a service can write its file at the configured path."""
    folder = file.parent
    if not folder.is_dir():
        text = f"{key}: the folder {folder} does not exist"
        return warn("files", f"{text}. The systemd unit creates it at start; without systemd run 'mkdir -p {folder}'")
    unusable = [path for path in (folder, file) if path.exists() and not os.access(path, os.R_OK | os.W_OK)]
    if unusable:
        text = f"{key}: {unusable[0]} is not readable and writable for user {os.getuid()}, who runs this check"
        return fail("files", f"{text}. Run the check as the user of the service, or change the owner of {folder}")
    return ok("files", f"{key}: {file}")
