"""From the configuration to the settings of a connection: the same for clients and both services."""

from stockworker.adapters.mqtt import LinkSettings
from stockworker.adapters.tls import client_context
from stockworker.config import Config


def link_settings(config: Config, client_id: str) -> LinkSettings:
    """Say how the broker is reached.

    Raises:
        ConfigError: a certificate, key or password file can't be used.
    """
    mqtt, tls = config.queue.mqtt, config.tls
    return LinkSettings(
        host=mqtt.host,
        port=mqtt.port,
        client_id=client_id,
        username=mqtt.username,
        password=mqtt.read_password(),
        tls=None if tls is None else client_context(tls.ca_file, tls.cert_file, tls.key_file),
        keepalive_s=int(mqtt.keepalive_s),
        backoff_cap_s=mqtt.reconnect_max_s,
    )
