"""From the server's configuration to its scheduler."""

from __future__ import annotations

from retz.config import ConfigError
from retz.config_server import ServerConfig
from retz.scheduler.limits import UserLimits
from retz.scheduler.scheduler import Scheduler
from retz.scheduler.shares import Shares


def scheduler_of(config: ServerConfig) -> Scheduler:
    """Return a scheduler as configured.

    Raises:
        ConfigError: names the file or variable, the key and what to write there.
    """
    limits = UserLimits(config.max_user_running, config.max_user_cpus, config.max_user_mem, config.max_user_gpus)
    names = [name.strip() for name in config.planner_fair_resources.split(",") if name.strip()]
    key = "retz.planner.fair-resources"
    try:
        shares = Shares(names, config.planner_half_life)
        key = "retz.planner.name"
        return Scheduler(
            config.planner_name,
            config.max_running,
            user_limits=limits,
            patience_s=config.planner_patience,
            shares=shares,
        )
    except ValueError as error:
        origin = config.settings.values[key].origin
        raise ConfigError(f"{origin.place or origin.kind}: {key}: {error}") from None
