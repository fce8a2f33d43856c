"""apt and dnf as clients of a repository that `make repo` has published: what they install, and what they refuse."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.harness import site
from tests.harness.guest import Guest
from tests.harness.package_tools import APT, WITH_APT, WITH_DNF, PackageTool, System
from tests.harness.publishing import Key, publish
from tests.packages.conftest import on

OLD, NEW = "0.1.0-0.1", "99.0.0-0.1"
KEYRING = "stockworker-archive-keyring"
ONE_VERSION = ("stockworker", "stockworker-libraries", "stockworker-agent")
"""The packages of a worker: they depend on each other in the same version."""
URL = ("--url", "http://127.0.0.1:8000")
LONG_AGO = "1699963200"

with_apt, with_dnf, with_each = on(*WITH_APT), on(*WITH_DNF), on(*WITH_APT, *WITH_DNF)


@dataclass(frozen=True, slots=True)
class Ways:
    """The commands for one client, as in docs/packages.md.

    Attributes:
        key: the path of the keyring.
        settings: the file that names the repository.
        forget: a shell command that resets the client.
        refresh: reads the index of the repository.
        upgrade: installs the newest version of everything.
        roll_back: installs earlier versions.
        version: the notation for a package of a version.
        show: prints name and version of the installed packages of the product.
    """

    key: str
    settings: str
    forget: str
    refresh: tuple[str, ...]
    upgrade: tuple[str, ...]
    roll_back: tuple[str, ...]
    version: str
    show: tuple[str, ...]


_APT_GET: Final = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y")
_BY_APT: Final = Ways(
    key="/usr/share/keyrings/stockworker-archive-keyring.asc",
    settings="/etc/apt/sources.list.d/stockworker.sources",
    forget="dpkg --purge $(dpkg-query -W -f '${Package} ' 'stockworker*'); apt-get clean; rm -rf /var/lib/apt/lists",
    refresh=("apt-get", "update", "--error-on=any"),  # otherwise it continues with its cached index
    upgrade=(*_APT_GET, "upgrade"),
    roll_back=(*_APT_GET, "install", "--allow-downgrades"),
    version="=",
    show=("dpkg-query", "-W", "-f", "${Package} ${Version}\n", "stockworker*"),
)
_BY_DNF: Final = Ways(
    key="/etc/pki/rpm-gpg/RPM-GPG-KEY-stockworker",
    settings="/etc/yum.repos.d/stockworker.repo",
    forget="rpm -e $(rpm -qa 'stockworker*' gpg-pubkey); rm -rf /var/cache/dnf",
    refresh=("dnf", "-y", "makecache"),
    upgrade=("dnf", "-y", "upgrade"),
    roll_back=("dnf", "-y", "downgrade"),
    version="-",
    show=("rpm", "-qa", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE}\n", "stockworker*"),
)


@dataclass(frozen=True, slots=True)
class Client:
    """A machine with a repository on its own web server."""

    guest: Guest
    tool: PackageTool

    @property
    def ways(self) -> Ways:
        return _BY_APT if self.tool is APT else _BY_DNF

    def begin(self, repository: Path, key: Path | None = None) -> Path:
        """Reset the client, and configure the repository; return the folder that the web server serves."""
        self.guest.try_run("sh", "-c", self.ways.forget)
        folder = self.serve(repository)
        self.guest.write(self.ways.key, (key or repository / f"{KEYRING}.asc").read_text())
        self.guest.write(self.ways.settings, (repository / Path(self.ways.settings).name).read_text())
        return folder

    def serve(self, repository: Path) -> Path:
        """Make the web server serve this repository from now on."""
        folder = self.guest.root / "srv" / "http"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(repository, folder)
        return folder

    def refresh(self) -> None:
        self.guest.run(*self.ways.refresh)

    def install(self, *names: str) -> None:
        self.guest.run(*self.tool.install_command, *names, timeout_s=300)

    def upgrade(self) -> None:
        self.guest.run(*self.ways.upgrade, timeout_s=300)

    def roll_back(self, version: str, *names: str) -> None:
        self.guest.run(*self.ways.roll_back, *(f"{name}{self.ways.version}{version}" for name in names), timeout_s=300)

    def installed(self) -> dict[str, str]:
        """The version of each installed package of the product."""
        listed = [line.split() for line in self.guest.try_run(*self.ways.show).stdout.splitlines()]
        return {
            fields[0]: fields[1] for fields in listed if len(fields) == 2
        }  # not packages that are known but not installed

    def refuse(self, words: str) -> None:
        """Check that nothing can be installed, and that the error names the reason."""
        refreshed = self.guest.try_run(*self.ways.refresh)
        installed = self.guest.try_run(*self.tool.install_command, "stockworker-broker", timeout_s=300)
        assert installed.returncode != 0
        assert words in refreshed.stdout + installed.stdout
        assert "stockworker-broker" not in self.installed()


@pytest.fixture(scope="module")
def client(
    bare: tuple[Path, ...], host: str, system: System, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A machine without any repository."""
    with Guest(bare, tmp_path_factory.mktemp("client") / host, host) as guest:
        (guest.root / "srv" / "http").mkdir(parents=True)
        serve = ("python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "/srv/http", "8000")
        guest.run("systemd-run", "--unit=web", *serve)
        guest.try_run("rm", "/etc/apt/sources.list")  # the archive is not reachable
        guest.wait_until(partial(site.is_listening, guest, 8000), "the web server listens")
        yield Client(guest, system.tool)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repositories")


@pytest.fixture(scope="module")
def ours(packages: Path, key: Key, folder: Path) -> Path:
    return publish(packages, folder / "ours", key, *URL)


@pytest.fixture(scope="module")
def later(ours: Path, newer_packages: Path, key: Key, folder: Path) -> Path:
    """The repository after the next release."""
    return publish(newer_packages, Path(shutil.copytree(ours, folder / "later")), key, *URL)


@pytest.fixture(scope="module")
def keys(key: Key, other_key: Key, folder: Path) -> Path:
    """The repository when the current key signs and the next key is known."""
    file = folder / "keys.asc"
    file.write_text(key.public.read_text() + other_key.public.read_text())
    return file


@pytest.fixture(scope="module")
def between(ours: Path, packages: Path, key: Key, keys: Path, folder: Path) -> Path:
    """The next key is announced."""
    return publish(packages, Path(shutil.copytree(ours, folder / "between")), key, "--keyring", keys, *URL)


@pytest.fixture(scope="module")
def rotated(between: Path, newer_packages: Path, other_key: Key, keys: Path, folder: Path) -> Path:
    """The next key signs."""
    repository = Path(shutil.copytree(between, folder / "rotated"))
    return publish(newer_packages, repository, other_key, "--keyring", keys, *URL)


@pytest.fixture(scope="module")
def theirs(packages: Path, other_key: Key, folder: Path) -> Path:
    return publish(packages, folder / "theirs", other_key, *URL)


@pytest.fixture(scope="module")
def expired(packages: Path, expired_key: Key, folder: Path) -> Path:
    """Signed with a key after it has expired."""
    return publish(packages, folder / "expired", expired_key, *URL)


@pytest.fixture(scope="module")
def outdated(packages: Path, key: Key, folder: Path) -> Path:
    """A repository whose index has outlived its announced time."""
    return publish(packages, folder / "outdated", key, "--valid-days", "1", *URL, SOURCE_DATE_EPOCH=LONG_AGO)


def alter(*files: Path) -> None:
    """Flip one bit in the middle of files."""
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)


def index_again(folder: Path, key: Key) -> None:
    """Rebuild a valid index of dnf for changed packages."""
    subprocess.run(["createrepo_c", "--quiet", "--no-database", folder], check=True)
    key.sign(folder / "repodata" / "repomd.xml")


@with_each
def test_a_client_installs_upgrades_and_rolls_back(client: Client, ours: Path, later: Path) -> None:
    client.begin(ours)
    client.refresh()
    client.install("stockworker-agent", KEYRING)
    installed = client.installed()
    assert installed.pop(KEYRING)
    assert installed == dict.fromkeys(ONE_VERSION, OLD)
    before = (client.guest.root / client.ways.key[1:]).read_bytes()

    client.serve(later)
    client.refresh()
    client.upgrade()
    assert {**client.installed(), KEYRING: ""} == {**dict.fromkeys(ONE_VERSION, NEW), KEYRING: ""}

    client.roll_back(OLD, *ONE_VERSION)
    assert {**client.installed(), KEYRING: ""} == {**dict.fromkeys(ONE_VERSION, OLD), KEYRING: ""}
    assert (client.guest.root / client.ways.key[1:]).read_bytes() == before


@with_each
def test_a_client_with_the_new_keyring_accepts_the_new_key(
    client: Client, ours: Path, between: Path, rotated: Path
) -> None:
    client.begin(ours)
    client.refresh()
    client.install(KEYRING)

    client.serve(between)
    client.refresh()
    client.upgrade()

    client.serve(rotated)
    client.refresh()
    client.install("stockworker-broker")
    assert client.installed()["stockworker-broker"] == NEW


@with_each
def test_another_key_is_refused(client: Client, theirs: Path, key: Key, system: System) -> None:
    client.begin(theirs, key.public)
    client.refuse("is not signed" if system.tool is APT else "GPG signature verification error")


@with_each
def test_an_expired_key_is_refused(client: Client, expired: Path, expired_key: Key, system: System) -> None:
    client.begin(expired, expired_key.public)
    client.refuse("is not signed" if system.tool is APT else "GPG signature verification error")


@with_apt
def test_apt_refuses_an_edited_release_file(client: Client, ours: Path) -> None:
    release = client.begin(ours) / "apt/dists/stable/InRelease"
    release.write_text(release.read_text().replace("Label: stockworker", "Label: stickworker"))
    client.refuse("is not signed")


@with_apt
def test_apt_refuses_an_edited_index(client: Client, ours: Path) -> None:
    alter(*(client.begin(ours) / "apt/dists/stable/main").glob("*/by-hash/SHA256/*"))
    client.refuse("Hash Sum mismatch")


@with_apt
def test_apt_refuses_an_edited_package(client: Client, ours: Path) -> None:
    alter(*client.begin(ours).glob("apt/pool/stockworker-broker/*.deb"))
    client.refuse("Hash Sum mismatch")


@with_apt
def test_apt_refuses_an_outdated_index(client: Client, outdated: Path) -> None:
    client.begin(outdated)
    client.refuse("is expired")


@with_dnf
def test_dnf_refuses_an_edited_list_of_indexes(client: Client, ours: Path) -> None:
    index = client.begin(ours) / "dnf/repodata/repomd.xml"
    index.write_text(index.read_text().replace("<open-size>", "<open-size>1", 1))
    client.refuse("GPG signature verification error")


@with_dnf
def test_dnf_refuses_an_edited_index(client: Client, ours: Path) -> None:
    alter(*client.begin(ours).glob("dnf/repodata/*-primary.xml.gz"))
    client.refuse("checksum")


@with_dnf
def test_dnf_refuses_an_edited_package(client: Client, ours: Path) -> None:
    alter(*client.begin(ours).glob("dnf/packages/stockworker-broker-*.rpm"))
    client.refuse("stockworker-broker-0.1.0-0.1.noarch: Cannot download")


@with_dnf
def test_dnf_refuses_an_unsigned_package(client: Client, ours: Path, packages: Path, key: Key) -> None:
    folder = client.begin(ours) / "dnf"
    for rpm in packages.glob("*.rpm"):
        shutil.copy(rpm, folder / "packages")
    index_again(folder, key)
    client.refuse("is not signed")


@with_dnf
def test_dnf_refuses_a_package_that_another_key_has_signed(client: Client, ours: Path, theirs: Path, key: Key) -> None:
    folder = client.begin(ours) / "dnf"
    for rpm in theirs.glob("dnf/packages/*.rpm"):
        shutil.copy(rpm, folder / "packages")
    index_again(folder, key)
    client.refuse("GPG check FAILED")
