"""The JSON Schema with which editors check the configuration: it allows what the product reads, and names what it refuses."""

import json
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
import yaml

from docs.pages.config_schema import schema
from stockworker import config

ROOT = Path(__file__).resolve().parents[2]
check = fastjsonschema.compile(json.loads(schema()))


def problems(text: str, folder: Path) -> int:
    """How many errors the product finds."""
    file = folder / "job_processor.yml"
    file.touch(0o600)
    file.write_text(text)
    return len(config.problems(file))


@pytest.mark.parametrize(
    "section",
    [
        "queue: {backend: mqtt, mqtt: {host: localhost, port: 1883, username: 0123, password: yes}}",
        "queue: {mqtt: {port: '8883'}, redis: {host: anything}}",
        "worker: {max_concurrent_jobs: 5, poll_interval: 1.5, tags: [ssd, 7]}",
        "worker: {poll_interval: 500ms, drain_timeout: 5m}",
        "worker: null",
        "handlers: {resize: {command: [php, /opt/a.php], limits: {memory: 512M}, settings: {any: [1, 2]}}}",
        "handlers: {resize: {command: [php], limits: {memory: 536870912}}}",
        "log: {format: json}",
    ],
)
def test_what_the_product_reads_is_allowed(section: str, tmp_path: Path) -> None:
    text = f"job_processor: {{{section}}}"
    assert problems(text, tmp_path) == 0
    check(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("wroker: {}", "wroker"),
        ("worker: {max_concurrent_job: 5}", "max_concurrent_job"),
        ("worker: {max_concurrent_jobs: 0}", "max_concurrent_jobs"),
        ("worker: {max_concurrent_jobs: five}", "max_concurrent_jobs"),
        ("worker: {poll_interval: 5 minutes}", "poll_interval"),
        ("worker: {tags: ssd}", "tags"),
        ("log: {format: xml}", "format"),
        ("tls: {ca_file: ca.crt, cert_file: /a, key_file: /b}", "ca_file"),
        ("handlers: {'re size': {function: 'a:b'}}", "re size"),
        ("handlers: {resize: {function: nothing}}", "function"),
        ("handlers: {resize: {function: 'a:b', limits: {memory: 12X}}}", "memory"),
    ],
)
def test_what_the_product_refuses_is_marked(section: str, names: str, tmp_path: Path) -> None:
    text = f"job_processor: {{{section}}}"
    assert problems(text, tmp_path) > 0
    with pytest.raises(fastjsonschema.JsonSchemaValueException) as refused:
        check(yaml.safe_load(text))
    assert names in str(refused.value)


def test_the_shipped_configuration_is_allowed() -> None:
    check(yaml.safe_load((ROOT / "etc/stockworker/job_processor.yml").read_text()))


def test_every_key_has_its_meaning_and_its_default() -> None:
    def descriptions(node: Any) -> Any:
        if isinstance(node, dict):
            for name, below in node.get("properties", {}).items():
                if below:
                    yield name, below["description"]
                    yield from descriptions(below)
            for below in node.get("patternProperties", {}).values():
                yield from descriptions(below)

    found = dict(descriptions(json.loads(schema())["properties"]["job_processor"]))
    assert found["max_concurrent_jobs"].endswith("Default: 5.")
    assert all(found.values())
