"""From the server's configuration to what the Mesos engine must know."""

from __future__ import annotations

from pathlib import Path

from retz.config import ConfigError
from retz.config_server import ServerConfig
from retz.engine.mesos.address import parse_master
from retz.engine.mesos.framework import MesosOptions


def mesos_options(config: ServerConfig, uri: str) -> MesosOptions:
    """Return the engine's options.

    Args:
        uri: Where this server listens, shown by Mesos unless another link is configured.

    Raises:
        ConfigError: names the key and what to write there.
    """
    principal, secret_file = config.mesos_principal, config.mesos_secret_file
    if (principal is None) and secret_file is not None:
        raise ConfigError("retz.mesos.secret-file is set: set retz.mesos.principal, whose secret it is, too")
    roles = tuple(dict.fromkeys(role.strip() for role in config.mesos_roles.split(",") if role.strip()))
    return MesosOptions(
        master=_master(config.mesos_master),
        name=config.mesos_name,
        roles=roles or ("*",),
        user=config.mesos_user,
        principal=principal,
        secret=_secret(secret_file) if secret_file is not None else None,
        webui_url=config.mesos_webui_url or uri,
        failover_timeout_s=config.mesos_failover_timeout,
        unreachable_wait_s=config.mesos_unreachable_wait,
        refuse_s=config.mesos_refuse,
        poll_s=config.mesos_poll,
        sample_s=config.mesos_sample_interval,
        exporter=config.gpu_exporter,
    )


def _master(text: str | None) -> str:
    if not text:
        raise ConfigError(
            'retz.engine is mesos: say where its master is with retz.mesos.master = "host:5050" or '
            '"zk://host:2181,host:2181/mesos" (option --mesos-master)'
        )
    try:
        return parse_master(text)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _secret(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        secret = path.read_text().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"retz.mesos.secret-file: cannot read {path}: {error}") from None
    if mode & 0o077:
        raise ConfigError(f"retz.mesos.secret-file: others may read {path}: chmod 600 it")
    if not secret or not secret.isascii() or not secret.isprintable():
        raise ConfigError(f"retz.mesos.secret-file: {path} must hold the secret, printable ASCII on one line")
    return secret
