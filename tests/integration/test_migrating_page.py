"""docs/migrating.md: its job code and producers in PHP, and its commands, as they are printed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from stockworker.protocol.job import Priority
from tests.harness.broker import Broker, BrokerFailed
from tests.harness.fleet import Fleet
from tests.harness.old_queues import SqliteQueue, numbered
from tests.harness.tools import options
from tests.harness.waiting import wait_until

PAGE = (Path(__file__).parents[2] / "docs/migrating.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def blocks(language: str, having: str = "") -> list[str]:
    return [text for kind, text in BLOCKS if kind == language and having in text]


@dataclass(frozen=True, slots=True)
class Site:
    """A fleet, and a machine with PHP on which the files of the page are."""

    fleet: Fleet
    folder: Path

    def here(self, text: str) -> str:
        """A text of the page with the files and the broker of this test."""
        broker = self.fleet.broker
        own = broker.identity("shop")
        places = {
            "/etc/stockworker/tls/ca.crt": broker.ca_file,
            "/etc/stockworker/tls/shop.crt": own.certificate,
            "/etc/stockworker/tls/shop.key": own.key,
            "mq.example.org": broker.host,
            "8883": broker.port,
        }
        for place, instead in places.items():
            text = text.replace(place, str(instead))
        return re.sub(r"(?<![\w.])/(opt/(?:jobs|shop)|etc/mosquitto)/", rf"{self.folder}/\1/", text)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HOME": str(self.folder), "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=environment)

    def php(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        return self.run("php", *options, str(self.folder / name))

    def completed(self, full_id: str) -> list[tuple[int, str]]:
        """Priority and result of a job, after it has completed."""
        done = "SELECT priority, body FROM job JOIN result USING (sequence) WHERE id = ? AND state = 'completed'"
        wait_until(lambda: self.fleet.stored(done, full_id), f"{full_id} has completed")
        return self.fleet.stored(done, full_id)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("machine")
    (drop_in,) = blocks("yaml", "job_processor:")
    fleet = Fleet(tmp_path_factory.mktemp("fleet"), workers=1, clients=("client", "shop"), settings={})
    site = Site(fleet, folder)
    fleet._settings.update(yaml.safe_load(site.here(drop_in))["job_processor"])
    with fleet:
        for name in ("opt/jobs", "opt/shop", "etc/mosquitto", "bin", ".config/stockworker"):
            (folder / name).mkdir(parents=True)
        (folder / "bin/stockworker").symlink_to(Path(sys.executable).with_name("stockworker"))
        (folder / ".config/stockworker/stockworker.yml").write_text(fleet.config_file("operator").read_text())
        for text in blocks("php"):
            (name,) = re.findall(r"^// /(\S+)$", text, re.MULTILINE)
            (folder / name).write_text(site.here(text))
        yield site


def test_job_code_in_php_runs_unchanged(site: Site) -> None:
    """With and without the envelope of an old producer; what the class prints does not disturb the result."""
    (commands,) = blocks("sh", "stockworker submit")
    done = site.run("bash", "-euc", commands)
    assert done.returncode == 0, done.stderr
    assert re.findall(r'"(lowest|highest)": ?([0-9.]+)', done.stdout) == [
        ("lowest", "420.05"),
        ("highest", "441.4"),
        ("lowest", "1"),
        ("highest", "2"),
    ]


@pytest.mark.parametrize(
    ("payload", "attempts", "reason"),
    [
        ('{"closes": []}', 1, "exit code 65\njob with 0 prices\ncloses: a price is needed"),
        ('{"closes": "none"}', 2, "exit code 255\nPHP Fatal error:  Uncaught TypeError"),
    ],
)
def test_an_exception_in_php_is_the_reason_of_a_failure(site: Site, payload: str, attempts: int, reason: str) -> None:
    options = ["--max-attempts", str(attempts), "--backoff", "0.01"]
    done = site.run("stockworker", "submit", "price_range", payload, *options, "--wait", "--json")
    assert done.returncode == 1
    (found,) = site.fleet.stored("SELECT failures, reason FROM job ORDER BY sequence DESC LIMIT 1")
    assert found[0] == attempts
    assert found[1].startswith(reason), found


def test_a_producer_in_php_gets_the_receipt(site: Site) -> None:
    done = site.php("opt/shop/submit.php")
    assert (done.stdout, done.stderr, done.returncode) == ("stored\nduplicate\n", "", 0)
    assert site.completed("shop:order-4711") == [(Priority.NORMAL, '{"lowest":3,"highest":4}')]


def test_a_producer_in_php_publishes(site: Site) -> None:
    done = site.php("opt/shop/publish.php")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert site.completed("shop:order-4712") == [(Priority.HIGH, '{"lowest":5,"highest":6}')]


def test_the_message_of_a_php_library_is_a_job(site: Site) -> None:
    """The library is not packaged: its program is only parsed, and `mosquitto_pub` sends the message, with MQTT 3.1."""
    done = site.php("opt/shop/library.php", "-l")
    assert done.returncode == 0, done.stdout
    (text,) = blocks("php", "PhpMqtt")
    ((topic, body),) = re.findall(r"publish\('([^']+)', (json_encode\(.*?\)), 1\)", text)
    message = site.run("php", "-r", f"echo {body};").stdout
    broker = site.fleet.broker
    done = site.run(
        "mosquitto_pub",
        *options(broker, "shop"),
        "-V",
        "mqttv31",
        "-i",
        "shop-1",
        "-q",
        "1",
        "-t",
        topic,
        "-m",
        message,
    )
    assert done.returncode == 0, done.stderr
    query = "SELECT id FROM job JOIN payload USING (sequence) WHERE body = ?"
    wait_until(lambda: site.fleet.stored(query, message), "the job is stored")
    ((job_id,),) = site.fleet.stored(query, message)
    assert job_id.startswith("shop:")
    assert site.completed(job_id) == [(Priority.NORMAL, '{"lowest":7,"highest":8}')]


def test_the_shared_user_leaves(site: Site) -> None:
    """The command of the page takes all rights from the user in the access list of the old guide."""
    (shared,) = blocks("text", "user stockworker")
    (site.folder / "etc/mosquitto/acl").write_text(shared)
    (command,) = blocks("sh", "stockworker acl")
    done = site.run("bash", "-euc", site.here(command))
    assert done.returncode == 0, done.stderr
    new = (site.folder / "etc/mosquitto/acl.new").read_text()
    assert "user stockworker\ntopic deny #\n" in new
    assert "user shop\n" in new


STOPS = re.findall(r"^\| `(\w+) ([^`]*)`.*\*\*stops Mosquitto", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("option", "value"), STOPS)
def test_mosquitto_stops_at_these_lines_of_the_old_guide(tmp_path: Path, option: str, value: str) -> None:
    with pytest.raises(BrokerFailed, match="Error found at"), Broker(tmp_path, changes={option: value}):
        pass


def test_mosquitto_accepts_what_the_page_has_instead(tmp_path: Path) -> None:
    instead = dict(re.findall(r"\*\*stops Mosquitto\*\*.*?Write `(\w+) ([^`]+)`", PAGE))
    assert set(instead) == {"max_packet_size", "max_keepalive", "log_dest"}
    with Broker(tmp_path, changes=instead) as broker:
        assert "Error" not in broker.log


def test_jobs_move_and_come_back(site: Site) -> None:
    """The commands of the page, one after another: an old worker gets each job of the old table in the end."""
    folder = site.folder / "move"
    folder.mkdir()
    queue = SqliteQueue(folder)
    queue.add(numbered([1, 2, 3], type="old_type"))
    (folder / "old.url").write_text(f"{queue.url}\n")
    (folder / "old.url").chmod(0o600)
    forth, back = ([line[2:] for line in text.splitlines()] for text in blocks("console", "migrate @old.url"))

    inspected, looked_at, moved, verified = [site.run("sh", "-c", f"cd {folder} && {line}") for line in forth]
    waiting = list(queue.waiting())
    returned, compared = [site.run("sh", "-c", f"cd {folder} && {line}") for line in back]
    taken = [queue.take() for _ in range(4)]

    assert [each.returncode for each in (inspected, looked_at, moved, verified, returned, compared)] == [0] * 6
    assert (folder / "mapping.yml").read_text() == "migration:\n  preset: jobs\n  table: jobs\n"
    assert "3 jobs can be moved, 0 can't" in looked_at.stderr
    assert (moved.stdout, waiting) == ("3 jobs moved (0 of them were known), 0 refused, 0 rejected\n", [])
    assert returned.stdout == "3 jobs returned to the old queue\n"
    assert taken == [1, 2, 3, None]
