"""From the configuration to the settings of a connection: the same for clients and both services."""

from stockworker.adapters.mqtt import LinkSettings
from stockworker.adapters.tls import TlsFiles, common_name
from stockworker.config import Config
from stockworker.errors import ConfigError
from stockworker.protocol.ids import ClientId, check_id


def link_settings(config: Config, client_id: str) -> LinkSettings:
    """Say how the broker is reached.

    Raises:
        ConfigError: a certificate, key or password file can't be used.
    """
    mqtt, tls = config.queue.mqtt, config.tls
    mqtt.read_password()  # what is wrong is told now, not by the first connection
    return LinkSettings(
        host=mqtt.host,
        port=mqtt.port,
        client_id=client_id,
        username=mqtt.username,
        password=mqtt.read_password,
        tls=None if tls is None else TlsFiles(tls.ca_file, tls.cert_file, tls.key_file),
        keepalive_s=int(mqtt.keepalive_s),
        backoff_cap_s=mqtt.reconnect_max_s,
    )


def client_name(config: Config) -> ClientId:
    """Say who submits: as configured, or else as the certificate has it, which is the name that the broker knows.

    Raises:
        ConfigError: the certificate can't be read, or its name is no id.
    """
    if config.client.id is not None:
        return config.client.id
    file = None if config.tls is None else config.tls.cert_file
    if file is None:
        raise AssertionError("without a certificate the configuration has an id for the client")
    try:
        return ClientId(check_id(common_name(file)))
    except ValueError as error:
        raise ConfigError(f"{file}: its common name is no id: {error}. Set 'client.id', or issue another") from None
