"""Publishing with `make repo`: the contents of a repository, and the inputs that it refuses."""

import fcntl
import hashlib
import lzma
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from repository import apt, dnf
from repository.keys import opened
from repository.options import Options
from stockworker.adapters.files import open_folder
from tests.harness.publishing import ROOT, Key, publish, start_publishing, try_publish
from tests.harness.waiting import wait_until
from tests.packages.conftest import build

NOON = "1699963200"
"""A time of publication."""


@pytest.fixture(scope="module")
def once(packages: Path, key: Key, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one version."""
    return publish(packages, tmp_path_factory.mktemp("once") / "repo", key, SOURCE_DATE_EPOCH=NOON)


@pytest.fixture
def published(once: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(once, tmp_path / "repo"))


def contents(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): sha256(file) for file in files}


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def versions(repository: Path, name: str) -> tuple[list[str], list[str]]:
    """The versions of a package in the indexes of apt and dnf."""
    index = lzma.decompress((repository / "apt/dists/stable/main/binary-amd64/Packages.xz").read_bytes()).decode()
    debs = re.findall(rf"^Package: {name}\nVersion: (.+)$", index, re.MULTILINE)
    rpms = re.findall(rf"packages/{name}-(\d[^-]*-[^-]*)\.noarch\.rpm", primary(repository / "dnf"))
    return sorted(debs), sorted(rpms)


def primary(folder: Path) -> str:
    (file,) = (name for name in named(folder) if name.endswith("primary.xml.gz"))
    return subprocess.run(["zcat", folder / file], check=True, capture_output=True, text=True).stdout


def named(folder: Path) -> list[str]:
    return re.findall(r'<location href="(.+?)"', (folder / "repodata/repomd.xml").read_text())


def refuse(done: "subprocess.CompletedProcess[str]", *expected: str) -> None:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for words in expected:
        assert words in done.stderr, done.stderr


def test_without_a_key_the_error_explains_how_to_create_one(packages: Path, tmp_path: Path) -> None:
    done = try_publish(packages, tmp_path / "repo", "")
    refuse(done, "no signing key", "gpg --quick-generate-key")


def test_a_key_may_be_in_a_gpg_keyring(packages: Path, key: Key, tmp_path: Path) -> None:
    done = try_publish(packages, tmp_path / "repo", key.fingerprint, GNUPGHOME=str(key.home))
    subprocess.run(["gpgconf", "--homedir", key.home, "--kill", "all"], check=True)
    assert done.returncode == 0, done.stderr
    assert f"signed by {key.fingerprint}" in done.stdout


def test_a_missing_key_is_refused(packages: Path, key: Key, other_key: Key, tmp_path: Path) -> None:
    done = try_publish(packages, tmp_path / "repo", other_key.fingerprint, GNUPGHOME=str(key.home))
    refuse(done, other_key.fingerprint, "no private key")


def test_a_public_key_cannot_sign(packages: Path, key: Key, tmp_path: Path) -> None:
    refuse(try_publish(packages, tmp_path / "repo", str(key.public)), str(key.public), "no private key")


def test_an_expired_key_is_refused(packages: Path, expired_key: Key, tmp_path: Path) -> None:
    done = try_publish(packages, tmp_path / "repo", expired_key.fingerprint, GNUPGHOME=str(expired_key.home))
    refuse(done, expired_key.fingerprint, "has expired")


def test_a_key_outside_the_keyring_of_clients_is_refused(
    packages: Path, key: Key, other_key: Key, tmp_path: Path
) -> None:
    done = try_publish(packages, tmp_path / "repo", str(key.private), "--keyring", other_key.public)
    refuse(done, str(other_key.public), "clients would refuse")


def test_nothing_private_is_published(packages: Path, key: Key, tmp_path: Path) -> None:
    # The worst mistake: the operator passes the private key as the public one.
    repository = publish(packages, tmp_path / "repo", key, "--keyring", key.private)

    assert "PUBLIC KEY" in (repository / "stockworker-archive-keyring.asc").read_text()
    (keyring,) = repository.glob("apt/pool/stockworker-archive-keyring/*.deb")
    subprocess.run(["dpkg-deb", "--extract", keyring, tmp_path / "keyring"], check=True)
    files = [*repository.rglob("*"), *(tmp_path / "keyring").rglob("*")]
    assert [file for file in files if file.is_file() and b"PRIVATE KEY" in file.read_bytes()] == []


def test_a_stopped_publisher_leaves_no_key_behind(
    packages: Path, key: Key, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    temporary = tmp_path_factory.mktemp("t")  # short, because the path of a socket must be
    (tmp_path / "repo").mkdir()
    with open_folder(tmp_path / "repo") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # so that it holds its key and waits
        started = start_publishing(packages, tmp_path / "repo", str(key.private), TMPDIR=str(temporary))
        with started as process:
            wait_until(lambda: list(temporary.glob("*/trusted/rpm/*")), "it has read its key", 60)
            process.terminate()
            process.communicate()
    assert process.returncode == 143
    assert list(temporary.iterdir()) == []


@pytest.fixture(scope="module")
def altered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages with the same version but other contents."""
    folder = tmp_path_factory.mktemp("altered") / "dist"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1")
        build(ROOT, folder)
    return folder


@pytest.mark.parametrize("suffix", ["deb", "rpm"])
def test_a_package_changed_without_a_new_version_is_refused(
    suffix: str, published: Path, packages: Path, altered: Path, key: Key, tmp_path: Path
) -> None:
    before = contents(published)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for file in (*packages.glob("*.deb"), *packages.glob("*.rpm"), *altered.glob(f"*.{suffix}")):
        shutil.copy(file, mixed)

    done = try_publish(mixed, published, str(key.private))

    refuse(done, f".{suffix}: stockworker", "0.1.0-0.1 is published with other contents. Raise the version")
    assert contents(published) == before


@pytest.mark.parametrize("file", ["apt/pool/stockworker-agent/*.deb", "dnf/packages/stockworker-agent-*.rpm"])
def test_a_published_package_that_was_changed_is_not_signed_again(
    file: str, published: Path, newer_packages: Path, key: Key
) -> None:
    (victim,) = published.glob(file)
    content = bytearray(victim.read_bytes())
    content[-100] ^= 1
    victim.write_bytes(content)
    refuse(try_publish(newer_packages, published, str(key.private)), str(victim), "changed")


def test_a_foreign_package_in_the_folder_is_not_signed(
    published: Path, altered: Path, newer_packages: Path, key: Key
) -> None:
    (deb,) = altered.glob("stockworker-agent_*.deb")
    (next_deb,) = newer_packages.glob("stockworker-agent_*.deb")
    pool = published / "apt/pool/stockworker-agent"
    for name in ("stockworker-agent_1.0_all.deb", next_deb.name):
        shutil.copy(deb, pool / name)
    publish(newer_packages, published, key)
    assert sha256(pool / next_deb.name) == sha256(next_deb)
    assert not (pool / "stockworker-agent_1.0_all.deb").exists()
    assert versions(published, "stockworker-agent")[0] == ["0.1.0-0.1", "99.0.0-0.1"]

    (rpm,) = altered.glob("stockworker-agent-*.rpm")
    planted = shutil.copy(rpm, published / "dnf/packages/stockworker-agent-1.0-1.noarch.rpm")
    refuse(try_publish(newer_packages, published, str(key.private)), str(planted), "no trusted key")


def edited(release: Path) -> None:
    release.write_text(release.read_text().replace("Label: stockworker", "Label: stickworker"))


def stripped_of_its_signature(release: Path) -> None:
    """The result is still an OpenPGP message, which gpg reads without an error."""
    text = release.read_text().partition("\n\n")[2].partition("-----BEGIN")[0]
    stored = subprocess.run(["gpg", "--batch", "--store"], input=text.encode(), capture_output=True, check=True)
    release.write_bytes(stored.stdout)


@pytest.mark.parametrize("change", [edited, stripped_of_its_signature], ids=lambda change: change.__name__)
def test_a_changed_index_is_refused(
    change: Callable[[Path], None], published: Path, newer_packages: Path, key: Key
) -> None:
    release = published / "apt/dists/stable/InRelease"
    change(release)
    refuse(
        try_publish(newer_packages, published, str(key.private)), str(release), "no trusted key has signed this content"
    )


def test_a_folder_with_a_link_is_refused(published: Path, newer_packages: Path, key: Key, tmp_path: Path) -> None:
    secret = tmp_path / "authorized_keys"
    secret.write_text("secret")
    link = published / "apt/dists/stable/InRelease.new"
    link.symlink_to(secret)
    refuse(try_publish(newer_packages, published, str(key.private)), str(link), str(secret), "Remove it")
    assert secret.read_text() == "secret"


def test_each_rpm_is_signed_when_it_is_published(published: Path, packages: Path) -> None:
    assert all(is_signed(file) for file in published.glob("dnf/packages/*.rpm"))
    assert not any(is_signed(file) for file in packages.glob("*.rpm"))


def test_an_rpm_signed_with_another_key_is_refused(packages: Path, key: Key, other_key: Key, tmp_path: Path) -> None:
    theirs = publish(packages, tmp_path / "theirs", other_key) / "dnf/packages"
    for deb in packages.glob("*.deb"):
        shutil.copy(deb, theirs)
    refuse(
        try_publish(theirs, tmp_path / "repo", str(key.private)),
        "is already signed, with a key that clients do not trust",
    )


def test_old_versions_are_kept_up_to_a_limit(published: Path, packages: Path, newer_packages: Path, key: Key) -> None:
    publish(newer_packages, published, key)
    both = ["0.1.0-0.1", "99.0.0-0.1"]
    assert versions(published, "stockworker-agent") == (both, both)
    assert len(list(published.glob("*/p*/**/stockworker-agent[_-][0-9]*"))) == 4

    publish(newer_packages, published, key, "--keep", "1")

    assert versions(published, "stockworker-agent") == (both[1:], both[1:])
    assert len(list(published.glob("*/p*/**/stockworker-agent[_-][0-9]*"))) == 2

    publish(packages, published, key, "--keep", "1")  # an earlier version does not replace a later one
    assert versions(published, "stockworker-agent") == (both[1:], both[1:])


def test_a_repository_is_reproducible_except_for_signatures(
    once: Path, packages: Path, key: Key, tmp_path: Path
) -> None:
    again = publish(packages, tmp_path / "repo", key, SOURCE_DATE_EPOCH=NOON)

    for repository in (once, again):
        copy = Path(shutil.copytree(repository, tmp_path / "unsigned" / repository.parent.name))
        release = copy / "apt/dists/stable/InRelease"
        release.write_text(release.read_text().partition("-----BEGIN PGP SIGNATURE-----")[0])
        for rpm in copy.glob("dnf/packages/*.rpm"):
            subprocess.run(["rpmsign", "--delsign", rpm], check=True)
        shutil.rmtree(copy / "dnf/repodata")  # it names the signed packages by their checksums
    one, another = (contents(copy) for copy in (tmp_path / "unsigned").iterdir())
    assert one == another
    first, second = (re.sub(r">\w{64}<", "><", primary(repository / "dnf")) for repository in (once, again))
    assert first == second


def test_a_publication_is_not_backdated(published: Path, newer_packages: Path, key: Key) -> None:
    earlier = str(int(NOON) - 1)
    done = try_publish(newer_packages, published, str(key.private), SOURCE_DATE_EPOCH=earlier)
    refuse(done, "has a later date", "clients would ignore")


def test_a_client_gets_updates_published_within_one_second(published: Path, packages: Path, key: Key) -> None:
    release = published / "apt" / "dists" / "stable" / "InRelease"
    times = [int(release.stat().st_mtime)]
    for _ in range(2):
        publish(packages, published, key)
        times.append(int(release.stat().st_mtime))
    assert times[0] < times[1] < times[2]


@pytest.mark.parametrize("options", [("--keep", "0"), ("--valid-days", "soon")])
def test_numbers_are_numbers(options: tuple[str, str], packages: Path, key: Key, tmp_path: Path) -> None:
    done = try_publish(packages, tmp_path / "repo", str(key.private), *options)
    assert done.returncode == 2
    assert f"argument {options[0]}: {options[1]!r} is not a number from 1 on" in done.stderr


def test_a_keyring_that_changes_is_a_new_version_of_its_package(
    published: Path, packages: Path, key: Key, other_key: Key, tmp_path: Path
) -> None:
    name = "stockworker-archive-keyring"
    (first,) = versions(published, name)[0]
    publish(packages, published, key, SOURCE_DATE_EPOCH=str(int(NOON) + 1))
    assert versions(published, name) == ([first], [first])

    both = tmp_path / "both.asc"
    both.write_text(key.public.read_text() + other_key.public.read_text())
    publish(packages, published, key, "--keyring", both, SOURCE_DATE_EPOCH=str(int(NOON) + 2))

    debs, rpms = versions(published, name)
    assert debs == rpms == [first, first.replace("120000", "120002")]


class Reader:
    """A client that reads at any moment: every file that an index names must exist."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._suite = folder / "apt/dists/stable"
        self._known = {**self._of_apt(), **self._of_dnf()}
        self.looks = 0

    def look(self) -> None:
        self.looks += 1
        packages = self._packages()
        for file, digest in {**self._known, **self._of_apt(), **self._of_dnf(), **packages}.items():
            assert sha256(file) == digest

    def _of_apt(self) -> dict[Path, str]:
        named = re.findall(r"^ (\w{64}) \d+ (\S+)$", (self._suite / "InRelease").read_text(), re.MULTILINE)
        return {(self._suite / name).parent / "by-hash/SHA256" / digest: digest for digest, name in named}

    def _of_dnf(self) -> dict[Path, str]:
        return {self._folder / "dnf" / name: Path(name).name.partition("-")[0] for name in named(self._folder / "dnf")}

    def _packages(self) -> dict[Path, str]:
        index = next(file for file in self._of_apt() if b"Package:" in file.read_bytes()).read_text()
        debs = re.findall(r"^Filename: (.+)\nSize: \d+\nSHA256: (.+)$", index, re.MULTILINE)
        checksum = r'<checksum type="sha256" pkgid="YES">(\w+)</checksum>.*?<location href="(.+?)"'
        rpms = re.findall(checksum, primary(self._folder / "dnf"), re.DOTALL)
        return {self._folder / "apt" / name: digest for name, digest in debs} | {
            self._folder / "dnf" / name: digest for digest, name in rpms
        }


def test_every_file_that_an_index_names_exists_at_any_moment(
    published: Path, newer_packages: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(published)

    def watched(name: str) -> None:
        act: Callable[..., object] = getattr(os, name)

        def do(*arguments: object, **folders: int) -> None:
            act(*arguments, **folders)
            if folders:
                reader.look()

        monkeypatch.setattr(os, name, do)

    for name in ("rename", "unlink"):
        watched(name)
    options = Options(int(NOON) + 1, keep=1)
    with opened(str(key.private), None) as signer:
        debs = apt.select(published / "apt", newer_packages.glob("*.deb"), signer, options)
        rpms = dnf.select(published / "dnf", newer_packages.glob("*.rpm"), signer, options.keep)
        apt.publish(published / "apt", debs, signer, options)
        dnf.publish(published / "dnf", rpms, signer, options)

    assert reader.looks > 20
    assert versions(published, "stockworker-agent") == (["99.0.0-0.1"], ["99.0.0-0.1"])


def is_signed(rpm: Path) -> bool:
    shown = subprocess.run(
        ["rpm", "-qp", "--qf", "%{RSAHEADER:pgpsig}", rpm], check=True, capture_output=True, text=True
    )
    return shown.stdout != "(none)"
