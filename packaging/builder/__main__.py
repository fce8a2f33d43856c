"""``python -m builder --out dist``: every package, as .deb and as .rpm, the same bytes each time."""

import argparse
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from builder import completion
from builder.archive import tighten
from builder.documents import installed
from builder.publisher import Publisher, publisher
from builder.recipes import (
    CODE,
    CORE,
    FROM_DISTRIBUTION,
    KEYRING,
    LIBRARIES,
    PLACES,
    RECIPES,
    Recipe,
)
from builder.sbom import sbom
from builder.stage import Stage, filled
from builder.vendored import Library, fetch, names
from docs.pages.man_pages import man_pages

ROOT: Final = Path(__file__).resolve().parents[2]
REVISION: Final = "0.1"
"""Below 1, the first revision of a distribution, so that a distribution's own packages win."""

_SCRIPTS: Final = ("postinstall", "preremove", "postremove")
_LOCK: Final = "requirements/dev.lock"
_BUILT: Final = (".deb", ".rpm", ".json")


@dataclass(frozen=True, slots=True)
class Build:
    """One run of the builder.

    Attributes:
        version: of every package.
        built_at: time stamp of every file, in seconds since 1970.
        libraries: those that the packages carry.
        folder: for intermediate files.
        out: the folder for the packages.
        publisher: the maintainer and the URLs in the packages.
        keyring: the public keys of the repository, to build their package only.
    """

    version: str
    built_at: int
    libraries: Sequence[Library]
    folder: Path
    out: Path
    publisher: Publisher
    keyring: Path | None = None

    def make(self, recipe: Recipe) -> None:
        """Make the packages of one recipe."""
        for packager in ("deb", "rpm"):
            stage = Stage(self.folder / packager / recipe.name, self.built_at)
            of_others = {target for other in RECIPES if other is not recipe for target in other.files}
            for target, source in recipe.files.items():
                self._add(stage, source, target, of_others)
            self._add_legal(stage, recipe, packager)
            if recipe is LIBRARIES:
                self._add_libraries(stage)
            if recipe is CORE:
                self._add_completion(stage, packager)
                self._add_manual(stage)
            if self.keyring is not None:
                stage.copy(self.keyring, PLACES[packager]["key"])
            settings = self._settings(recipe, packager, stage.contents(recipe.folders, packager))
            # nfpm reads YAML, and JSON is a subset of it.
            file = self.folder / packager / f"{recipe.name}.json"
            file.write_text(json.dumps(settings, indent=2))
            environment = {**os.environ, "SOURCE_DATE_EPOCH": str(self.built_at)}
            command = ["nfpm", "package", "--config", str(file), "--packager", packager, "--target", str(self.out)]
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)

    def _add(self, stage: Stage, source: str, target: str, of_others: Collection[str]) -> None:
        if source.endswith(".md"):
            stage.add(target, installed(ROOT, source, target).encode())
        else:
            stage.copy(ROOT / source, target, without=of_others)

    def _add_legal(self, stage: Stage, recipe: Recipe, packager: str) -> None:
        libraries = self.libraries if recipe is LIBRARIES else ()
        if packager == "deb":
            stage.add(f"/usr/share/doc/{recipe.name}/copyright", _copyright(libraries).encode())
            if recipe.overrides:
                lines = "".join(f"{recipe.name}: {line}\n" for line in recipe.overrides)
                stage.add(f"/usr/share/lintian/overrides/{recipe.name}", lines.encode())
        else:
            folder = f"/usr/share/licenses/{recipe.name}"
            stage.copy(ROOT / "LICENSE", f"{folder}/LICENSE")
            for library in libraries:
                stage.add(f"{folder}/LICENSE.{library.name}", library.license_text.encode())
            if recipe is not CORE:
                self._add(stage, "README.md", f"/usr/share/doc/{recipe.name}/README.md", ())

    def _add_libraries(self, stage: Stage) -> None:
        for library in self.libraries:
            for path, content in library.files.items():
                stage.add(f"{CODE}/{path}", content)
        text = sbom("stockworker", self.version, self.libraries, self.built_at)
        stage.add(f"/usr/share/doc/{LIBRARIES.name}/stockworker.cdx.json", text.encode())
        (self.out / f"stockworker-{self.version}.cdx.json").write_text(text)

    def _add_completion(self, stage: Stage, packager: str) -> None:
        top = completion.program()
        stage.add("/usr/share/bash-completion/completions/stockworker", completion.bash(top).encode())
        stage.add(PLACES[packager]["zsh"], completion.zsh(top).encode())
        stage.add("/usr/share/fish/vendor_completions.d/stockworker.fish", completion.fish(top).encode())

    def _add_manual(self, stage: Stage) -> None:
        for name, text in man_pages().items():
            stage.add(f"/usr/share/man/man{name[-1]}/{name}", text.encode())

    def _settings(self, recipe: Recipe, packager: str, contents: list[dict[str, Any]]) -> dict[str, Any]:
        deb = packager == "deb"
        depends = [*(recipe.deb if deb else recipe.rpm)]
        same = f"(= {self.version}-{REVISION})" if deb else f"= {self.version}"
        if recipe is CORE:
            depends += [each[0 if deb else 1] for each in FROM_DISTRIBUTION.values()]
            depends.append(f"{LIBRARIES.name} {same}")
        elif not recipe.standalone:
            depends.append(f"{CORE.name} {same}")
        return {
            "name": recipe.name,
            "arch": "all",
            "version": self.version,
            "version_schema": "none" if recipe is KEYRING else "semver",
            "release": REVISION,
            "section": recipe.section,
            "priority": "optional",
            "maintainer": self.publisher.maintainer,
            "vendor": "stockworker",
            "license": recipe.license,
            "homepage": self.publisher.homepage,
            "description": f"{recipe.summary}\n{recipe.description}" if deb else recipe.description,
            "changelog": str(self._changelog(recipe)),
            "mtime": contents[0]["file_info"]["mtime"],
            "depends": depends,
            "suggests": list(recipe.suggests),
            "contents": contents,
            "scripts": self._scripts(recipe, packager),
            "deb": {"compression": "xz"},
            "rpm": {
                "summary": recipe.summary,
                "group": "System Environment/Daemons",
                "buildhost": "stockworker",
                "compression": "zstd:19",
            },
        }

    def _changelog(self, recipe: Recipe) -> Path:
        name = "changelog.keyring.yml" if recipe is KEYRING else "changelog.yml"
        date = datetime.fromtimestamp(self.built_at, UTC).isoformat()
        values = {"MAINTAINER": self.publisher.maintainer, "VERSION": f"{self.version}-{REVISION}", "DATE": date}
        file = self.folder / f"{recipe.name}.changelog.yml"
        file.write_text(filled((ROOT / "packaging" / name).read_text(), values))
        return file

    def _scripts(self, recipe: Recipe, packager: str) -> dict[str, str]:
        if recipe.scripts is None:
            return {}
        written: dict[str, str] = {}
        for name in _SCRIPTS:
            source = ROOT / "packaging" / "scripts" / recipe.scripts / packager / name
            if source.exists():
                script = self.folder / packager / f"{recipe.name}.{name}"
                script.write_text(filled(source.read_text(), {"NAME": recipe.name, **recipe.values}))
                written[name] = str(script)
        return written


def _copyright(libraries: Sequence[Library]) -> str:
    """The copyright file of Debian Policy 12.5, in its machine-readable form."""
    text = (ROOT / "packaging" / "copyright").read_text()
    for library in libraries:
        text += f"\nFiles: {CODE[1:]}/{library.name}/*\nCopyright: {library.copyright}\nLicense: Expat\n"
    return text + ((ROOT / "packaging" / "copyright.Expat").read_text() if libraries else "")


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="builder", description="Build the system packages.")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the packages; packages in it are deleted first"
    )
    parser.add_argument("--version", help="default: the one in pyproject.toml")
    parser.add_argument("--keyring", type=Path, help="build only the package with these public keys")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for file in out.iterdir():
        if file.suffix in _BUILT:
            file.unlink()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "archives").mkdir()
        for packager in ("deb", "rpm"):
            (folder / packager).mkdir()
        version, keyring = arguments.version or _version(), arguments.keyring
        libraries = [] if keyring else fetch(names(ROOT / "pyproject.toml"), ROOT / _LOCK, folder / "archives")
        build = Build(version, _built_at(), libraries, folder, out, publisher(), keyring)
        for recipe in [KEYRING] if keyring else RECIPES:
            build.make(recipe)
    for file in out.glob("*.deb"):
        tighten(file)
    for file in sorted(out.iterdir()):
        if file.suffix in _BUILT:
            print(f"{file.stat().st_size:>8}  {file.name}")


def _version() -> str:
    return released((ROOT / "pyproject.toml").read_text(), (ROOT / "packaging" / "changelog.yml").read_text())


def released(project: str, changelog: str) -> str:
    """The version in the text of pyproject.toml, which must be that of the first entry of the changelog.

    Raises:
        SystemExit: there is no version, or the changelog has no entry for it.
    """
    found = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    if found is None:
        raise SystemExit("pyproject.toml: no version")
    entry = re.search(r"^- semver: (.+)$", changelog, re.MULTILINE)
    if entry is None or entry[1] != f"{found[1]}-{REVISION}":
        raise SystemExit(f"packaging/changelog.yml: write an entry for {found[1]}-{REVISION}, above all others")
    return found[1]


def _built_at() -> int:
    """Seconds since 1970: SOURCE_DATE_EPOCH (reproducible-builds.org), or the time of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        command = ["git", "log", "-1", "--format=%ct"]
        given = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return int(given)


if __name__ == "__main__":
    main()
