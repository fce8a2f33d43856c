"""The examples of docs/market-data.md: files, payloads and settings, used together as the page prints them."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from docs.pages.job_types import DEFINITIONS
from stockworker.config import problems
from stockworker.handlers import BUILT_IN
from stockworker.handlers.discovery import load
from stockworker.handlers.payload import parse_settings
from stockworker.market.provider import address
from stockworker.market.source_format import read_format
from stockworker.market.update_settings import UpdateSettings
from stockworker.protocol.ids import JobType
from tests.harness import command
from tests.harness.handler_run import HandlerRun
from tests.harness.http_server import Answer, HttpServer

PAGE = (Path(__file__).parents[2] / "docs/market-data.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
YAML = [yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml"]
CONFIGURATIONS = [each["job_processor"] for each in YAML]
SETTINGS = [
    {job_type: handler["settings"] for job_type, handler in each["handlers"].items()}
    for each in CONFIGURATIONS
    if "handlers" in each
]
CONSOLE = "".join(text for kind, text in BLOCKS if kind == "console")
HOLIDAYS = next(text for kind, text in BLOCKS if kind == "text")
PROVIDERS = [each["price_update"] for each in SETTINGS if "price_update" in each]


def payloads(folder: Path) -> Iterator[dict[str, Any]]:
    """Each payload of the page, after the last file above it was written under the name in the payload."""
    content = ""
    for kind, text in BLOCKS:
        if kind == "csv":
            content = text
        elif kind == "json":
            payload = json.loads(text.replace("/srv/import", str(folder)))
            if "source" in payload:
                Path(payload["source"]).write_text(content)
            if not is_update(payload):
                yield payload


def is_update(payload: Mapping[str, Any]) -> bool:
    """Whether it is a payload of price_update."""
    return isinstance(payload.get("symbols"), list)


def test_each_payload_of_the_page_runs(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"market_data": str(tmp_path / "market.db")}
    for each in SETTINGS:
        settings |= each.get("data_import", {})
    settings["import_folders"] = [str(tmp_path)]
    results = []
    for payload in payloads(tmp_path):
        job_type = JobType("data_import" if "source" in payload else "technical_analysis")
        own = settings if job_type == "data_import" else {"market_data": settings["market_data"]}
        results.append(HandlerRun(job_type, load(BUILT_IN[job_type]), own)(payload))
    assert [each.get("inserted") for each in results] == [2, None, None, 2, 0, 1, 2, None, 3, None]
    assert results[7]["indicators"]["typical_price"][0]["day"] == "2024-01-02T14:00:00Z"
    assert results[9]["indicators"]["sma_3_adjusted_for_all"][0]["value"] == pytest.approx((49.5 + 49.5 + 50) / 3)
    assert results[1]["indicators"]["sma_2"] == [{"day": "2013-03-01", "value": pytest.approx(435.935)}]
    assert '`"inserted": 2`' in PAGE


def test_each_command_of_the_page_runs(tmp_path: Path) -> None:
    """As this user, on a store of its own."""
    location = tmp_path / "market.db"
    settings = {"market_data": str(location), "import_folders": [str(tmp_path)]}
    imported = [each for each in payloads(tmp_path) if each.get("symbol") in {"AAPL", "ACME"} and "source" in each]
    for payload in imported:
        HandlerRun("data_import", load(BUILT_IN[JobType("data_import")]), settings)(payload)
    (tmp_path / "nyse.txt").write_text(HOLIDAYS)
    config = tmp_path / "job_processor.yml"
    (exchanges,) = [text for kind, text in BLOCKS if kind == "yaml" and "exchanges:" in text]
    located = exchanges.replace("  market_data:\n", f"  market_data:\n    location: {location}\n")
    config.write_text(located.replace("/srv/export/", f"{tmp_path}/"))
    commands = [line.partition("sudo -u stockworker stockworker market ")[2] for line in CONSOLE.splitlines()]
    commands = list(filter(None, commands))
    assert [each.partition(" ")[0] for each in commands] == [
        *("symbols", "show", "show", "export", "plot"),
        *("quality", "quality", "delete", "delete"),
    ]
    for each in commands:
        done = command.run(config, "market", *shlex.split(each.replace("/srv/export/", f"{tmp_path}/")))
        assert done.status == 0, done.errors
    assert (tmp_path / "aapl.csv").read_text().count("\n") == 3
    assert "sma_2 435.935" in (tmp_path / "aapl.svg").read_text()
    assert command.run(config, "market", "symbols").output == "no symbols\n"


def test_the_proposed_payload_is_the_one_of_the_page(tmp_path: Path) -> None:
    payload = next(payloads(tmp_path))
    (line,) = [each for each in CONSOLE.splitlines() if "market inspect" in each]
    done = command.run(tmp_path / "none.yml", *shlex.split(line.replace("/srv/import", str(tmp_path)))[2:], "--json")
    assert done.json["payload"] == {**payload, "symbol": "SYMBOL"}
    assert [each["close"] for each in done.json["bars"]] == [430.47, 441.4]


def test_each_configuration_of_the_page_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "job_processor.yml"
    for each in CONFIGURATIONS:
        path.write_text(yaml.safe_dump({"job_processor": each}))
        assert problems(path) == []
    assert (len(CONFIGURATIONS), len(SETTINGS)) == (12, 10)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: next(iter(each)))
def test_all_settings_of_the_page_are_valid(settings: Mapping[str, Any]) -> None:
    for job_type, each in settings.items():
        assert parse_settings(each, DEFINITIONS[job_type].settings or object)


@pytest.mark.parametrize("settings", PROVIDERS, ids=lambda each: each["format"])
def test_the_recipe_of_a_provider_gives_an_address_of_its_own(settings: Mapping[str, Any]) -> None:
    read = parse_settings(settings, UpdateSettings)
    read_format(read.format, read.options, read.formats)
    found = address(read.provider, "AAPL", date(2024, 1, 2), date(2024, 1, 3))
    assert found.startswith("https://")
    assert "AAPL" in found
    assert not set("{}") & set(found)


def test_the_recipe_with_intervals_updates_bars_of_each(tmp_path: Path) -> None:
    """As the page prints it, but with a server of this test."""
    (recipe,) = (each for each in PROVIDERS if "{interval}" in each["provider"])
    (payload,) = (json.loads(text) for kind, text in BLOCKS if kind == "json" and is_update(json.loads(text)))
    values = [{"datetime": f"2024-01-02 14:{minute}:00", "close": "10.5"} for minute in (40, 35, 30)]
    with HttpServer() as server:
        server.answers["/time_series"] = Answer(json.dumps({"values": values}).encode())
        provider = recipe["provider"].replace("https://api.twelvedata.com", server.url("").rstrip("/"))
        settings = {**recipe, "provider": provider, "market_data": str(tmp_path / "market.db"), "rate": "8/s"}
        update = HandlerRun("price_update", load(BUILT_IN[JobType("price_update")]), settings)
        assert update(payload)["symbols"]["AAPL"]["last_day"] == "2024-01-02T14:40:00Z"
        server.answers["/time_series"] = Answer(b'{"values": [{"datetime": "2024-01-02", "close": "10.5"}]}')
        assert update({"symbols": ["AAPL"]})["symbols"]["AAPL"]["last_day"] == "2024-01-02"
        assert [parse_qs(urlsplit(each).query)["interval"] for each in server.requests] == [["5min"], ["1day"]]
        assert server.headers[0]["Authorization"] == recipe["headers"]["Authorization"]
