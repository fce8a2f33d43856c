"""The installed services on a booted machine, under their sandbox."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.harness import injected_hangs, site
from tests.harness.guest import Guest
from tests.harness.package_tools import WITH_APT
from tests.packages.conftest import exposure, on

pytestmark = on(*WITH_APT)

KEYS = "/etc/stockworker/tls"
TEMPORARY = "/tmp"  # noqa: S108 (inside the private /tmp of the service)
UNITS = ("mosquitto.service", "stockworker-dispatcher.service", "stockworker@1.service")
JOIN = "stockworker-join.service"
WEB = "stockworker-web.service"


@pytest.fixture(scope="module")
def machine(configured: tuple[Path, ...], host: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A machine on which everything runs."""
    with Guest(configured, tmp_path_factory.mktemp("services") / host, host) as guest:
        site.start(guest)
        yield guest


@pytest.mark.parametrize("unit", UNITS)
def test_the_exposure_of_a_service_is_low(machine: Guest, unit: str) -> None:
    assert exposure(machine, unit) <= 1.1


@pytest.mark.parametrize("unit", UNITS)
def test_restricting_addresses_lowers_the_exposure_of_a_service(machine: Guest, unit: str) -> None:
    drop_in = machine.root / "usr" / "share" / "doc" / "stockworker-agent" / "examples" / "network.conf"
    machine.write(f"/etc/systemd/system/{unit}.d/network.conf", drop_in.read_text())
    machine.run("systemctl", "daemon-reload")
    try:
        assert exposure(machine, unit) <= 1.0
    finally:
        (machine.root / "etc" / "systemd" / "system" / f"{unit}.d" / "network.conf").unlink()
        machine.run("systemctl", "daemon-reload")


def test_the_exposure_of_the_join_server_is_that_of_a_service_of_root(machine: Guest) -> None:
    """Its folder is root's. systemd counts 0.4 for the user root."""
    assert exposure(machine, JOIN) <= 1.4


def test_the_exposure_of_the_web_page_is_low(machine: Guest) -> None:
    assert exposure(machine, WEB) <= 1.1


def test_the_web_page_shows_the_fleet_under_its_sandbox(machine: Guest) -> None:
    """As docs/web.md describes it: a certificate, a configuration and an account."""
    assert machine.try_run("systemctl", "is-enabled", WEB).stdout.strip() == "disabled"
    machine.run("cp", f"{KEYS}/operator.crt", f"{KEYS}/web.crt")
    machine.run("cp", f"{KEYS}/operator.key", f"{KEYS}/web.key")
    identity = {"ca_file": f"{KEYS}/ca.crt", "cert_file": f"{KEYS}/web.crt", "key_file": f"{KEYS}/web.key"}
    page = {"job_processor": {"tls": identity, "web": {"accounts": "/etc/stockworker/web-accounts"}}}
    machine.write("/etc/stockworker/web.yml", json.dumps(page))
    words = "stockworker web account mary --role operator"
    machine.run("sh", "-c", f"echo 'a long password' | {words}")
    machine.run("systemctl", "start", WEB)
    try:
        script = (
            "import http.cookiejar, urllib.parse, urllib.request as r;"
            "o = r.build_opener(r.HTTPCookieProcessor(http.cookiejar.CookieJar()));"
            "form = urllib.parse.urlencode({'name': 'mary', 'password': 'a long password'}).encode();"
            "o.open('http://127.0.0.1:8880/sign-in', form);"
            "print(o.open('http://127.0.0.1:8880/jobs').status, o.open('http://127.0.0.1:8880/').read().decode())"
        )
        machine.wait_until(
            lambda: f"{machine.name}-1" in machine.run("python3", "-c", script), "the page shows the fleet"
        )
        assert "the page may not" not in machine.journal(WEB)
    finally:
        machine.run("systemctl", "stop", WEB)


def test_systemd_understands_every_line_of_every_unit(machine: Guest) -> None:
    units = [*UNITS, JOIN, WEB, "stockworker@1.path", "stockworker-dispatcher.path", "stockworker.target"]
    assert machine.run("systemd-analyze", "verify", "--man=no", *units) == ""


def test_the_boot_logs_no_warning(machine: Guest) -> None:
    said = machine.run("journalctl", "--no-pager", "-o", "cat", "-p", "warning")
    assert [line for line in said.splitlines() if "stockworker" in line or "mosquitto" in line] == []


def test_the_built_in_handlers_work(machine: Guest) -> None:
    machine.run(
        "systemd-run", "--unit=provider", "-p", "WorkingDirectory=/srv/http", "python3", "-m", "http.server", "8000"
    )
    machine.wait_until(partial(site.is_listening, machine, 8000), "the provider of prices listens")

    imported = site.submit(machine, "data_import", {"source": "/srv/import/aapl.json", "symbol": "AAPL"})
    updated = site.submit(machine, "price_update", {"symbols": ["MSFT"]})
    analysed = site.submit(
        machine, "technical_analysis", {"symbol": "AAPL", "indicators": [{"name": "sma", "period": 1}]}
    )

    assert "AAPL" in str(imported)
    assert "MSFT" in str(updated)
    assert "420.05" in str(analysed)


def test_a_python_handler_of_the_administrator_works(machine: Guest) -> None:
    assert site.submit(machine, "greet", "world") == "hello, world"


def test_a_command_is_confined(machine: Guest) -> None:
    state = "/var/lib/stockworker"
    found = site.submit(
        machine,
        "probe",
        {
            "write": [
                TEMPORARY,
                f"{state}/market",
                state,
                f"{state}/dispatcher",
                "/etc",
                "/usr/share/stockworker-code",
                "/home",
            ],
            "read": [
                "/etc/stockworker/job_processor.yml",
                f"{KEYS}/{machine.name}-1.key",
                f"{KEYS}/{machine.name}-2.key",
                f"{KEYS}/dispatcher.key",
            ],
        },
    )

    assert found["writes"] == {
        TEMPORARY: "done",
        f"{state}/market": "done",
        state: "OSError",
        f"{state}/dispatcher": "PermissionError",
        "/etc": "OSError",
        "/usr/share/stockworker-code": "OSError",
        "/home": "PermissionError",
    }
    assert found["reads"] == {
        "/etc/stockworker/job_processor.yml": "done",
        f"{KEYS}/{machine.name}-1.key": "PermissionError",
        f"{KEYS}/{machine.name}-2.key": "PermissionError",
        f"{KEYS}/dispatcher.key": "PermissionError",
    }
    assert found["starts a program"] == 0
    assert int(found["capabilities"], 16) == 0


def test_events_of_a_job_are_in_the_systemd_journal(machine: Guest) -> None:
    site.submit(machine, "greet", "journal")
    found = machine.run("journalctl", "--no-pager", "-o", "json", "STOCKWORKER_EVENT=handler_log")
    entry = json.loads(found.splitlines()[-1])
    assert entry["_SYSTEMD_UNIT"].startswith("stockworker@")
    assert entry["STOCKWORKER_JOB_TYPE"] == "greet"
    assert entry["STOCKWORKER_WORKER_ID"].startswith(machine.name)

    told = machine.run("journalctl", "--no-pager", "-x", f"STOCKWORKER_JOB_ID={entry['STOCKWORKER_JOB_ID']}")
    assert "greeting journal" in told
    assert "A line that a handler logged" in told  # the explanation from the catalogue


def test_the_status_shows_the_state_of_a_service(machine: Guest) -> None:
    for service in ("stockworker-dispatcher", *site.WORKERS):
        assert machine.show(service, "StatusText").startswith("connected to ")


def test_a_worker_reloads_its_configuration(machine: Guest) -> None:
    before = machine.show("stockworker@1", "MainPID")
    machine.run("systemctl", "reload", "stockworker@1")
    assert machine.show("stockworker@1", "MainPID") == before
    assert "configuration" in machine.journal("stockworker@1")


def test_the_broker_reloads_its_access_list_and_keeps_its_clients(machine: Guest) -> None:
    before = machine.show("mosquitto", "MainPID")
    machine.run("systemctl", "reload", "mosquitto")
    assert site.submit(machine, "greet", "again") == "hello, again"
    assert machine.show("mosquitto", "MainPID") == before


def test_a_killed_worker_restarts(machine: Guest) -> None:
    before = machine.show("stockworker@1", "MainPID")
    machine.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "stockworker@1")
    machine.wait_until(lambda: machine.show("stockworker@1", "MainPID") not in {"0", before}, "it is started again")
    site.start(machine)


@pytest.fixture(scope="module")
def breakable(machine: Guest) -> Iterator[Guest]:
    """A machine with workers that can be made to hang, and a short WatchdogSec=."""
    drop_in = "/etc/systemd/system/stockworker@.service.d/watchdog.conf"
    injected_hangs.add_to(machine.write)
    machine.write(drop_in, "[Service]\nWatchdogSec=2s\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", *site.WORKERS)
    site.start(machine)
    yield machine
    (machine.root / drop_in[1:]).unlink()
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", *site.WORKERS)
    site.start(machine)


@pytest.mark.parametrize("hangs", [injected_hangs.HANGS[:2], injected_hangs.HANGS[2:]], ids=["fatal", "of the link"])
def test_workers_that_hang_recover_and_log_their_stacks(
    breakable: Guest, hangs: tuple[injected_hangs.Hang, ...]
) -> None:
    before = {worker: len(breakable.journal(worker)) for worker in site.WORKERS}
    pids = {worker: breakable.show(worker, "MainPID") for worker in site.WORKERS}
    for worker, hang in zip(site.WORKERS, hangs, strict=True):
        breakable.run(*injected_hangs.kill_command(hang, worker))

    for number in (1, 2):
        assert site.submit(breakable, f"{breakable.name}-{number}", None) is None

    for worker, hang in zip(site.WORKERS, hangs, strict=True):

        def has_left_its_stack(worker: str = worker, hang: injected_hangs.Hang = hang) -> bool:
            return hang.stack in breakable.journal(worker)[before[worker] :]

        breakable.wait_until(has_left_its_stack, f"{hang.name}: the stack is in the journal")
        assert (breakable.show(worker, "MainPID") != pids[worker]) == hang.fatal
    site.start(breakable)


def scattered(machine: Guest) -> set[str]:
    """The processes of scattering jobs that still run."""
    # The brackets prevent grep from finding itself.
    return set(machine.try_run("sh", "-c", "grep -sl '471[1]' /proc/[0-9]*/cmdline").stdout.split())


def test_all_processes_of_scattering_jobs_are_killed_and_no_others(machine: Guest) -> None:
    for worker in site.WORKERS:
        machine.wait_until(partial(site.is_active, machine, worker), f"{worker} is active")
    agents = [machine.show(worker, "MainPID") for worker in site.WORKERS]
    client = ("stockworker", "--config", "/root/operator.yml")
    machine.run(*client, "submit", "hold", '"alive"', "--id", "bystander")
    stays = [
        number % 10 == 0 for number in range(100)
    ]  # jobs are killed at their deadline, the others end by themselves
    jobs = [
        {"type": job_type, "payload": stay, "timeout": 2 if stay else 100, "max_attempts": 1}
        for stay in stays
        for job_type in ("scatter", "scatter_command")
    ]
    machine.write("/root/jobs.jsonl", "\n".join(map(json.dumps, jobs)))

    submit = ("submit", "--batch", "/root/jobs.jsonl", "--wait", "--json")
    said = machine.try_run(*client, *submit, timeout_s=200).stdout

    ended = [json.loads(line) for line in said.splitlines() if '"state"' in line]
    assert sum(job["state"] == "completed" for job in ended) == 180, said
    assert sum("not done after 2 s" in job.get("reason", "") for job in ended) == 20, said
    machine.wait_until(lambda: not scattered(machine), "nothing is left of any job")
    machine.write("/opt/jobs/go-on", "")
    assert machine.run(*client, "result", "bystander", "--wait").strip() == '"alive"'
    assert [machine.show(worker, "MainPID") for worker in site.WORKERS] == agents
    machine.wait_until(lambda: group_sizes(machine) <= {1}, "each process of handlers is alone in its group")
    (machine.root / "opt/jobs/go-on").unlink()


def group_sizes(machine: Guest) -> set[int]:
    """The number of processes in the control groups of handlers."""
    groups = "/sys/fs/cgroup/system.slice/system-stockworker.slice/*/handler-*"
    counted = machine.try_run("sh", "-c", f"for group in {groups}; do wc -l < $group/cgroup.procs; done").stdout
    return {int(line) for line in counted.splitlines() if line.isdecimal()}


def test_a_worker_logs_how_it_confines_its_jobs(machine: Guest) -> None:
    found = machine.run("journalctl", "--no-pager", "-o", "json", "STOCKWORKER_EVENT=confined")
    assert {json.loads(line)["STOCKWORKER_BY"] for line in found.splitlines()} == {"control groups"}


@pytest.mark.parametrize(
    "end",
    [("systemctl", "stop"), ("systemctl", "kill", "--signal=KILL", "--kill-whom=main")],
    ids=["stopped", "killed"],
)
def test_no_process_of_a_job_outlives_its_worker(machine: Guest, end: tuple[str, ...]) -> None:
    client = ("stockworker", "--config", "/root/operator.yml")
    job = machine.run(*client, "submit", "scatter_command", "true", "--quiet").strip()
    try:
        machine.wait_until(lambda: len(scattered(machine)) >= 4, "the job runs")
        before = scattered(machine)

        machine.run(*end, *site.WORKERS)

        machine.wait_until(lambda: not before & scattered(machine), "nothing is left of it")
    finally:
        machine.run("systemctl", "start", *site.WORKERS)
        site.start(machine)
        machine.try_run(*client, "cancel", job)
        machine.wait_until(lambda: not scattered(machine), "the job is cancelled wherever it runs now")


def test_the_target_restarts_all_running_services(machine: Guest) -> None:
    services = ("stockworker-dispatcher", *site.WORKERS)
    before = {service: machine.show(service, "MainPID") for service in services}

    machine.run("systemctl", "restart", "stockworker.target")
    site.start(machine)

    after = {service: machine.show(service, "MainPID") for service in services}
    assert all(after[service] != before[service] for service in services)


def test_a_dispatcher_with_a_full_disk_stays_and_recovers(machine: Guest) -> None:
    service, folder = "stockworker-dispatcher", "/var/lib/stockworker/dispatcher"
    options = "mode=700,uid=stockworker-dispatcher,gid=stockworker-dispatcher"
    machine.run("systemctl", "stop", service)
    machine.run("mount", "-t", "tmpfs", "-o", f"size=400M,{options}", "tmpfs", folder)
    try:
        machine.run("systemctl", "start", service)
        site.start(machine)
        before = machine.show(service, "MainPID")
        since = machine.run("date", "+%F %T.%N").strip()

        def journal() -> str:
            return machine.run("journalctl", "--no-pager", "-o", "cat", "-u", service, "--since", since)

        machine.run("mount", "-o", "remount,size=4M", folder)
        machine.wait_until(lambda: "stores nothing because the disk is full" in journal(), "it notices the full disk")
        client = ("stockworker", "--config", "/root/operator.yml")
        refused = machine.try_run(*client, "submit", "greet", '"full"')
        assert "the disk of its job store is nearly full" in refused.stdout
        assert "warn  dispatcher" in machine.run(*client, "check")

        machine.run("mount", "-o", "remount,size=400M", folder)
        machine.wait_until(lambda: "works again with its store" in journal(), "it notices the room")
        assert site.submit(machine, "greet", "room") == "hello, room"
        assert "Traceback" not in journal()
        assert (machine.show(service, "MainPID"), machine.show(service, "NRestarts")) == (before, "0")
    finally:
        machine.run("systemctl", "stop", service)
        machine.run("umount", folder)
        machine.run("systemctl", "start", service)
    site.start(machine)


def test_scripts_can_wait_until_all_services_have_stopped(machine: Guest) -> None:
    services = ("stockworker-dispatcher", *site.WORKERS)
    machine.run("systemctl", "stop", "stockworker*.service")
    assert {machine.show(service, "ActiveState") for service in services} == {"inactive"}
    machine.run("systemctl", "start", "multi-user.target")
    site.start(machine)


def test_a_worker_without_its_key_names_the_missing_file(machine: Guest) -> None:
    name = f"{machine.name}-3"
    machine.write("/etc/stockworker/instances/3.yml", site.instance(name))
    machine.run("cp", f"{KEYS}/{machine.name}-1.crt", f"{KEYS}/{name}.crt")

    assert machine.try_run("systemctl", "start", "stockworker@3").returncode != 0

    missing = f"{KEYS}/{name}.key: can't read the private key: No such file or directory; copy it there"
    assert missing in machine.journal("stockworker@3")
    assert machine.show("stockworker@3", "NRestarts") == "0"


def test_a_worker_with_the_key_of_another_certificate_names_both_files(machine: Guest) -> None:
    name = f"{machine.name}-7"
    machine.write("/etc/stockworker/instances/7.yml", site.instance(name))
    machine.run("cp", f"{KEYS}/{machine.name}-1.crt", f"{KEYS}/{name}.crt")
    machine.run("install", "-m", "600", f"{KEYS}/{machine.name}-2.key", f"{KEYS}/{name}.key")

    assert machine.try_run("systemctl", "start", "stockworker@7").returncode != 0

    (line,) = [line for line in machine.journal("stockworker@7").splitlines() if "not the private key of" in line]
    assert f"{name}.key: not the private key of {KEYS}/{name}.crt; issue both again, or copy both" in line
    assert machine.show("stockworker@7", "ExecMainStatus") == "78"
    assert machine.show("stockworker@7", "NRestarts") == "0"


def test_a_worker_with_a_certificate_of_another_authority_logs_it_and_retries(machine: Guest) -> None:
    name = f"{machine.name}-8"
    machine.write("/etc/stockworker/instances/8.yml", site.instance(name))
    machine.run("stockworker", "pki", "init", "--ca", "/root/other")
    machine.run("stockworker", "pki", "issue", "worker", name, "--ca", "/root/other")
    machine.run("sh", "-c", f"cp /root/other/issued/{name}.* {KEYS}")

    machine.run("systemctl", "start", "stockworker@8")

    def tells() -> bool:
        # Which bytes arrive before the broker resets the connection is random.
        said = machine.journal("stockworker@8").splitlines()
        return any(f"{KEYS}/{name}.crt: " in line and "the client certificate" in line for line in said)

    machine.wait_until(tells, "the worker logs what is wrong")
    assert "not connected" in machine.show("stockworker@8", "StatusText")
    machine.run("systemctl", "stop", "stockworker@8")


@pytest.mark.parametrize("last", ["key", "crt"])
def test_a_worker_starts_when_all_of_its_files_have_arrived(machine: Guest, last: str) -> None:
    name, service = f"{machine.name}-4", "stockworker@4"
    example = machine.root / "usr" / "share" / "doc" / "stockworker-agent" / "examples" / "late-certificates.conf"
    machine.write(f"/etc/systemd/system/{service}.service.d/late-certificates.conf", example.read_text())
    machine.write("/etc/stockworker/instances/4.yml", site.instance(name))
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", f"{service}.path", service)
    # The files are those of another worker, which does not matter here: the service starts.
    first = "crt" if last == "key" else "key"
    machine.run("cp", "-p", f"{KEYS}/{machine.name}-1.{first}", f"{KEYS}/{name}.{first}")
    machine.wait_until(lambda: machine.show(service, "ActiveState") == "inactive", "it waits, and has not failed")

    machine.run("cp", "-p", f"{KEYS}/{machine.name}-1.{last}", f"{KEYS}/{name}.{last}")

    machine.wait_until(partial(site.is_active, machine, service), "the worker has started")
    machine.run("systemctl", "stop", f"{service}.path", service)
    machine.run("rm", f"{KEYS}/{name}.key", f"{KEYS}/{name}.crt")


def test_a_key_may_be_encrypted_on_disk(machine: Guest) -> None:
    name = f"{machine.name}-6"
    machine.write("/etc/stockworker/instances/6.yml", site.instance(name))
    machine.run("cp", f"{KEYS}/{machine.name}-1.crt", f"{KEYS}/{name}.crt")
    machine.run("systemd-creds", "encrypt", f"--name={name}.key", f"{KEYS}/{machine.name}-1.key", f"{KEYS}/{name}.cred")
    example = machine.root / "usr" / "share" / "doc" / "stockworker-agent" / "examples" / "encrypted-key.conf"
    machine.write("/etc/systemd/system/stockworker@6.service.d/encrypted-key.conf", example.read_text())
    machine.run("systemctl", "daemon-reload")

    machine.run("systemctl", "start", "stockworker@6")

    assert site.is_active(machine, "stockworker@6")
    assert "connected to" in machine.show("stockworker@6", "StatusText")
    machine.run("systemctl", "stop", "stockworker@6")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "job_processor: {worker: {max_concurrent_jobs: many}}\n",
            "5.yml:1: worker.max_concurrent_jobs: must be a whole number, not 'many'",
        ),
        ("job_processor:\n  worker: {max_concurrent_jobs: 3\n", "5.yml:3: "),
    ],
)
def test_an_invalid_configuration_is_logged_once_without_restarts(machine: Guest, text: str, told: str) -> None:
    machine.write("/etc/stockworker/instances/5.yml", text)
    since = machine.run("date", "+%F %T.%N").strip()

    assert machine.try_run("systemctl", "start", "stockworker@5").returncode != 0

    said = machine.run("journalctl", "--no-pager", "-o", "cat", "-u", "stockworker@5", "--since", since)
    (line,) = [line for line in said.splitlines() if "5.yml" in line]
    assert f"/etc/stockworker/instances/{told}" in line
    assert machine.show("stockworker@5", "ExecMainStatus") == "78"
    assert machine.show("stockworker@5", "NRestarts") == "0"


def test_a_worker_is_ready_though_its_broker_is_not(machine: Guest) -> None:
    machine.run("systemctl", "stop", "mosquitto")
    try:
        machine.run("systemctl", "restart", "stockworker@1")
        assert "not connected" in machine.show("stockworker@1", "StatusText")
        assert "connection refused: is the broker running, and is this its port?" in machine.journal("stockworker@1")
    finally:
        machine.run("systemctl", "start", "mosquitto")
    site.start(machine)


def test_a_machine_joins_at_the_service_of_the_authority(machine: Guest) -> None:
    def make_token() -> str:
        create = ("stockworker", "pki", "token", "create", "--name", f"{machine.name}-*", "--server", "localhost")
        return machine.run(*create, "--quiet").strip()

    def join(token: str, instance: str) -> "subprocess.CompletedProcess[str]":
        where = ("--instance", instance, "--folder", f"/root/joined-{instance}")
        return machine.try_run("stockworker", "pki", "join", token, *where, "--json", "--quiet")

    assert machine.try_run("systemctl", "is-enabled", JOIN).stdout.strip() == "disabled"
    drop_in = f"/etc/systemd/system/{JOIN}.d/options.conf"
    machine.write(drop_in, '[Service]\nEnvironment="OPTIONS=--host localhost --broker localhost"\n')
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", JOIN)
    try:
        assert machine.show(JOIN, "StatusText") == "waiting for new machines, at port 8884"
        token, name = make_token(), f"{machine.name}-9"
        done = join(token, "9")
        assert done.returncode == 0, done.stdout + machine.journal(JOIN)
        assert json.loads(done.stdout)["name"] == name
        assert "used already" in join(token, "10").stdout
        assert name in machine.run("stockworker", "pki", "list"), "the registry is written"

        machine.run("stockworker", "pki", "renew", name)  # by root, outside of the sandbox
        assert join(make_token(), "11").returncode == 0
        assert f"worker {name} joined" in machine.journal(JOIN)
    finally:
        machine.run("systemctl", "stop", JOIN)
        (machine.root / drop_in[1:]).unlink()
        machine.run("systemctl", "daemon-reload")


def test_the_join_server_reaches_only_the_authority_of_all_that_root_owns(machine: Guest) -> None:
    probe = f"{JOIN.removesuffix('.service')}-probe.service"
    unit = (machine.root / "usr/lib/systemd/system" / JOIN).read_text()
    script = (
        "for file in /etc/shadow /etc/stockworker/tls/dispatcher.key /etc/stockworker/ca/ca.key; do"
        " test ! -r $file || echo reads $file; done;"
        f"for folder in /etc /etc/stockworker /etc/stockworker/ca /root /usr /var/lib {TEMPORARY}; do"
        " ! touch $folder/probe 2>/dev/null || echo writes $folder; done;"
        "rm -f /etc/stockworker/ca/probe; grep CapEff /proc/self/status"
    )
    machine.write("/opt/jobs/probe.sh", script)
    unit = unit.replace("Type=notify", "Type=oneshot").replace("Restart=always", "Restart=no")
    unit = unit.replace("ExecStart=/usr/bin/stockworker pki serve $OPTIONS", "ExecStart=/bin/sh /opt/jobs/probe.sh")
    machine.write(f"/etc/systemd/system/{probe}", unit)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", probe)
    said = machine.journal(probe).splitlines()
    assert [line for line in said if line.startswith(("reads", "writes"))] == [
        "reads /etc/stockworker/ca/ca.key",
        "writes /etc/stockworker/ca",
        f"writes {TEMPORARY}",
    ]
    assert any(line.startswith("CapEff") and int(line.split()[1], 16) == 0 for line in said)


def test_the_passphrase_of_the_authority_reaches_the_join_server_as_a_credential(machine: Guest) -> None:
    """By the steps in the comments of the example."""
    example = machine.root / "usr/share/doc/stockworker/examples/join-passphrase.conf"
    machine.run("mv", "/etc/stockworker/ca", "/etc/stockworker/ca-without-passphrase")
    try:
        machine.write("/root/passphrase", "correct horse")
        machine.run("stockworker", "pki", "init", "--passphrase-file", "/root/passphrase")
        sealed = "/etc/stockworker/join-passphrase.cred"
        machine.run("systemd-creds", "encrypt", "--name=passphrase", "/root/passphrase", sealed)
        machine.write(f"/etc/systemd/system/{JOIN}.d/passphrase.conf", example.read_text())
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", JOIN)
        assert machine.show(JOIN, "StatusText").startswith("waiting for new machines")
    finally:
        machine.run("systemctl", "stop", JOIN)
        (machine.root / f"etc/systemd/system/{JOIN}.d/passphrase.conf").unlink(missing_ok=True)
        machine.run("systemctl", "daemon-reload")
        machine.run("rm", "-r", "/etc/stockworker/ca")
        machine.run("mv", "/etc/stockworker/ca-without-passphrase", "/etc/stockworker/ca")
