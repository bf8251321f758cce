"""Planners: the order in which queued jobs are considered.

A planner gives every shape a rank. Jobs stand in order of (rank, id): the lowest first. A planner ``by_user``
has such an order for each user, and the user with the least share goes next (see ``shares.py``). Placement
follows the order, but a later job of another shape may pass one that does not fit now.
"""

from __future__ import annotations

from typing import Protocol


class Planner(Protocol):
    """An order of the queue, found by its name."""

    name: str
    by_user: bool

    def rank(self, owner: str, priority: int) -> int:
        """The rank of a job of this owner and priority. Lower is considered first; equal ranks go by id."""


class Fifo:
    """First submitted, first considered. Priorities are ignored."""

    name = "fifo"
    by_user = False

    def rank(self, owner: str, priority: int) -> int:
        """The same for all."""
        return 0


class Priority:
    """The lowest priority number first, as with ``nice``; the first submitted among equals."""

    name = "priority"
    by_user = False

    def rank(self, owner: str, priority: int) -> int:
        """The priority itself."""
        return priority


class Fair(Priority):
    """The user with the least share first; among jobs of one user as :class:`Priority`."""

    name = "fair"
    by_user = True


class Outside(Fifo):
    """A planner of a user's own, which runs in another process: by itself, the queue is in order of submission."""

    def __init__(self, name: str) -> None:
        self.name = name


PLANNERS: dict[str, type[Planner]] = {"fair": Fair, "fifo": Fifo, "priority": Priority}


def find(name: str) -> Planner:
    """Return a new planner of this name.

    Raises:
        ValueError: naming the planners that exist.
    """
    kind = PLANNERS.get(name)
    if kind is None:
        raise ValueError(
            f"unknown planner {name!r}; choose one of: {', '.join(sorted(PLANNERS))}; or one of your own, as "
            "package.module.Class or by the name of an entry point in group retz.planners"
        )
    return kind()
