"""What the configuration says of containers."""

from __future__ import annotations

import shlex

from retz.config import ConfigError
from retz.config_server import ServerConfig
from retz.engine.local.orders import Containers


def containers_of(config: ServerConfig) -> Containers:
    """Return how the local engine runs containers.

    Raises:
        ConfigError: a value makes no sense.
    """
    try:
        options = tuple(shlex.split(config.container_options or ""))
    except ValueError as error:
        raise ConfigError(f"retz.container.options: {error}") from None
    paths = _items(config.container_host_paths or "")
    for path in paths:
        if not path.startswith("/") or path == "/":
            raise ConfigError(f"retz.container.host-paths: {path!r} is no path below /")
    return Containers(
        runtime=config.container_runtime,
        options=options,
        network=config.container_network,
        host_paths=paths,
        volume_drivers=_items(config.container_volume_drivers),
    )


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())
