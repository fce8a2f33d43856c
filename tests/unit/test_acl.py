"""The text of the ACL; what a broker makes of it is in tests/contract/test_acl.py."""

import pytest

from stockworker.broker.acl import acl
from stockworker.cli import main
from stockworker.pki.access_list import users_of
from stockworker.terminal.exits import Exit


def test_a_worker_needs_no_line_of_its_own() -> None:
    patterns = [line for line in acl().splitlines() if line.startswith("pattern ")]
    assert "pattern write jobs/request/%u" in patterns
    assert [line for line in patterns if "%u" not in line] == ["pattern read system/dispatcher"]


def test_denials_come_first_for_everybody_who_is_named() -> None:
    for block in acl(operators=["boss"], clients=["alice"]).split("\nuser ")[1:]:
        name, *lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        denied = [line for line in lines if line.startswith("topic deny ")]
        assert lines[: len(denied)] == denied
        assert all(name in line for line in denied)


def test_the_dispatcher_submits_tracers_under_its_own_name_alone() -> None:
    own = acl(dispatchers=["hub"]).partition("\nuser hub\n")[2].splitlines()
    assert [line for line in own if line.endswith(("/hub", "/hub/+", "dropped"))][-4:] == [
        "topic write jobs/queue/+/+/hub",
        "topic read jobs/receipt/hub",
        "topic read jobs/notice/hub/+",
        "topic read $SYS/broker/publish/messages/dropped",
    ]
    assert "topic write jobs/queue/+/+/+" not in own


def test_a_name_without_a_role_any_longer_stays_and_is_denied_everything() -> None:
    text = acl(clients=["alice"], removed=["bob", "alice", "bob"])
    assert text.count("user bob") == 1
    assert text.endswith("# removed\nuser bob\ntopic deny #\n")
    assert users_of(text) == {"dispatcher": "dispatcher", "alice": "client", "bob": "removed"}
    assert users_of("topic read a\n user  bob \n#\nuser carol\n# user dan\n") == {"bob": "", "carol": ""}
    with pytest.raises(ValueError, match="not a valid ID"):
        acl(removed=["+"])


@pytest.mark.parametrize("name", ["a\nuser b", "a b", "", "+", "#"])
def test_a_name_can_not_add_lines_or_wildcards(name: str) -> None:
    with pytest.raises(ValueError, match="not a valid ID"):
        acl(clients=[name])


def test_a_name_has_one_role() -> None:
    with pytest.raises(ValueError, match="'alice' is given more than once"):
        acl(operators=["alice"], clients=["alice"])


@pytest.mark.parametrize("wrong", [["site=+"], ["site=a,,b"], ["+"], ["site=a", "site=b"], ["dispatcher"]])
def test_a_bridge_has_one_name_and_lists_ids(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = [word for name in wrong for word in ("--bridge", name)]
    assert main(["acl", *options]) == Exit.USAGE
    assert capsys.readouterr().out == ""
    assert main(["acl", "--bridge", "site=w1,alice"]) == Exit.OK
    printed = capsys.readouterr().out.partition("user site\n")[2].splitlines()
    assert "topic write jobs/report/w1" in printed
    assert "topic write jobs/report/+" not in printed
