"""The hangs of booted machines replace parts of adapters by name: under another name they would hang nothing."""

from stockworker.adapters import mqtt_connection, mqtt_wire
from tests.harness.injected_hangs import _objects


class Answers(mqtt_wire._Answers):
    def __init__(self) -> None:
        """Without a connection."""


def test_a_confirmation_can_be_ignored() -> None:
    answers, heard = Answers(), list[bytes]()
    setattr(answers, "_acknowledged", heard.append)  # noqa: B010 (as the hang does it, which has no types)
    answers.take(0x40, b"\0\1")
    assert heard == [b"\0\1"]


def test_the_objects_are_found_by_their_names() -> None:
    wire = mqtt_wire.MqttWire.__new__(mqtt_wire.MqttWire)
    connection = mqtt_connection.Connection.__new__(mqtt_connection.Connection)
    assert wire in list(_objects("mqtt_wire", "MqttWire"))
    assert connection in list(_objects("mqtt_connection", "Connection"))
