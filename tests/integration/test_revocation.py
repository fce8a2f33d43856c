"""A revoked worker is disconnected immediately, and can't connect again."""

import signal
from pathlib import Path

from stockworker.client import Client
from stockworker.protocol.lifecycle import State
from tests.harness.advice import follows
from tests.harness.fleet import Fleet, owned, python_handlers
from tests.harness.jobs import as_client, end_of, until_running
from tests.harness.waiting import wait_until


@follows(
    "immediately: add … to dispatcher.denied_workers on the dispatcher's machine, and run 'systemctl reload "
    "stockworker-dispatcher'. Its jobs then go to other workers, and its messages are ignored",
    "then 'systemctl restart mosquitto'; a reload would keep existing connections. A restart loses no jobs",
)
def test_a_revoked_worker_loses_its_jobs_and_its_connection(tmp_path: Path) -> None:
    settings = {"handlers": python_handlers("wait_for_file"), "worker": {"max_concurrent_jobs": 1}}
    with Fleet(tmp_path / "fleet", workers=2, settings=settings) as fleet:
        thief, other = fleet.workers
        other.kill()
        flag = tmp_path / "flag"

        async def give_it_a_job(client: Client) -> str:
            job_id = await client.submit("wait_for_file", str(flag))
            await until_running(client, job_id)
            return job_id

        job_id = as_client(fleet, give_it_a_job)
        thief.send_signal(signal.SIGSTOP)  # the job finishes meanwhile, and the worker reports it too late
        fleet.reconfigure("dispatcher", "dispatcher", denied_workers=["host-1"])
        fleet.dispatcher.send_signal(signal.SIGHUP)
        denied = fleet.dispatcher.await_event("worker_denied")
        assert (denied["worker"], denied["leases"]) == ("host-1", 1)

        flag.touch()
        other.start()
        ended = as_client(fleet, lambda client: end_of(client, job_id))
        assert ended.state is State.COMPLETED
        assert fleet.outcomes(job_id) == ["released", "ok"]

        thief.send_signal(signal.SIGCONT)
        reason = thief.await_event("refused_by_dispatcher")["reason"]
        assert "worker host-1 is on the dispatcher's list of denied workers" in reason
        assert fleet.dispatcher.await_event("worker_refused")["worker"] == "host-1"
        thief.await_event("lease_withdrawn")
        assert fleet.stored("SELECT worker FROM attempt WHERE job_id = ? AND outcome = 'ok'", owned(job_id)) == [
            ("host-2",)
        ]

        fleet.broker.revoke("host-1")
        fleet.broker.stop()
        fleet.broker.start()
        fleet.dispatcher.await_event("link_up", times=2)
        # The reset of the connection can overtake the alert; the worker retries until it logs the reason.
        told = "the client certificate has been revoked: request a new one with 'stockworker pki request'"
        wait_until(lambda: told in str(thief.events("link_down")), "the worker logs the reason")
        assert thief.alive
        assert other.alive


def test_a_valid_list_of_denied_workers_is_reloaded(tmp_path: Path) -> None:
    denied = tmp_path / "denied"
    denied.write_text("# stolen in May\nhost-7\n\nhost-8 # and in June\n")
    settings = {"dispatcher": {"denied_workers": ["host-6"], "denied_workers_file": str(denied)}}
    with Fleet(tmp_path / "fleet", workers=1, settings=settings) as fleet:
        for name in ("host-6", "host-7", "host-8"):
            fleet.dispatcher.await_event("worker_denied", worker=name)
        denied.write_text("host 1\n")
        fleet.dispatcher.send_signal(signal.SIGHUP)
        problem = fleet.dispatcher.await_event("config_refused")["problem"]
        assert f"dispatcher.denied_workers_file: {denied}: 'host 1' is not a valid ID" in problem
        denied.write_text("host-1\n")
        fleet.dispatcher.send_signal(signal.SIGHUP)
        fleet.dispatcher.await_event("worker_denied", worker="host-1")
        for name in ("host-7", "host-8"):
            fleet.dispatcher.await_event("worker_admitted", worker=name)
        fleet.workers[0].await_event("refused_by_dispatcher")
        denied.write_text("")
        fleet.dispatcher.send_signal(signal.SIGHUP)
        fleet.dispatcher.await_event("worker_seen", times=2, worker="host-1")


def test_a_dispatcher_whose_list_is_missing_does_not_start(tmp_path: Path) -> None:
    with Fleet(tmp_path / "fleet", workers=0) as fleet:
        fleet.dispatcher.stop()
        fleet.reconfigure("dispatcher", "dispatcher", denied_workers_file="/nonexistent")
        fleet.dispatcher.start()
        assert fleet.dispatcher.wait() == 78
        assert "dispatcher.denied_workers_file: /nonexistent can't be read: No such file" in fleet.dispatcher.log
