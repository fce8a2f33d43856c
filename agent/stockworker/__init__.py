"""Job processing for fleets of Linux machines over MQTT."""

__version__ = "0.1.0"
