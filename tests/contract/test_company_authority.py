"""An external authority: a root, an intermediate that signs, and short-lived revocation lists, made by OpenSSL."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockworker.adapters.tls import TlsFiles
from tests.harness.broker import Broker, Credentials
from tests.harness.command import run
from tests.harness.mosquitto import is_let_in, lets_in

CONFIG = """\
[ca]
default_ca = own
[own]
dir = .
database = $dir/index.txt
new_certs_dir = $dir
serial = $dir/serial
rand_serial = yes
default_md = sha256
policy = anything
default_days = 30
default_crl_days = 7
unique_subject = no
copy_extensions = copy
[anything]
commonName = supplied
[req]
distinguished_name = name
[name]
[ca_ext]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
[server]
basicConstraints = critical, CA:false
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
[client]
basicConstraints = critical, CA:false
extendedKeyUsage = clientAuth
"""


class Company:
    """A root that has signed one intermediate, and all that this signs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "openssl.cnf").write_text(CONFIG)
        (folder / "index.txt").touch()
        self._request("root", "Company Root")
        self._openssl("x509 -req -in root.csr -signkey root.key -extfile openssl.cnf -extensions ca_ext -out root.crt")
        self._request("fleet", "Company Fleet CA")
        self._sign("fleet", "root", "ca_ext")
        self.revocations()

    def issue(self, name: str, kind: str) -> Credentials:
        """A certificate, with the intermediate's behind it, as such authorities hand them out."""
        self._request(name, name)
        self._sign(name, "fleet", kind)
        chain = self.folder / f"{name}-chain.crt"
        chain.write_bytes((self.folder / f"{name}.crt").read_bytes() + (self.folder / "fleet.crt").read_bytes())
        return Credentials(chain, self.folder / f"{name}.key")

    def revoke(self, name: str) -> None:
        self._openssl(f"ca -config openssl.cnf -cert fleet.crt -keyfile fleet.key -revoke {name}.crt")
        self.revocations()

    def revocations(self) -> bytes:
        """The list of the intermediate."""
        self._openssl("ca -config openssl.cnf -cert fleet.crt -keyfile fleet.key -gencrl -out fleet.crl")
        return (self.folder / "fleet.crl").read_bytes()

    @property
    def root(self) -> Path:
        return self.folder / "root.crt"

    def _request(self, name: str, common_name: str) -> None:
        self._openssl(f"ecparam -name prime256v1 -genkey -noout -out {name}.key")
        (self.folder / f"{name}.key").chmod(0o600)
        self._openssl(f"req -new -config openssl.cnf -key {name}.key -out {name}.csr -subj", f"/CN={common_name}")

    def _sign(self, name: str, issuer: str, extensions: str) -> None:
        self._openssl(
            f"ca -config openssl.cnf -batch -notext -cert {issuer}.crt -keyfile {issuer}.key -in {name}.csr "
            f"-extensions {extensions} -out {name}.crt"
        )

    def _openssl(self, words: str, *more: str) -> None:
        subprocess.run(["openssl", *words.split(), *more], cwd=self.folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    return Company(tmp_path_factory.mktemp("company") / "ca")


@pytest.fixture
def broker(company: Company, tmp_path: Path) -> Iterator[Broker]:
    """A broker with certificates of the company's authority."""
    with Broker(tmp_path) as broker:
        server = company.issue("broker", "server")
        broker.ca_file.write_bytes(company.root.read_bytes())
        broker.crl_file.write_bytes(company.revocations())
        for source, target in ((server.certificate, "broker.crt"), (server.key, "broker.key")):
            (broker.ca_file.parent / target).write_bytes(source.read_bytes())
        broker.stop()
        broker.start()
        yield broker


def test_chains_verify_on_both_sides(company: Company, broker: Broker) -> None:
    who = company.issue("edge-1", "client")
    assert lets_in(broker, TlsFiles(company.root, who.certificate, who.key).context())


def test_who_the_company_revokes_stays_outside(company: Company, broker: Broker) -> None:
    who = company.issue("edge-2", "client")
    assert is_let_in(broker, who)
    company.revoke("edge-2")
    broker.crl_file.write_bytes(company.revocations())
    broker.stop()
    broker.start()
    assert not is_let_in(broker, who)


def test_a_check_finds_nothing_wrong_with_a_chain(company: Company, tmp_path: Path) -> None:
    who = company.issue("desk-1", "client")
    config = tmp_path / "job_processor.yml"
    config.write_text(
        f"job_processor:\n  client: {{id: desk-1}}\n  tls: {{ca_file: {company.root}, cert_file: {who.certificate}, "
        f"key_file: {who.key}}}\n"
    )
    done = run(config, "check", "--offline", "--json")
    assert [finding for finding in done.json_lines if finding["severity"] == "fail"] == []
    assert not any("and not by the authority" in finding["text"] for finding in done.json_lines)
