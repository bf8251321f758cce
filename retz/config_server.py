"""The server's configuration: option, ``RETZ_*``, the user's file (or ``--config``), the default.

No project file: what a service does must not depend on the directory it was started from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from .config import ConfigError, Settings, resolve, sources, user_file
from .model.agent import Gpu
from .model.resources import Resources
from .store.options import StoreOptions


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Everything the server can be told. Field ``max_list_jobs`` is key ``retz.max.list-jobs``, and so on.

    Attributes:
        local_ports: First port, and the one after the last.
        client_config_path: Where the identity of this user's client belongs.

    Units: durations in seconds, sizes in MiB. The meaning of each is in ``retz.config_keys.KEYS``.
    """

    bind: str
    engine: str
    data_dir: Path
    access_key: str | None
    access_secret: str | None = field(repr=False)
    authentication: bool
    shared_uid: bool
    tls_certificate: Path | None
    tls_key: Path | None
    max_running: int
    max_cpus: float
    max_mem: int
    max_disk: int
    max_gpus: int
    max_ports: int
    max_list_jobs: int
    max_file_size: int
    max_jobs_per_request: int
    max_user_queued: int
    max_user_running: int
    max_user_cpus: float
    max_user_mem: int
    max_user_gpus: int
    planner_name: str
    planner_budget: float
    planner_fair_resources: str
    planner_half_life: float
    planner_patience: float
    retries: int
    kill_grace: float
    archive_keep: float
    sandbox_keep: float
    local_cpus: float
    local_mem: int
    local_disk: int
    local_gpus: str
    local_ports: tuple[int, int]
    local_sample_interval: float
    local_attributes: dict[str, str | float | bool]
    local_user: str | None
    fetch_timeout: float
    fetch_max_size: int
    fetch_cache: int
    container_runtime: str
    container_options: str | None
    container_network: str
    container_host_paths: str | None
    container_volume_drivers: str
    mesos_master: str | None
    mesos_name: str
    mesos_roles: str
    mesos_user: str | None
    mesos_principal: str | None
    mesos_secret_file: Path | None
    mesos_webui_url: str | None
    mesos_failover_timeout: float
    mesos_unreachable_wait: float
    mesos_refuse: float
    mesos_poll: float
    mesos_sample_interval: float
    gpu_exporter: str | None
    notify_allow: str | None
    notify_command: str | None
    estimator_enabled: bool
    estimator_solver: str
    estimator_alpha: float
    estimator_beta: float
    estimator_interval: float
    estimator_min_runs: int
    estimator_keep_runs: int
    estimator_idle: float
    predicted_floor: int
    log_level: str
    store_journal_size: int
    store_keep: float
    client_config_path: Path
    settings: Settings = field(default=Settings({}), repr=False, compare=False)

    @property
    def sample_interval_s(self) -> float:
        """Seconds between two measurements of what running jobs use."""
        return self.mesos_sample_interval if self.engine == "mesos" else self.local_sample_interval

    @property
    def local_total(self) -> Resources | None:
        """What this machine offers to jobs; None to offer what the engine finds."""
        if not (self.local_cpus or self.local_mem or self.local_disk):
            return None
        return Resources(
            cpus=self.local_cpus or float(len(os.sched_getaffinity(0))),
            mem=self.local_mem or psutil.virtual_memory().total >> 20,
            disk=self.local_disk or psutil.disk_usage(str(_existing(self.data_dir))).free >> 20,
        )

    @property
    def declared_gpus(self) -> tuple[Gpu, ...] | None:
        """GPUs named by the configuration; None to ask NVML."""
        text = self.local_gpus
        if text == "auto":
            return None
        names = [str(n) for n in range(int(text))] if text.isdecimal() else text.split(",")
        return tuple(Gpu(uuid=name.strip(), index=index) for index, name in enumerate(names))

    @property
    def notify_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Where ``--on-end`` may call although it is not public.

        Raises:
            ValueError: naming what is no network.
        """
        parts = (part.strip() for part in (self.notify_allow or "").split(","))
        return tuple(ip_network(part, strict=False) for part in parts if part)

    def store_options(self) -> StoreOptions:
        """How the store keeps its journals."""
        size = max(1, self.store_journal_size) << 20
        return StoreOptions(rotate_bytes=size, compact_bytes=size, keep_sealed_s=self.store_keep)

    @property
    def host(self) -> str:
        """The host to bind."""
        return urlsplit(self.bind).hostname or ""

    @property
    def port(self) -> int:
        """The port to bind; 0 lets the system choose."""
        parts = urlsplit(self.bind)
        return parts.port if parts.port is not None else 443 if parts.scheme == "https" else 80

    @property
    def tls(self) -> bool:
        """Whether the server speaks https."""
        return self.bind.startswith("https:")


def load_server(
    options: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> ServerConfig:
    """Return the server's configuration.

    Args:
        options: By key name (``retz.data-dir``), what the command line said; None values count as not said.
        file: Read this instead of the user's file.

    Raises:
        ConfigError: names file, line and key.
    """
    environ = os.environ if environ is None else environ
    settings = resolve(options or {}, environ, sources(environ, None, file))
    config = ServerConfig(**settings.of_scope("server"), client_config_path=user_file(environ), settings=settings)
    _check(config)
    return config


def _check(config: ServerConfig) -> None:
    if config.tls and not (config.tls_certificate and config.tls_key):
        raise ConfigError("retz.bind is https: set retz.tls.certificate and retz.tls.key to PEM files")
    if not config.authentication and not _is_loopback(config.host):
        raise ConfigError(
            f"retz.authentication is off and retz.bind is {config.bind}: whoever reaches it could run "
            "commands as you; bind 127.0.0.1 or leave authentication on"
        )
    if config.planner_budget <= 0:
        raise ConfigError("retz.planner.budget must be more than 0: the time for one plan of a planner of your own")
    if config.planner_half_life <= 0:
        raise ConfigError("retz.planner.half-life must be more than 0; as much as 3650d never forgets, near enough")
    try:
        _ = config.notify_networks
    except ValueError as error:
        raise ConfigError(f"retz.notify.allow: {error}; write networks with commas between: 10.0.0.0/8") from None
    if config.estimator_keep_runs < 1:
        raise ConfigError("retz.estimator.keep-runs must be at least 1; retz.estimator.enabled = false keeps none")
    # Without signatures Retz wanted no secret; one is made up then, for the day they are switched on.
    unsigned = config.access_key is not None and not config.authentication
    if (config.access_secret is None) != (config.access_key is None) and not unsigned:
        raise ConfigError("retz.access.key and retz.access.secret belong together: set both or neither")


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
