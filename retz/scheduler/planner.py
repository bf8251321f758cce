"""Planners: the order in which queued jobs are considered.

A planner gives every shape a rank. Jobs stand in order of (rank, id): the lowest first. Placement follows the
order, but a later job of another shape may pass one that does not fit now.
"""

from __future__ import annotations

from typing import Protocol


class Planner(Protocol):
    """An order of the queue, found by its name."""

    name: str

    def rank(self, owner: str, priority: int) -> int:
        """The rank of a job of this owner and priority. Lower is considered first; equal ranks go by id."""


class Fifo:
    """First submitted, first considered. Priorities are ignored."""

    name = "fifo"

    def rank(self, owner: str, priority: int) -> int:
        """The same for all."""
        return 0


class Priority:
    """The lowest priority number first, as with ``nice``; the first submitted among equals."""

    name = "priority"

    def rank(self, owner: str, priority: int) -> int:
        """The priority itself."""
        return priority


PLANNERS: dict[str, type[Planner]] = {"fifo": Fifo, "priority": Priority}


def find(name: str) -> Planner:
    """Return a new planner of this name.

    Raises:
        ValueError: naming the planners that exist.
    """
    kind = PLANNERS.get(name)
    if kind is None:
        raise ValueError(f"unknown planner {name!r}; choose one of: {', '.join(sorted(PLANNERS))}")
    return kind()
