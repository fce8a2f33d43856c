"""Each advice in a text of the product has a test that follows it."""

import pytest

from tests.harness.advice import followed, given

NOT_YET = {
    # Steps on another machine after a command that has succeeded. tests/packages/test_operations.py does most of them.
    "copy … to the authority, and run there: stockworker pki sign KIND … …",
    (
        "immediately: add … to dispatcher.denied_workers on the dispatcher's machine, and run 'systemctl reload "
        "stockworker-dispatcher'. Its jobs then go to other workers, and its messages are ignored"
    ),
    "next: 'stockworker pki issue dispatcher dispatcher', then a certificate for each worker, client and operator",
    "next: on the broker's machine run 'stockworker broker setup'; then 'stockworker pki issue' for all participants",
    "next: systemctl enable --now …",
    "then 'systemctl restart mosquitto'; a reload would keep existing connections. A restart loses no jobs",
    (
        "then on the broker's machine: stockworker broker setup. If this authority is on another machine, add …, and the "
        "--bridge options of the broker"
    ),
    "then on the broker's machine: stockworker broker setup; it removed the name after its expiry",
    "…; if its key was stolen: stockworker pki revoke …",
    # These need a broker of the system.
    "If it is a service, check it with --role. If it has a client's certificate: …",
    (
        "Run 'stockworker pki request … --out …' here and 'stockworker pki sign broker … ….csr' at the authority. Copy ca.crt, "
        "crl.pem and ….crt (as …) into …, rename ….key there to …, and run this command again"
    ),
    (
        "The broker's access control list does not have … as client or operator. … of one. For a new client, run `stockworker "
        "pki issue client …` at the fleet's authority, then `stockworker broker setup` on the broker's machine"
    ),
    "copy the authority's current list to crl_file; 'stockworker pki crl' writes one",
    "run `stockworker broker setup` on the broker's machine. With a user name, configure the one of this ID",
    (
        "the broker does not trust the authority of the client certificate: get one of the fleet's with 'stockworker pki "
        "request'"
    ),
    "the client certificate has been revoked: request a new one with 'stockworker pki request'",
    "the client certificate has expired: renew it with 'stockworker pki renew'",
    (
        "… is in the broker's access control list (…). … Choose another name. If all certificates of this name are revoked, run "
        "'stockworker broker setup' first: it removes its rights"
    ),
    (
        "… …: this name has a certificate of kind …, whose holder would get the rights of kind …. Use another name, or revoke "
        "that certificate: stockworker pki revoke …"
    ),
    "…. Copy the current list of the authority; 'stockworker pki crl' writes one",
    "the authority has certificates for several brokers (…). Name the hosts of this one with --host, each one that clients dial",
    "…: names no listener. Run 'stockworker broker setup' first",
    (
        "…: the authority is not on this machine. Run 'stockworker pki renew …' at the authority, copy ….crt here as …, and "
        "run this command without --renew"
    ),
    # These need time, an upgrade, or another user.
    "…. Run 'stockworker keys rotate' for it, and copy the keyring to all machines",
    "For results of jobs from before the upgrade, set encryption.accept_unproven_until",
    "it stays there if the worker is cut off (prefetch). To take it back: stockworker drain …",
    "Run 'chown root …' as root",
    "restore a backup, or move it away with its -wal and -shm files to start with an empty one",
    "unable to run it, see their logs; tried again in …, or after systemctl reload stockworker@INSTANCE there",
}
"""Advice that no test follows. Do not add to it: follow the advice in a test, and mark that test with `follows`."""


@pytest.mark.parametrize("text", sorted(given() - NOT_YET))
def test_an_advice_is_followed(text: str) -> None:
    assert text in followed(), "follow this advice in a test, and mark the test with tests.harness.advice.follows"


def test_what_tests_follow_is_an_advice() -> None:
    assert followed() - given() == set(), "the text has changed; follow the new one"


def test_what_is_not_followed_yet_is_an_advice() -> None:
    assert NOT_YET - given() == set()
    assert NOT_YET & followed() == set()
