import json
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, DistributionFinder, MetadataPathFinder
from pathlib import Path
from zipfile import ZipFile

import pytest

from stockworker import handlers
from stockworker.errors import ConfigError
from stockworker.handlers.discovery import discover, load


def install(site: Path, name: str, entry_points: str) -> None:
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[stockworker.handlers]\n{entry_points}\n")


def test_without_installed_packages_the_built_in_types_are_found() -> None:
    assert discover() == handlers.BUILT_IN


def test_installed_handlers_add_to_the_built_in_ones_and_replace_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "acme", "risk = acme.risk:handle\nprice_update = acme.prices:handle")
    monkeypatch.syspath_prepend(tmp_path)
    expected = dict(handlers.BUILT_IN) | {"risk": "acme.risk:handle", "price_update": "acme.prices:handle"}
    assert discover() == expected


def test_handlers_are_found_in_an_archive_and_an_egg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "acme.zip"
    with ZipFile(archive, "w") as file:
        file.writestr("acme-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
        file.writestr("acme-1.0.dist-info/entry_points.txt", "[stockworker.handlers]\nrisk = acme.risk:handle\n")
    egg = tmp_path / "umbrella-1.0.egg"
    (egg / "EGG-INFO").mkdir(parents=True)
    (egg / "EGG-INFO" / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: umbrella\nVersion: 1.0\n")
    (egg / "EGG-INFO" / "entry_points.txt").write_text("[stockworker.handlers]\nrain = umbrella.rain:handle\n")
    monkeypatch.syspath_prepend(archive)
    assert {**discover()}.keys() == {*handlers.BUILT_IN, "risk"}
    monkeypatch.syspath_prepend(egg)
    assert {**discover()}.keys() == {*handlers.BUILT_IN, "risk", "rain"}


def test_handlers_are_found_by_a_finder_of_another_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "acme", "risk = acme.risk:handle")
    elsewhere = DistributionFinder.Context(path=[str(tmp_path)])

    class Finder(DistributionFinder):
        def find_spec(self, _name: str, _path: object, _target: object = None) -> None:
            return None

        def find_distributions(self, _context: DistributionFinder.Context = elsewhere) -> Iterable[Distribution]:
            return MetadataPathFinder.find_distributions(elsewhere)

    assert discover() == handlers.BUILT_IN
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert {**discover()}.keys() == {*handlers.BUILT_IN, "risk"}


def test_two_packages_that_offer_one_type_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "acme", "risk = acme.risk:handle")
    install(tmp_path, "umbrella", "risk = umbrella.risk:handle")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"risk = \w+\.risk:handle: \w+\.risk:handle is installed for this type too"):
        discover()


def test_a_type_with_an_invalid_name_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "acme", "r/i = acme.risk:handle")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="'r/i' is not a valid ID"):
        discover()


def test_a_handler_is_found_by_its_name() -> None:
    found: list[object] = [load("json:dumps"), load("json:JSONDecoder.decode")]
    assert found == [json.dumps, json.JSONDecoder.decode]


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("json", ValueError),
        ("json:", AttributeError),
        (":dumps", ValueError),
        ("json:nowhere", AttributeError),
        ("nowhere.at_all:f", ModuleNotFoundError),
        ("json:__name__", TypeError),
    ],
)
def test_a_handler_that_does_not_exist_is_an_error(function: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        load(function)
