"""The examples of docs/market-data.md: files, payloads and settings, used together as the page prints them."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

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

PAGE = (Path(__file__).parents[2] / "docs/market-data.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
YAML = [yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml"]
CONFIGURATIONS = [each for each in YAML if "job_processor" in each]
SETTINGS = [each for each in YAML if each not in CONFIGURATIONS]
CONSOLE = "".join(text for kind, text in BLOCKS if kind == "console")
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
            yield payload


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
    HandlerRun("data_import", load(BUILT_IN[JobType("data_import")]), settings)(next(payloads(tmp_path)))
    config = tmp_path / "job_processor.yml"
    config.write_text(f"job_processor: {{market_data: {{location: {location}}}}}\n")
    commands = [line.partition("sudo -u stockworker stockworker market ")[2] for line in CONSOLE.splitlines()]
    commands = list(filter(None, commands))
    assert [each.partition(" ")[0] for each in commands] == ["symbols", "show", "export", "plot", "quality", "delete"]
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
        path.write_text(yaml.safe_dump(each))
        assert problems(path) == []
    assert len(CONFIGURATIONS) == 1


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
