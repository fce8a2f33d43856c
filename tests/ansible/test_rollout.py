"""From bare machines to a fleet, and releases that reach it: what a change must not break."""

import pytest

from tests.ansible.conftest import Releases, changed, check_contained
from tests.ansible.observed import certificates, changes, contents, drained, process_ids, run_on, version
from tests.harness import releases
from tests.harness.fleet_load import Load
from tests.harness.lab import MACHINES, WORKERS, Lab

pytestmark = pytest.mark.timeout(1800)


def test_a_preview_on_bare_machines_changes_nothing(bare: Lab) -> None:
    before = contents(bare)
    bare.play("site", "--check", "--diff")
    assert changes(before, contents(bare)) == []


def test_bare_machines_complete_jobs(fleet: Lab) -> None:
    for worker in WORKERS:
        run_on(fleet, worker)


def test_a_second_run_changes_nothing(fleet: Lab) -> None:
    assert changed(fleet.play("site", "--diff")) == dict.fromkeys(MACHINES, 0)


def test_a_service_reads_what_an_interrupted_playbook_left_unread(fleet: Lab) -> None:
    """Each run compares times, because a handler of a former run that was killed is lost."""
    hub, unit, file = fleet.machines["hub"], "stockworker-dispatcher", "/etc/stockworker/denied-workers"

    def apply(by: str, *options: str) -> bool:
        arguments = f"unit={unit} files={file},/etc/does-not-exist by={by}"
        done = fleet.try_run("ansible", "hub", "-m", "stockworker.edge.applied", "-a", arguments, *options)
        assert done.returncode == 0, done.stdout
        return done.stdout.startswith("hub | CHANGED")

    assert not apply("reload")
    before = hub.show(unit, "MainPID")
    hub.run("touch", file)
    assert apply("reload", "--check")
    assert apply("reload")
    assert not apply("reload")
    assert hub.show(unit, "MainPID") == before
    assert apply("restart"), "the file is newer than the start"
    assert not apply("restart")
    assert not apply("reload")
    assert hub.show(unit, "MainPID") != before
    hub.run("systemctl", "stop", unit)
    hub.run("touch", file)
    assert not apply("restart")
    assert hub.show(unit, "ActiveState") == "inactive", "an administrator has stopped it"
    hub.run("systemctl", "start", unit)


def test_a_fleet_without_a_former_version_is_not_rolled_back(fleet: Lab) -> None:
    before = process_ids(fleet)
    done = fleet.try_play("rollback", "-e", f"rollback_from={releases.FIRST.version}")
    assert done.returncode != 0
    for name in ("hub", *WORKERS):
        assert f"{name} had no version before {releases.FIRST.version}, so it stays as it is." in done.stdout
    assert process_ids(fleet) == before


def test_keys_stay_on_the_machine_that_they_serve(fleet: Lab) -> None:
    find = ("find", "/", "-xdev", "-path", "/usr/share/doc", "-prune", "-o", "-name", "*.key", "-print")  # no examples
    keys = {name: machine.run(*find).split() for name, machine in fleet.machines.items()}
    tls = "/etc/stockworker/tls"
    assert {name: sorted(found) for name, found in keys.items()} == {
        "desk": ["/etc/stockworker/ca/ca.key", f"{tls}/operator.key"],
        "hub": ["/etc/mosquitto/stockworker/broker.key", f"{tls}/dispatcher.key", f"{tls}/mq.lab.example.key"],
        **{name: [f"{tls}/{name}-1.key"] for name in WORKERS},
    }


def metrics(fleet: Lab, machine: str, service: str) -> str:
    """What node_exporter reads of a service: by a link, as a user of its own."""
    file = f"/var/lib/prometheus/node-exporter/stockworker-{service}.prom"
    read = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "cat", file)
    fleet.machines[machine].wait_until(
        lambda: (
            f'stockworker_service_connected{{service="{service}"}} 1.0'
            in fleet.machines[machine].run("sh", "-c", f"{' '.join(read)} || true")
        ),
        f"the metrics of {service} are written",
    )
    return fleet.machines[machine].run(*read)


def test_the_services_write_metrics_for_node_exporter(fleet: Lab) -> None:
    of_dispatcher = metrics(fleet, "hub", "dispatcher")
    assert "stockworker_jobs_unaccounted 0.0" in of_dispatcher
    assert 'stockworker_fleet_worker_online{worker="edge-1-1"} 1.0' in of_dispatcher
    for worker in WORKERS:
        assert f'stockworker_worker_slots{{worker="{worker}-1"}}' in metrics(fleet, worker, f"{worker}-1")


def test_an_upgrade_under_load_loses_no_job(fleet: Lab, published: Releases, load: Load) -> None:
    target = published.publish(releases.GOOD)
    fleet.play("rollout", "-e", f"repo_version={target}")
    assert set(load.outcomes()) == {"completed"}
    assert {name: version(machine) for name, machine in fleet.machines.items()} == dict.fromkeys(MACHINES, target)
    assert drained(fleet) == []
    for worker in WORKERS:
        run_on(fleet, worker)


def test_a_repeated_rollout_leaves_workers_alone(fleet: Lab) -> None:
    before = process_ids(fleet)
    fleet.play("rollout", "-e", f"repo_version={version(fleet.machines['edge-1'])}")
    assert process_ids(fleet) == before


def test_a_release_that_fails_the_canary_job_is_contained(fleet: Lab, published: Releases, load: Load) -> None:
    assert "Complete a canary job" in check_contained(fleet, published, releases.FAILS_JOBS, load)


def test_certificates_are_renewed_under_load(fleet: Lab, load: Load) -> None:
    pids, serials = process_ids(fleet), certificates(fleet)
    fleet.play("rotate_certificates")
    assert set(load.outcomes()) == {"completed"}
    assert not serials & certificates(fleet)
    assert process_ids(fleet) == pids, "no service has restarted"
    for worker in WORKERS:
        run_on(fleet, worker)
