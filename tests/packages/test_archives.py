"""The files in dist/: small, clean, complete and reproducible."""

import hashlib
import json
import os
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from docs.pages.man_pages import man_pages
from stockworker.cli.commands import PACKAGE_OF
from tests.harness.package_tools import OURS
from tests.harness.publishing import ROOT, Key, publish
from tests.packages.conftest import build

NAMES = OURS
LARGEST = 400_000
VENDORED = ("gmqtt", "pyhpke", "sdnotify")
CONFIGURATION = "etc/stockworker/job_processor.yml"
CONFIGURATION_SHA256 = "0ac58aa1939aafaa860abbae36250c9f183671309f2ce5b004971908d4e000f0"
"""A change of this file makes dpkg ask every administrator who has edited it, and stops unattended upgrades."""


def run(*command: str | Path, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", **({} if home is None else {"HOME": str(home)})}
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def checked(*command: str | Path, home: Path | None = None) -> str:
    done = run(*command, home=home)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


def unpacked(packages: Path, name: str, folder: Path) -> Path:
    (archive,) = packages.glob(f"{name}_*.deb")
    checked("dpkg-deb", "--extract", archive, folder)
    return folder


def test_each_package_exists_in_both_formats(packages: Path) -> None:
    assert sorted(file.name.partition("_")[0] for file in packages.glob("*_all.deb")) == sorted(NAMES)
    assert len(list(packages.glob("*.noarch.rpm"))) == len(NAMES)


def test_no_package_is_large(packages: Path) -> None:
    assert {file.name: size for file in packages.glob("*.deb") if (size := file.stat().st_size) > LARGEST} == {}


@pytest.fixture(scope="module")
def published(packages: Path, key: Key, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository, with signed .rpms and the package of its keys."""
    return publish(packages, tmp_path_factory.mktemp("published") / "repo", key)


def test_lintian_finds_nothing(published: Path) -> None:
    archives = sorted(published.glob("apt/pool/*/*.deb"))
    done = run("lintian", "-EvI", "--pedantic", "--allow-root", "--no-cfg", *archives)
    assert len(archives) == len(NAMES) + 1
    assert [line for line in done.stdout.splitlines() if not line.startswith("N:")] == []
    assert done.returncode == 0, done.stderr


def test_rpmlint_finds_nothing(published: Path, key: Key, tmp_path: Path) -> None:
    (tmp_path / ".rpmmacros").write_text(f"%_dbpath {tmp_path}/rpmdb\n")
    checked("rpm", "--import", key.public, home=tmp_path)
    archives = sorted(published.glob("dnf/packages/*.rpm"))
    rpmlint = ROOT / ".venv-packaging" / "bin" / "rpmlint"
    said = checked(rpmlint, "-c", ROOT / "packaging" / "rpmlint.toml", *archives, home=tmp_path)
    assert f"{len(NAMES) + 1} packages and 0 specfiles checked; 0 errors, 0 warnings, " in said, said


@pytest.mark.timeout(300)
def test_packages_are_reproducible(tmp_path: Path) -> None:
    checksums = []
    for name, mask in (("one", 0o022), ("another-folder", 0o077)):
        before = os.umask(mask)
        try:
            checked("git", "clone", "--quiet", ROOT, tmp_path / name)
            build(tmp_path / name, tmp_path / name / "dist")
        finally:
            os.umask(before)
        files = sorted((tmp_path / name / "dist").iterdir())
        checksums.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files})
    assert checksums[0] == checksums[1]


def test_the_packages_have_each_module_once(packages: Path) -> None:
    """Those of a service are in its own package, which the command names where they are missing."""
    found: dict[str, str] = {}
    for name in NAMES:
        (archive,) = packages.glob(f"{name}_*.deb")
        for line in checked("dpkg-deb", "--contents", archive).splitlines():
            _, inside, module = line.rpartition("/stockworker-code/stockworker/")
            if inside and module.endswith(".py"):
                assert found.setdefault(module, name) == name
    code = ROOT / "agent" / "stockworker"
    assert found.keys() == {str(file.relative_to(code)) for file in code.rglob("*.py")}
    for module, name in found.items():
        assert name == PACKAGE_OF.get(f"stockworker.{module.partition('/')[0]}", "stockworker")


def test_the_shipped_configuration_has_not_changed(packages: Path, tmp_path: Path) -> None:
    shipped = unpacked(packages, "stockworker", tmp_path) / CONFIGURATION
    assert hashlib.sha256(shipped.read_bytes()).hexdigest() == CONFIGURATION_SHA256


def test_the_bill_of_materials_names_all_that_is_vendored(packages: Path, tmp_path: Path) -> None:
    root = unpacked(packages, "stockworker-libraries", tmp_path)
    (sbom,) = packages.glob("*.cdx.json")
    listed = json.loads(sbom.read_text())["components"]
    lock = (ROOT / "requirements" / "dev.lock").read_text()

    found = {folder.name for folder in (root / "usr/share/stockworker-code").iterdir()}

    assert found == {part["name"] for part in listed} >= set(VENDORED)
    assert all(part["licenses"] == [{"license": {"id": "MIT"}}] for part in listed)
    assert all(f"--hash=sha256:{part['hashes'][0]['content']}" in lock for part in listed)
    assert (root / "usr/share/doc/stockworker-libraries/stockworker.cdx.json").read_text() == sbom.read_text()


FLEET = """#!/bin/sh
case "$*" in
    "words jobs") printf 'mary:7\\nabc\\n' ;;
    "--config /x words workers" | "words --config /x workers") printf 'edge-1\\nedge-2\\n' ;;
    "words types") echo price_update ;;
esac
"""
"""A program in place of `stockworker`, which knows a fleet."""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("sub",), {"submit"}),
        (("submit", "--prio"), {"--priority"}),
        (("submit", "--priority", ""), {"high", "normal", "low"}),
        (("--config", "submit", "canc"), {"cancel"}),
        (("show", "ma"), {"mary:7"}),
        (("--config", "/x", "drain", "edge"), {"edge-1", "edge-2"}),
        (("list", "--type", ""), {"price_update"}),
        (("words", ""), {"jobs", "types", "workers"}),
    ],
)
def test_bash_and_fish_complete(packages: Path, tmp_path: Path, words: Sequence[str], expected: set[str]) -> None:
    root = unpacked(packages, "stockworker", tmp_path)
    program = tmp_path / "fleet" / "stockworker"
    program.parent.mkdir()
    program.write_text(FLEET)
    program.chmod(0o755)
    line = " ".join(["stockworker", *words])
    script = root / "usr/share/bash-completion/completions/stockworker"
    asked = f"""
        PATH={program.parent}:$PATH
        source {script}
        COMP_WORDS=({" ".join(word or "''" for word in ("stockworker", *words))})
        COMP_CWORD={len(words)}
        COMP_LINE='{line}'
        COMP_POINT={len(line)}
        _stockworker
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert set(checked("bash", "-c", asked).split()) == expected

    fish = root / "usr/share/fish/vendor_completions.d/stockworker.fish"
    asked = f"set PATH {program.parent} $PATH; source {fish}; complete --do-complete '{line}'"
    said = checked("fish", "--no-config", "-c", asked, home=tmp_path)
    assert {answer.split("\t")[0] for answer in said.splitlines()} == expected


def test_bash_completes_an_id_of_another_client(packages: Path, tmp_path: Path) -> None:
    """Readline makes three words of mary:7, and replaces the last one."""
    script = unpacked(packages, "stockworker", tmp_path) / "usr/share/bash-completion/completions/stockworker"
    asked = f"""
        stockworker() {{ printf 'mary:7\\nmary:8\\nabc\\n'; }}
        source {script}
        COMP_WORDS=(stockworker show mary :) COMP_CWORD=3 COMP_LINE='stockworker show mary:' COMP_POINT=22
        _stockworker
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert checked("bash", "-c", asked).split() == ["7", "8"]


def test_zsh_reads_its_completion(packages: Path, tmp_path: Path) -> None:
    root = unpacked(packages, "stockworker", tmp_path)
    checked("zsh", "-n", root / "usr/share/zsh/vendor-completions/_stockworker")


def test_the_man_pages_are_compressed_and_whole(packages: Path, tmp_path: Path) -> None:
    folder = unpacked(packages, "stockworker", tmp_path) / "usr/share/man"
    found = {file.stem: zlib.decompress(file.read_bytes(), wbits=31).decode() for file in folder.glob("man[15]/*.gz")}
    assert found == man_pages()
