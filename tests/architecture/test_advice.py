"""Each advice in a text of the product has a test that follows it."""

import pytest

from tests.harness.advice import followed, given


@pytest.mark.parametrize("text", sorted(given()))
def test_an_advice_is_followed(text: str) -> None:
    assert text in followed(), "follow this advice in a test, and mark the test with tests.harness.advice.follows"


def test_what_tests_follow_is_an_advice() -> None:
    assert followed() - given() == set(), "the text has changed; follow the new one"
