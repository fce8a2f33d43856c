"""Settings of a connection and the client's ID, from the configuration; for clients and both services."""

from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.tls import TlsFiles, common_name
from stockworker.config import Config
from stockworker.errors import ConfigError
from stockworker.protocol.ids import ClientId, check_id


def link_settings(config: Config, client_id: str) -> LinkSettings:
    """The settings of a connection to the broker.

    Raises:
        ConfigError: a certificate, key or password file is not usable.
    """
    mqtt, tls = config.queue.mqtt, config.tls
    mqtt.read_password()  # report errors now, not at the first connection
    return LinkSettings(
        host=mqtt.host,
        port=mqtt.port,
        client_id=client_id,
        username=mqtt.username,
        password=mqtt.read_password,
        tls=None if tls is None else TlsFiles(tls.ca_file, tls.cert_file, tls.key_file, tls.crl_file),
        keepalive_s=int(mqtt.keepalive_s),
        backoff_cap_s=mqtt.reconnect_max_s,
    )


def client_name(config: Config) -> ClientId:
    """The client's ID: `client.id`, or else the common name of the certificate.

    Raises:
        ConfigError: the certificate is not readable, or its name is not a valid ID.
    """
    if config.client.id is not None:
        return config.client.id
    file = None if config.tls is None else config.tls.cert_file
    if file is None:
        raise AssertionError("without a certificate, the configuration has a client ID")
    try:
        return ClientId(check_id(common_name(file)))
    except ValueError as error:
        raise ConfigError(
            f"{file}: the common name is not a valid ID: {error}. Set 'client.id', or issue another certificate"
        ) from None


def own_service(config: Config, name: ClientId) -> str | None:
    """The service of this machine that has this name: its certificate is not one for clients. None for the name of a client."""
    if config.client.id is not None:
        return None
    return {str(config.worker.id): "worker", str(config.dispatcher.id): "dispatcher"}.get(name)
