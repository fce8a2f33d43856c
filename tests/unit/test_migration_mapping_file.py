"""Mapping files and presets: what they mean, and how their mistakes are explained."""

import re
from pathlib import Path

import pytest

from stockworker.errors import ConfigError
from stockworker.migration.address import SCHEMES
from stockworker.migration.decoding import DECODERS
from stockworker.migration.mapping import Range
from stockworker.migration.mapping_file import _KEYS, _LOOKUP_KEYS, preset_names, read_mapping
from stockworker.migration.redis import SETTINGS
from stockworker.migration.source import Standing

WHOLE = """\
migration:
  table: app.jobs
  name: shop
  id: id
  type: {field: task, map: {mail: send_mail}, others: keep}
  payload: {field: body, read: [json, .data, .0]}
  priority: {field: level, map: {1: high, "2..5": normal, "6..": low}, default: low}
  scheduled: {field: run_at, zone: "-03:30"}
  max_attempts: {fixed: 5}
  standings:
    pending: {state: [new, null], queue: mail}
    claimed: {state: migrating}
    moved: delete
  exclude: {queue: [dead]}
  settings: {retry_after: 90}
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "mapping.yml"
    file.write_text(text)
    return file


def test_a_file_is_read(tmp_path: Path) -> None:
    mapping = read_mapping(written(tmp_path, WHOLE), None)

    assert (mapping.kind, mapping.containers, mapping.name) == ("table", ("app.jobs",), "shop")
    assert mapping.columns == ("id", "task", "body", "level", "run_at")
    assert mapping.standings == {
        Standing.PENDING: {"state": ("new", None), "queue": ("mail",)},
        Standing.CLAIMED: {"state": ("migrating",)},
    }
    assert mapping.deletes
    assert mapping.exclude == {"queue": ("dead",)}
    assert mapping.settings == {"retry_after": "90"}
    assert mapping.payload.read == ("json", ".data", ".0")
    assert mapping.type.keep_others
    assert mapping.scheduled is not None
    assert mapping.scheduled.zone_s == -12600
    assert mapping.max_attempts is not None
    assert mapping.max_attempts.fixed == "5"


def test_a_map_compares_numbers_and_words(tmp_path: Path) -> None:
    priority = read_mapping(written(tmp_path, WHOLE), None).priority
    assert priority is not None
    assert priority.map is not None

    assert [priority.map.find(value) for value in (1, "1", 2, "5", 6, 1000)] == [
        "high",
        "high",
        "normal",
        "normal",
        "low",
        "low",
    ]
    assert [priority.map.find(value) for value in ("word", None, 0, True)] == [None] * 4


def test_a_range_has_both_ends_or_one() -> None:
    assert 3 in Range(3, 3)
    assert 2 not in Range(3, None)
    assert 4 not in Range(None, 3)


@pytest.mark.parametrize("name", preset_names())
def test_each_preset_is_a_valid_mapping(name: str) -> None:
    assert read_mapping(None, name).containers


def test_a_file_completes_a_preset(tmp_path: Path) -> None:
    text = "migration:\n  preset: laravel\n  table: old_jobs\n  type: {map: {SendMail: send_mail}}\n"
    mapping = read_mapping(written(tmp_path, text), None)

    assert mapping.containers == ("old_jobs",)
    assert mapping.type.read == ("json", ".displayName", "class_name")
    assert mapping.type.map is not None
    assert mapping.type.map.find("SendMail") == "send_mail"


def test_the_command_line_replaces_the_container() -> None:
    assert read_mapping(None, "jobs", "orders").containers == ("orders",)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("  id: id\n", "", "mapping.yml:1: id: is missing; add it, such as 'id: id'"),
        ("  name: shop", "  nmae: shop", "mapping.yml:3: nmae: unknown key; did you mean 'name'?"),
        ("  table: app.jobs\n", "", "names nothing to read; add one of 'table', 'key', 'queue', 'topic'"),
        ("read: [json,", "read: [jsn,", "mapping.yml:6: payload.read: 'jsn' is not a decoder; did you mean 'json'?"),
        ('zone: "-03:30"', "zone: Berlin", "scheduled.zone: must be an offset from UTC such as +02:00, not 'Berlin'"),
        ("others: keep", "others: drop", "type.others: must be keep or refuse, not 'drop'"),
        ("{fixed: 5}", "{default: 5}", "max_attempts: has neither 'field' nor 'fixed'"),
        ("claimed: {state: migrating}", "claimed: {state: [a, b]}", "standings.claimed.state: must be one value"),
        (
            "claimed: {state: migrating}",
            "claimed: {state: [new, null], queue: mail}",
            "have the same values; change one",
        ),
        ("    pending:", "    waiting:", "standings.waiting: is not a standing"),
        ("  id: id", "  id: [id]", "id: must be a section with keys"),
        ("  exclude: {queue: [dead]}", "  exclude: dead", "exclude: must be a section with keys"),
        ("migration:", "mapping:", "has no key 'migration'; move all keys under it"),
    ],
)
def test_a_mistake_has_its_line_key_and_remedy(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in WHOLE

    with pytest.raises(ConfigError) as refused:
        read_mapping(written(tmp_path, WHOLE.replace(old, new, 1)), None)

    assert problem in str(refused.value)


def test_all_mistakes_are_listed_together(tmp_path: Path) -> None:
    file = written(tmp_path, WHOLE.replace("name:", "nmae:").replace("others: keep", "others: drop"))

    with pytest.raises(ConfigError) as refused:
        read_mapping(file, None)

    assert len(str(refused.value).splitlines()) == 2


def test_an_unknown_preset_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--preset: 'laravle' is not a preset; did you mean 'laravel'\?"):
        read_mapping(None, "laravle")
    with pytest.raises(ConfigError, match=r"mapping\.yml:2: preset: 'laravle' is not a preset"):
        read_mapping(written(tmp_path, "migration:\n  preset: laravle\n"), None)


def test_the_mapping_of_the_guide_is_valid(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/migrating.md").read_text(encoding="utf-8")
    (text,) = [block for block in page.split("```yaml\n")[1:] if block.startswith("migration:")]
    mapping = read_mapping(written(tmp_path, text.split("```")[0]), None)

    assert {*mapping.standings} == {Standing.PENDING, Standing.CLAIMED, Standing.MOVED, Standing.RETURNING}
    assert all(f"`{name}`" in page for name in preset_names())


# --- the page about migrations ----------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs/migrating.md").read_text(encoding="utf-8")


def test_the_page_has_every_preset() -> None:
    (section,) = re.findall(r"^### Presets\n(.*?)^###", PAGE, re.DOTALL | re.MULTILINE)
    assert sorted(re.findall(r"^\| `([a-z][a-z-]*)` \|", section, re.MULTILINE)) == preset_names()


def test_the_page_has_every_key_decoder_and_setting() -> None:
    (section,) = re.findall(r"^### Mapping files\n(.*?)^###", PAGE, re.DOTALL | re.MULTILINE)
    words = set(re.findall(r"`(\w+)`", section))
    assert {*_KEYS, *_LOOKUP_KEYS, *DECODERS, *SETTINGS, *Standing} <= words


def test_the_mapping_of_the_page_is_valid(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(migration:\n.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    mapping = read_mapping(written(tmp_path, text), None)
    assert set(mapping.lookups) == {"id", "type", "payload", "priority", "attempts", "max_attempts", "scheduled"}
    assert mapping.exclude == {"queue": ("failed",)}


def test_the_page_has_every_kind_of_address() -> None:
    (section,) = re.findall(r"^### Addresses and passwords\n(.*?)^###", PAGE, re.DOTALL | re.MULTILINE)
    shown = set(re.findall(r"`(\w+)://", section))
    assert set(SCHEMES) - {"postgres"} == shown
