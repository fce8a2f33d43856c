"""A client that submits each job once, and waits for no receipt: what the broker has acknowledged is not lost."""

import subprocess
from pathlib import Path

from tests.harness.fleet import TIMEOUT_S, Fleet, python_handlers
from tests.harness.tools import options
from tests.harness.waiting import wait_until

KILLS = 4
SHARE = 600
"""Jobs of each process of the dispatcher."""


def stored(fleet: Fleet) -> int:
    """How many different payloads are in the store."""
    ((found,),) = fleet.stored("SELECT count(DISTINCT body) FROM payload")
    return int(found)


def test_no_job_is_lost_while_the_dispatcher_is_killed_again_and_again(tmp_path: Path) -> None:
    """The broker keeps what arrives for the dispatcher, until the dispatcher has it on its disk."""
    with Fleet(tmp_path, workers=0, settings={"handlers": python_handlers("echo")}) as fleet:
        topic = ["-V", "5", "-q", "1", "-t", "jobs/queue/normal/echo"]
        command = ["mosquitto_pub", *options(fleet.broker, "client"), *topic, "-l"]  # each line is a message
        with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as publisher:
            assert publisher.stdin is not None
            for life in range(KILLS):
                publisher.stdin.writelines(f"{life * SHARE + number}\n" for number in range(SHARE))
                publisher.stdin.flush()
                wait_until(lambda first=life * SHARE: stored(fleet) > first, "some are stored")  # type: ignore[misc] # bound now
                fleet.dispatcher.kill()
                fleet.dispatcher.start()
                fleet.dispatcher.await_event("link_up", life + 2)
            publisher.stdin.close()
            assert publisher.wait(TIMEOUT_S) == 0  # the broker has acknowledged all
        wait_until(lambda: stored(fleet) == KILLS * SHARE, f"all {KILLS * SHARE} are stored")
