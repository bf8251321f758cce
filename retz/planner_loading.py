"""Finding planners of users' own by name: a dotted path, or an entry point of group ``retz.planners``."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from retz.scheduler.plugin import OwnPlanner

GROUP = "retz.planners"


class LoadError(Exception):
    """A planner cannot be had; the text says why, and what to do."""


def names() -> list[str]:
    """The planners that installed packages offer by name."""
    return sorted(entry.name for entry in entry_points(group=GROUP))


def is_own(name: str) -> bool:
    """Whether a name means a planner of a user's own: it has a dot, or an installed package offers it."""
    return "." in name or name in names()


def load(name: str) -> OwnPlanner:
    """Import a planner and make one.

    Raises:
        LoadError: there is none of that name, or it is no planner. What its own code raises comes as it is.
    """
    found = _entry(name).load() if "." not in name else _by_path(name)
    planner = found() if isinstance(found, type) else found
    if not callable(getattr(planner, "plan", None)):
        raise LoadError(f"{name} has no method 'plan': docs/planners.md says what a planner looks like")
    return cast("OwnPlanner", planner)


def _entry(name: str) -> EntryPoint:
    for entry in entry_points(group=GROUP, name=name):
        return entry
    there = f"there are {', '.join(names())}" if names() else "no installed package has any"
    raise LoadError(f"no entry point {name!r} in group {GROUP} ({there}); or write a dotted path: package.module.Class")


def _by_path(path: str) -> object:
    module_name, _, attribute = path.rpartition(".")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        raise LoadError(
            f"there is no module {error.name!r} here: install its package into this Python environment, or put its "
            "directory on PYTHONPATH"
        ) from None
    try:
        found: object = getattr(module, attribute)
    except AttributeError:
        raise LoadError(f"module {module_name} has nothing called {attribute!r}") from None
    return found
