"""From the server's configuration to its scheduler, and to the planner beside it."""

from __future__ import annotations

from retz import planner_loading
from retz.config import ConfigError
from retz.config_server import ServerConfig
from retz.scheduler.limits import UserLimits
from retz.scheduler.planner import PLANNERS
from retz.scheduler.scheduler import Scheduler
from retz.scheduler.shares import Shares

from .live import Live
from .planners.outside import OutsidePlanner


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
            outside=_is_outside(config.planner_name),
        )
    except ValueError as error:
        origin = config.settings.values[key].origin
        raise ConfigError(f"{origin.place or origin.kind}: {key}: {error}") from None


def _is_outside(name: str) -> bool:
    return name not in PLANNERS and planner_loading.is_own(name)


def outside_planner_of(config: ServerConfig, live: Live) -> OutsidePlanner | None:
    """The planner of a user's own, if the configuration names one."""
    if not live.scheduler.outside:
        return None
    return OutsidePlanner(config.planner_name, config.planner_budget, live.waiting_since, live.scheduler.try_again)
