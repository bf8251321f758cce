"""Who uses what right now: sums kept as jobs start and end, so that no question needs a scan."""

from __future__ import annotations

from collections import defaultdict

from retz.model.job import Job
from retz.model.resources import Resources, Vector, add, from_vector, subtract

_NOTHING: Vector = (0, 0, 0, 0, 0)


class Ledger:
    """Amounts held by running jobs, per agent and per owner; who runs on which agent and holds which GPU."""

    def __init__(self) -> None:
        self.running: set[int] = set()
        self.by_agent: defaultdict[str, Vector] = defaultdict(lambda: _NOTHING)
        self.by_owner: defaultdict[str, Vector] = defaultdict(lambda: _NOTHING)
        self.jobs_by_agent: defaultdict[str, set[int]] = defaultdict(set)
        self.gpu_holder: dict[str, int] = {}

    def start(self, job: Job) -> bool:
        """The job's latest attempt holds its resources from now on. Twice is harmless. Returns whether it is new."""
        if job.id in self.running:
            return False
        self.running.add(job.id)
        self._move(job, 1)
        self.jobs_by_agent[job.attempts[-1].agent].add(job.id)
        for uuid in job.attempts[-1].gpus:
            self.gpu_holder[uuid] = job.id
        return True

    def stop(self, job: Job) -> bool:
        """It holds nothing any more. A job that held nothing is ignored. Returns whether it held something."""
        if job.id not in self.running:
            return False
        self.running.discard(job.id)
        self._move(job, -1)
        self.jobs_by_agent[job.attempts[-1].agent].discard(job.id)
        for uuid in job.attempts[-1].gpus:
            self.gpu_holder.pop(uuid, None)
        return True

    def _move(self, job: Job, sign: int) -> None:
        vector, agent = job.resources.vector, job.attempts[-1].agent
        change = add if sign > 0 else subtract
        self.by_agent[agent] = change(self.by_agent[agent], vector)
        self.by_owner[job.owner] = change(self.by_owner[job.owner], vector)
        if self.by_owner[job.owner] == _NOTHING:
            del self.by_owner[job.owner]

    def used_by_owner(self) -> dict[str, Resources]:
        """Amounts per owner who has something running."""
        return {owner: from_vector(vector) for owner, vector in self.by_owner.items()}
