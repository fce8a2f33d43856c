import pytest

from stockworker.protocol.compiling import compiled


def test_a_function_knows_only_the_names_it_gets() -> None:
    names = {"offset": 2}
    add = compiled("add", ["def add(value):", " return value + offset"], names)
    assert add(3) == 5
    assert names == {"offset": 2}
    with pytest.raises(NameError):
        compiled("add", ["def add(value):", " return value + unknown"], names)(3)
