"""The marks of generated files: edits are detected, and options are remembered."""

import pytest

from stockworker.broker.generated import finished, is_untouched, settings_of

TEXT = "one\ntwo\n"


def test_what_was_made_is_known_for_it() -> None:
    made = finished(TEXT)
    assert made.startswith(TEXT)
    assert is_untouched(made)
    assert finished(TEXT) == made


@pytest.mark.parametrize(
    "edited",
    [
        TEXT,
        "",
        finished(TEXT).replace("two", "three"),
        finished(TEXT) + "three\n",
        "zero\n" + finished(TEXT),
        finished(TEXT).rpartition("#")[0],
    ],
)
def test_what_somebody_has_edited_or_written_is_known_too(edited: str) -> None:
    assert not is_untouched(edited)


def test_it_says_what_it_was_asked_for() -> None:
    settings = {"profile": "wan", "bridge": [["paris", ["edge-1"]]]}
    assert settings_of(finished(TEXT, settings)) == settings
    assert settings_of(finished(TEXT)) == {}
    assert settings_of(finished(TEXT, settings) + "max_connections 1\n") == settings
    assert settings_of(TEXT) == {}


@pytest.mark.parametrize("edited", ["{broken", "[1]"])
def test_what_it_was_asked_for_may_have_been_edited(edited: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|is not a JSON object"):
        settings_of(f"# Asked for: {edited}\n")
