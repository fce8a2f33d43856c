from stockworker.handlers.spec import CommandHandler, PythonHandler


def test_settings_are_not_shown_with_a_handler() -> None:
    assert "secret" not in repr([PythonHandler("m:f", {"key": "secret"}), CommandHandler(("x",), {"key": "secret"})])
