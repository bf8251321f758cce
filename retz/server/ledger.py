"""Who uses what right now: sums kept as jobs start and end, so that no question needs a scan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from retz.model.job import Job
from retz.model.resources import Resources, Vector, add, from_vector, subtract
from retz.scheduler.held import Held, held_by

_NOTHING: Vector = (0, 0, 0, 0, 0)


class Ledger:
    """Amounts held by running jobs, per agent and per owner; who runs on which agent and holds which GPU."""

    def __init__(self) -> None:
        self.running: set[int] = set()
        self.by_agent: defaultdict[str, Vector] = defaultdict(lambda: _NOTHING)
        self.by_owner: defaultdict[str, Vector] = defaultdict(lambda: _NOTHING)
        self.jobs_by_agent: defaultdict[str, set[int]] = defaultdict(set)
        self.gpu_holder: dict[str, int] = {}

    def start(self, jobs: Sequence[Job]) -> tuple[Sequence[Job], Sequence[Held]]:
        """The jobs' latest attempts hold their resources from now on. Twice is harmless.

        Returns:
            Those of them that are new, and what these hold.
        """
        new = [job for job in jobs if job.id not in self.running]
        held = held_by(new)
        self._move(held, add)
        for job in new:
            self.running.add(job.id)
            attempt = job.attempts[-1]
            self.jobs_by_agent[attempt.agent].add(job.id)
            for uuid in attempt.gpus:
                self.gpu_holder[uuid] = job.id
        return new, held

    def stop(self, jobs: Sequence[Job]) -> tuple[Sequence[Job], Sequence[Held]]:
        """They hold nothing any more. Jobs that held nothing are ignored.

        Returns:
            The others, and what they held.
        """
        gone = [job for job in jobs if job.id in self.running]
        held = held_by(gone)
        self._move(held, subtract)
        for job in gone:
            self.running.discard(job.id)
            attempt = job.attempts[-1]
            self.jobs_by_agent[attempt.agent].discard(job.id)
            for uuid in attempt.gpus:
                self.gpu_holder.pop(uuid, None)
        return gone, held

    def _move(self, held: Sequence[Held], change: Callable[[Vector, Vector], Vector]) -> None:
        for each in held:
            amount = each.amount
            self.by_agent[each.agent] = change(self.by_agent[each.agent], amount)
            self.by_owner[each.owner] = change(self.by_owner[each.owner], amount)
            if self.by_owner[each.owner] == _NOTHING:
                del self.by_owner[each.owner]

    def used_by_owner(self) -> dict[str, Resources]:
        """Amounts per owner who has something running."""
        return {owner: from_vector(vector) for owner, vector in self.by_owner.items()}
