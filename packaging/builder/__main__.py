"""``python -m builder --out dist``: every package, as .deb and as .rpm, the same bytes each time."""

import argparse
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from builder import completion
from builder.archive import tighten
from builder.bill import bill
from builder.recipes import (
    BROKER,
    CODE,
    CORE,
    DROP_IN,
    FROM_DISTRIBUTION,
    KEY_FILE,
    KEYRING,
    PLACES,
    RECIPES,
    Recipe,
)
from builder.stage import Stage, filled
from builder.vendored import Library, fetch, names

ROOT: Final = Path(__file__).resolve().parents[2]
REVISION: Final = "0.1"
"""Below the 1 that a distribution would begin with: its own packages are to win over ours."""

HOMEPAGE: Final = "https://stockworker.example/"
MAINTAINER: Final = "The stockworker maintainers <maintainers@stockworker.example>"
_SCRIPTS: Final = ("postinstall", "preremove", "postremove")


@dataclass(frozen=True, slots=True)
class Build:
    """One run.

    Attributes:
        version: of every package.
        epoch: time stamp of everything that has one, in seconds since the epoch.
        libraries: what is vendored.
        folder: for what is written on the way.
        out: where the packages go.
        rpm_key: private key that signs the .rpm; of the .deb, the repository is signed.
    """

    version: str
    epoch: int
    libraries: Sequence[Library]
    folder: Path
    out: Path
    rpm_key: Path | None

    def make(self, recipe: Recipe) -> None:
        """Make the packages of one recipe."""
        for packager in ("deb", "rpm"):
            stage = Stage(self.folder / packager / recipe.name, self.epoch)
            for target, source in recipe.files.items():
                stage.copy(ROOT / source, target)
            self._add_legal(stage, recipe, packager)
            if recipe is CORE:
                self._add_made(stage, packager)
            if recipe is BROKER:
                stage.copy(ROOT / DROP_IN, PLACES[packager][DROP_IN])
            settings = self._settings(recipe, packager, stage.contents(recipe.folders, packager))
            # nfpm reads YAML, of which JSON is a part.
            file = self.folder / packager / f"{recipe.name}.json"
            file.write_text(json.dumps(settings, indent=2))
            environment = {**os.environ, "SOURCE_DATE_EPOCH": str(self.epoch)}
            command = ["nfpm", "package", "--config", str(file), "--packager", packager, "--target", str(self.out)]
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)

    def _add_legal(self, stage: Stage, recipe: Recipe, packager: str) -> None:
        libraries = self.libraries if recipe is CORE else ()
        if packager == "deb":
            stage.add(f"/usr/share/doc/{recipe.name}/copyright", _copyright(libraries).encode())
        else:
            folder = f"/usr/share/licenses/{recipe.name}"
            stage.copy(ROOT / "LICENSE", f"{folder}/LICENSE")
            for library in libraries:
                stage.add(f"{folder}/LICENSE.{library.name}", library.license_text.encode())
            if recipe is not CORE:
                stage.copy(ROOT / "README.md", f"/usr/share/doc/{recipe.name}/README.md")

    def _add_made(self, stage: Stage, packager: str) -> None:
        for library in self.libraries:
            for path, content in library.files.items():
                stage.add(f"{CODE}/{path}", content)
        top = completion.program()
        stage.add("/usr/share/bash-completion/completions/stockworker", completion.bash(top).encode())
        stage.add(PLACES[packager]["zsh"], completion.zsh(top).encode())
        stage.add("/usr/share/fish/vendor_completions.d/stockworker.fish", completion.fish(top).encode())
        text = bill("stockworker", self.version, self.libraries, self.epoch)
        stage.add("/usr/share/doc/stockworker/stockworker.cdx.json", text.encode())
        (self.out / f"stockworker-{self.version}.cdx.json").write_text(text)

    def _settings(self, recipe: Recipe, packager: str, contents: list[dict[str, Any]]) -> dict[str, Any]:
        deb = packager == "deb"
        depends = [*(recipe.deb if deb else recipe.rpm)]
        if recipe is CORE:
            depends += [each[0 if deb else 1] for each in FROM_DISTRIBUTION.values()]
        elif recipe is not KEYRING:
            same = f"(= {self.version}-{REVISION})" if deb else f"= {self.version}"
            depends.append(f"{CORE.name} {same}")
        return {
            "name": recipe.name,
            "arch": "all",
            "version": self.version,
            "release": REVISION,
            "section": "net",
            "priority": "optional",
            "maintainer": MAINTAINER,
            "vendor": "stockworker",
            "license": "Apache-2.0",
            "homepage": HOMEPAGE,
            "description": f"{recipe.summary}\n{recipe.description}" if deb else recipe.description,
            "changelog": str(ROOT / "packaging" / "changelog.yml"),
            "mtime": contents[0]["file_info"]["mtime"],
            "depends": depends,
            "suggests": list(recipe.suggests),
            "contents": contents,
            "scripts": self._scripts(recipe, packager),
            "deb": {"compression": "xz"},
            "rpm": {
                **({} if self.rpm_key is None else {"signature": {"key_file": str(self.rpm_key)}}),
                "summary": recipe.summary,
                "group": "System Environment/Daemons",
                "buildhost": "stockworker",
                "compression": "zstd:19",
            },
        }

    def _scripts(self, recipe: Recipe, packager: str) -> dict[str, str]:
        if recipe.scripts is None:
            return {}
        written: dict[str, str] = {}
        for name in _SCRIPTS:
            source = ROOT / "packaging" / "scripts" / recipe.scripts / packager / name
            if source.exists():
                script = self.folder / packager / f"{recipe.name}.{name}"
                script.write_text(filled(source.read_text(), {"NAME": recipe.name, **recipe.words}))
                written[name] = str(script)
        return written


def _copyright(libraries: Sequence[Library]) -> str:
    """The file of Debian Policy 12.5, in its machine-readable form."""
    text = (ROOT / "packaging" / "copyright").read_text()
    for library in libraries:
        text += f"\nFiles: {CODE[1:]}/{library.name}/*\nCopyright: {library.copyright}\nLicense: Expat\n"
    return text + ((ROOT / "packaging" / "copyright.Expat").read_text() if libraries else "")


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="builder", description="Build the system packages.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the packages; what is in it is deleted")
    parser.add_argument("--version", help="default: the one in pyproject.toml")
    parser.add_argument("--keyring", type=Path, help="the repository's public key, for a package of its own")
    parser.add_argument("--rpm-key", type=Path, help="private key that signs the .rpm packages")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "archives").mkdir()
        for packager in ("deb", "rpm"):
            (folder / packager).mkdir()
        libraries = fetch(names(ROOT / "pyproject.toml"), ROOT / "requirements" / "dev.lock", folder / "archives")
        build = Build(arguments.version or _version(), _epoch(), libraries, folder, out, arguments.rpm_key)
        for recipe in RECIPES:
            build.make(recipe)
        if arguments.keyring is not None:
            build.make(replace(KEYRING, files={KEY_FILE: str(arguments.keyring.resolve())}))
    for file in out.glob("*.deb"):
        tighten(file)
    for file in sorted(out.iterdir()):
        print(f"{file.stat().st_size:>8}  {file.name}")


def _version() -> str:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("pyproject.toml: no version")
    return found[1]


def _epoch() -> int:
    """When the source was last changed: of the commit, unless SOURCE_DATE_EPOCH says it (reproducible-builds.org)."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        command = ["git", "log", "-1", "--format=%ct"]
        given = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return int(given)


if __name__ == "__main__":
    main()
