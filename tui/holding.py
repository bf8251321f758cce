"""What the attempts of an earlier time held: for looking at machines as they were."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from retz.client import AsyncClient
from retz.client.types import Job
from retz.model.resources import Resources

PAGE = 1000
MOST = 20_000
"""Jobs that are looked at for one moment: some ten requests of a tenth of a second."""


class Holding(NamedTuple):
    """What was held at a time.

    Attributes:
        by_agent: Agent's id -> the jobs that ran there.
        by_gpu: GPU's UUID -> the job that held it.
        total: Jobs that ran then; more than are here if there were very many.
    """

    moment: float
    by_agent: dict[str, list[Job]]
    by_gpu: dict[str, Job]
    total: int

    def held(self, agent: str) -> Resources:
        """What the jobs of an agent held together."""
        amounts = [job.resources for job in self.by_agent.get(agent, ())]
        return Resources(
            cpus=sum(each.cpus for each in amounts),
            mem=sum(each.mem for each in amounts),
            disk=sum(each.disk for each in amounts),
            gpus=sum(each.gpus for each in amounts),
            ports=sum(each.ports for each in amounts),
        )

    @property
    def complete(self) -> bool:
        """Whether every job of that time is in it."""
        return sum(map(len, self.by_agent.values())) >= self.total


def iso(moment: float) -> str:
    """The time as the API wants it."""
    return datetime.fromtimestamp(moment, UTC).isoformat()


async def holding_at(client: AsyncClient, moment: float, everybody: Mapping[str, Any]) -> Holding:
    """Ask who ran where at that time, as far as we may know.

    Args:
        everybody: The filter that shows an administrator everybody's jobs; empty shows one's own.
    """
    holding = Holding(moment, defaultdict(list), {}, 0)
    cursor: str | None = None
    while True:
        window = await client.list(at=iso(moment), state="STARTING,STARTED", limit=PAGE, cursor=cursor, **everybody)
        for job in window.jobs:
            if job.agent is not None:
                holding.by_agent[job.agent].append(job)
            holding.by_gpu.update(dict.fromkeys(job.gpus, job))
        seen = sum(map(len, holding.by_agent.values()))
        cursor = window.next
        if cursor is None or seen >= MOST:
            return holding._replace(total=window.total)
