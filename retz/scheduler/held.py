"""What jobs that start or end together hold: most of them are alike, so that a step costs little for each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from retz.model.job import Job
from retz.model.resources import Vector, times


class Held(NamedTuple):
    """What ``jobs`` jobs of one owner and one need hold of one agent."""

    owner: str
    agent: str
    need: Vector
    jobs: int

    @property
    def amount(self) -> Vector:
        """The need of all of them together."""
        return self.need if self.jobs == 1 else times(self.need, self.jobs)


def held_by(jobs: Iterable[Job]) -> list[Held]:
    """What the latest attempts of these jobs hold, those that are alike together."""
    found = Counter((job.owner, job.attempts[-1].agent, job.resources) for job in jobs)
    return [Held(owner, agent, resources.vector, count) for (owner, agent, resources), count in found.items()]
