"""Runs every example of docs/job-types.md, and provokes every failure that the page lists."""

import asyncio
import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from docs.pages.job_types import DEFINITIONS
from stockworker.adapters.http import FetchError
from stockworker.cli.wiring import handler_specs
from stockworker.config import load
from stockworker.errors import StoreError
from stockworker.handlers import BUILT_IN, definition
from stockworker.handlers.api import PermanentError
from stockworker.handlers.definition import COMMON_FAILURES, Failure
from stockworker.handlers.discovery import load as load_handler
from stockworker.market import data_import, price_update, technical_analysis
from stockworker.market.store import open_market_store
from stockworker.protocol.ids import JobType
from stockworker.protocol.wire import plan_of
from tests.harness.executor import Bench, failure, result
from tests.harness.handler_run import HandlerRun
from tests.harness.http_server import Answer, HttpServer
from tests.harness.sample_data import sample_bars

ROOT = Path(__file__).parents[2]
DOCUMENTED: dict[str, Any] = yaml.safe_load((ROOT / "docs/job-types.yml").read_text())
EXAMPLES = [(name, example) for name in DEFINITIONS for example in DOCUMENTED[name]["examples"]]
PROVIDER = "http://prices.example"


class Scene:
    """The worker of the documented configuration, with its folders, its store and a provider of prices."""

    def __init__(self, folder: Path, server: HttpServer) -> None:
        self.folder = folder
        self.server = server
        self.location = str(folder / "market.db")

    def real(self, text: str) -> str:
        """A text of the page, with the folder and the address that exist in this test."""
        return text.replace("/srv/import", str(self.folder)).replace(PROVIDER, self.server.url(""))

    def run(self, job_type: str, **settings: object) -> HandlerRun:
        documented = json.loads(self.real(json.dumps(DOCUMENTED[job_type].get("settings", {}))))
        if "import_hosts" in documented:
            documented["import_hosts"] = [f"127.0.0.1:{self.server.port}"]
        handler = load_handler(BUILT_IN[JobType(job_type)])
        return HandlerRun(job_type, handler, {"market_data": self.location, **documented, **settings})

    def prepare(self, example: Mapping[str, Any]) -> None:
        store = open_market_store(self.location)
        for symbol in example.get("stored", ()):
            store.upsert({symbol: sample_bars()[symbol]})
        store.close()
        for name, content in example.get("files", {}).items():
            Path(self.real(name)).write_text(content)
        for address, content in example.get("answers", {}).items():
            path = urlsplit(address).path
            body = content.encode()
            self.server.answers[path] = Answer(gzip.compress(body) if path.endswith(".gz") else body)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with HttpServer() as server:
        yield Scene(tmp_path, server)


def approximately(documented: Any) -> Any:
    """The documented value, with its numbers as accurate as the page shows them."""
    match documented:
        case dict():
            return {name: approximately(value) for name, value in documented.items()}
        case list():
            return [approximately(value) for value in documented]
        case float():
            return pytest.approx(documented, rel=1e-9)
        case _:
            return documented


@pytest.mark.parametrize(("job_type", "example"), EXAMPLES, ids=[f"{name}: {each['title']}" for name, each in EXAMPLES])
def test_a_documented_example_is_true(scene: Scene, job_type: str, example: Mapping[str, Any]) -> None:
    scene.prepare(example)
    run = scene.run(job_type)
    payload = json.loads(scene.real(example["payload"]))
    if "result" in example:
        assert run(payload) == approximately(json.loads(scene.real(example["result"])))
    else:
        with pytest.raises(PermanentError) as caught:
            run(payload)
        assert str(caught.value) == scene.real(example["error"]).strip()
    asked = {scene.server.url(path) for path in scene.server.requests}
    assert {scene.real(address) for address in example.get("answers", ())} <= asked


@pytest.mark.parametrize("kind", ["python", "coroutine", "command"])
def test_a_documented_handler_runs(tmp_path: Path, kind: str) -> None:
    own = DOCUMENTED["own"]
    for each in (own["python"], own["coroutine"], own["command"]):
        file = Path(each["file"].replace("/opt/jobs", str(tmp_path)))
        file.write_text(each["code"])
        file.chmod(0o755)
    configuration = tmp_path / "job_processor.yml"
    configuration.write_text(own["configuration"].replace("/opt/jobs", str(tmp_path)))
    config = load(configuration)
    job_type = own[kind]["type"]

    async def scenario() -> None:
        specs = {job_type: handler_specs(config)[JobType(job_type)]}
        async with Bench(specs, module_paths=[str(path) for path in config.worker.handler_paths]) as bench:
            for example in own[kind]["examples"]:
                finished = await bench.run(job_type, example["payload"])
                if "result" in example:
                    assert result(finished) == json.loads(example["result"])
                else:
                    assert failure(finished, permanent=True) == example["error"].strip()

    asyncio.run(scenario())


def invalid_fields(job_type: str) -> Iterator[tuple[Failure, Callable[[Scene], Any]]]:
    """The failures of every job type that need no example of their own."""
    field = plan_of(DEFINITIONS[job_type].payload).fields[0].name
    payloads: tuple[Any, ...] = ([], {"misspelt": 1}, {field: 5})
    for payload in payloads:
        yield definition.WRONG_PAYLOAD, partial(lambda scene, payload: scene.run(job_type)(payload), payload=payload)


def imported(source: str, **settings: object) -> Callable[[Scene], Any]:
    return lambda scene: scene.run("data_import", **settings)({"source": scene.real(source), "symbol": "AAPL"})


def written(name: str, content: bytes, **settings: object) -> Callable[[Scene], Any]:
    def scenario(scene: Scene) -> Any:
        (scene.folder / name).write_bytes(content)
        return imported(f"/srv/import/{name}", **settings)(scene)

    return scenario


def answered(job_type: str, payload: Mapping[str, Any], status: int) -> Callable[[Scene], Any]:
    def scenario(scene: Scene) -> Any:
        scene.server.answers["/daily/AAPL.json"] = Answer(b"", status=status)
        return scene.run(job_type)(json.loads(scene.real(json.dumps(payload))))

    return scenario


def cancelled(job_type: str, payload: Mapping[str, Any]) -> Callable[[Scene], Any]:
    def scenario(scene: Scene) -> Any:
        run = scene.run(job_type)
        run.cancelled = lambda: True
        return run(payload)

    return scenario


def analysed(**payload: Any) -> Callable[[Scene], Any]:
    return lambda scene: scene.run("technical_analysis")({"symbol": "AAPL", **payload})


def stored_analysed(**payload: Any) -> Callable[[Scene], Any]:
    """An analysis of two stored days with the same price, and with a split between them."""

    def scenario(scene: Scene) -> Any:
        for day, split in (("2013-02-28", None), ("2013-03-01", 2)):
            bar = {"date": day, "close": 11, "split": split}
            scene.run("data_import")({"symbol": "AAPL", "bars": [bar]})
        return analysed(indicators=["typical_price"], **payload)(scene)

    return scenario


BAR = {"date": "2013-03-01", "open": 10, "high": 12, "low": 9, "close": 11, "volume": 500}
HEADER = b"Date,Open,High,Low,Close,Volume\n"
DOWNLOAD = {"source": f"{PROVIDER}/daily/AAPL.json", "symbol": "AAPL"}
SCENARIOS: list[tuple[Failure, Callable[[Scene], Any]]] = [
    *(scenario for job_type in DEFINITIONS for scenario in invalid_fields(job_type)),
    (definition.WRONG_SETTING, lambda scene: scene.run("price_update", provider=None)({"symbols": ["AAPL"]})),
    (definition.NO_MARKET_DATA, lambda scene: scene.run("data_import", market_data="")({"bars": []})),
    (definition.STORE_FAILED, lambda scene: scene.run("data_import", market_data="/nowhere/market.db")({"bars": []})),
    (data_import.INVALID_ROWS, written("bars.csv", HEADER + b"2013-03-01,10,12,9,99,500\n2013-03-04,10,12,9,11,500\n")),
    (
        data_import.NO_VALID_ROW,
        written(
            "bars.csv",
            HEADER + b"2013-03-01,10,12,9,99,500\n",
        ),
    ),
    (data_import.UNREADABLE, written("bars.csv", b"\xff")),
    (data_import.UNSUPPORTED_SCHEME, imported("ftp://prices.example/bars.csv")),
    (data_import.FOREIGN_HOST, imported("http://localhost/bars.csv")),
    (data_import.PRIVATE_ADDRESS, imported("http://127.1/bars.csv", import_hosts=["127.1"])),  # a name for 127.0.0.1
    (data_import.NOT_FETCHED, answered("data_import", DOWNLOAD, 404)),
    (data_import.SERVER_UNAVAILABLE, answered("data_import", DOWNLOAD, 503)),
    (data_import.FOREIGN_FOLDER, imported("/etc/passwd")),
    (data_import.NO_FILE, imported("/srv/import/missing.csv")),
    (data_import.UNREADABLE_FILE, imported("/srv/import/a\0b")),
    (data_import.TOO_LARGE, written("bars.csv", bytes(1_048_577), limit_mib=1)),
    (data_import.BAD_ARCHIVE, written("bars.csv.gz", gzip.compress(HEADER)[:-1])),
    (data_import.STOPPED, cancelled("data_import", {"symbol": "AAPL", "bars": [BAR]})),
    (price_update.NOTHING_UPDATED, answered("price_update", {"symbols": ["AAPL"]}, 404)),
    (price_update.TOO_MANY_SYMBOLS, lambda scene: scene.run("price_update")({})),
    (price_update.PROVIDER_UNAVAILABLE, answered("price_update", {"symbols": ["AAPL"]}, 500)),
    (price_update.STOPPED, cancelled("price_update", {"symbols": ["AAPL"]})),
    (technical_analysis.UNKNOWN_SYMBOL, analysed()),
    (technical_analysis.NO_INTERVAL, stored_analysed(interval="1h")),
    (technical_analysis.NOT_ADJUSTED, stored_analysed(adjust="splits")),
    (technical_analysis.NO_BARS, analysed(bars=[])),
    (technical_analysis.TOO_FEW_BARS, analysed(bars=[BAR], indicators=["sma"])),
    (technical_analysis.NO_ADJUSTED_CLOSE, analysed(bars=[BAR], price="adjusted_close")),
    (technical_analysis.NOT_KNOWN, analysed(bars=[{"date": "2013-03-01", "close": 11}], indicators=["obv"])),
    (technical_analysis.UNREADABLE_BARS, analysed(bars=[BAR | {"day": "2013-03-01"}])),
    (technical_analysis.INVALID_BAR, analysed(bars=[{}])),
    (technical_analysis.SAME_DAY, analysed(bars=[BAR, BAR])),
    (technical_analysis.NOTHING_ANALYSED, lambda scene: scene.run("technical_analysis")({"symbols": ["AAPL"]})),
    (technical_analysis.TOO_MANY_SYMBOLS, lambda scene: scene.run("technical_analysis")({"symbols": "all"})),
    (technical_analysis.STOPPED, cancelled("technical_analysis", {"symbol": "AAPL", "bars": [BAR]})),
]
RETRIED = (InterruptedError, FetchError, StoreError)


def pattern(found: Failure) -> str:
    """The documented text, with anything in the place of its parts."""
    return ".*".join(map(re.escape, re.split(r"\{[^}]*\}", found.text)))


@pytest.mark.parametrize(("documented", "scenario"), SCENARIOS, ids=[each.text for each, _ in SCENARIOS])
def test_a_documented_failure_happens(scene: Scene, documented: Failure, scenario: Callable[[Scene], Any]) -> None:
    with pytest.raises(RETRIED if documented.retried else PermanentError) as caught:
        scenario(scene)
    assert re.fullmatch(pattern(documented), str(caught.value), re.DOTALL)


def test_every_documented_failure_is_provoked() -> None:
    documented = {*COMMON_FAILURES, *(failure for each in DEFINITIONS.values() for failure in each.failures)}
    assert documented == {failure for failure, _ in SCENARIOS}


@pytest.mark.parametrize("module", [data_import, price_update, technical_analysis])
def test_every_failure_of_a_module_is_documented(module: Any) -> None:
    found = {value for value in vars(module).values() if isinstance(value, Failure)}
    assert found - set(COMMON_FAILURES) == set(module.DEFINITION.failures)
