"""Replacing all certificates under load loses no job, and the old certificates are no longer needed."""

import asyncio
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from stockworker.client import Client
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Stats
from tests.harness.fleet import Fleet, Service, python_handlers
from tests.harness.jobs import as_client, end_of
from tests.harness.waiting import until


def test_every_certificate_is_renewed_under_load(tmp_path: Path) -> None:
    settings = {"handlers": python_handlers("echo")}
    with Fleet(tmp_path, workers=2, settings=settings) as fleet:
        worker = fleet.workers[0]
        for name in ("host-1", "dispatcher"):
            fleet.broker.revoke(name)  # in force when the broker is restarted: only the new ones are of use then

        def renew_client(name: str, service: Service) -> None:
            fleet.broker.reissue(name)
            service.send_signal(signal.SIGHUP)

        def renew_broker() -> None:
            fleet.broker.renew()
            fleet.broker.reload()

        def restart_broker() -> None:
            fleet.broker.stop()
            fleet.broker.start()

        def links(service: Service) -> int:
            return len(service.events("link_up"))

        async def act(client: Client) -> list[str]:
            job_ids: list[str] = []

            async def keep_submitting(change: Callable[[], None], is_done: Callable[[], bool]) -> None:
                task = asyncio.create_task(asyncio.to_thread(change))
                while not (task.done() and is_done()):
                    job_ids.extend(await asyncio.gather(*(client.submit("echo") for _ in range(25))))
                await task

            await keep_submitting(lambda: renew_client("host-1", worker), lambda: links(worker) > 1)
            await keep_submitting(
                lambda: renew_client("dispatcher", fleet.dispatcher), lambda: links(fleet.dispatcher) > 1
            )
            await keep_submitting(renew_broker, lambda: True)
            await keep_submitting(restart_broker, lambda: links(worker) > 2 and links(fleet.dispatcher) > 2)
            states = {(await end_of(client, job_id)).state for job_id in job_ids}
            assert states == {State.COMPLETED}
            await until(lambda: fleet.workers[1].events("link_up")[1:], "the other worker is back")
            return job_ids

        job_ids = as_client(fleet, act)
        assert len(job_ids) >= 100
        for service in (worker, fleet.dispatcher):
            reasons = [event["reason"] for event in service.events("link_down")]
            assert any("reconnecting with the new certificate" in reason for reason in reasons)
            assert not any("revoked" in reason for reason in reasons)
        assert fleet.stored("SELECT COUNT(*) FROM attempt WHERE outcome = 'ok'") == [(len(job_ids),)]


def test_all_services_warn_before_the_certificate_of_the_broker_expires(tmp_path: Path) -> None:
    with Fleet(tmp_path, workers=1) as fleet:
        fleet.broker.stop()
        fleet.broker.renew(timedelta(days=2, hours=1))
        fleet.broker.start()
        for service in (fleet.dispatcher, fleet.workers[0]):
            event = service.await_event("broker_certificate_expires", days=2)
            assert event["level"] == "error"
            assert str(fleet.broker.port) in str(event["broker"])


def test_both_services_warn_before_their_certificate_expires(tmp_path: Path) -> None:
    with Fleet(tmp_path, workers=1) as fleet:
        for name, service, days, level in (
            ("dispatcher", fleet.dispatcher, 20, "warning"),
            ("host-1", fleet.workers[0], 2, "error"),
        ):
            assert service.events("certificate_expires") == []
            fleet.broker.reissue(name, timedelta(days=days, hours=1))
            service.send_signal(signal.SIGHUP)
            event = service.await_event("certificate_expires", days=days)
            assert (event["level"], event["file"]) == (level, str(fleet.broker.identity(name).certificate))

        async def ask(client: Client) -> Stats:
            while (stats := await client.stats()).workers[0].certificate_days != 2:  # noqa: ASYNC110 (heartbeats cause no event in this process)
                await asyncio.sleep(0.1)
            return stats

        assert as_client(fleet, ask).certificate_days == 20
