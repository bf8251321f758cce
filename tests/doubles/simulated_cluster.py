"""A cluster in simulated time around the real scheduler: one offer per agent, jobs that run as long as they are told.

Checks itself at every step: no agent over-committed, no job placed twice, no user over a limit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from msgspec.structs import replace

from retz.model.agent import Agent, Offer
from retz.model.job import Attempt, Job
from retz.model.resources import Vector, add, fits, subtract
from retz.scheduler.constraints import parse
from retz.scheduler.outside_work import OutsideWork
from retz.scheduler.plugin import Choice, OwnPlanner
from retz.scheduler.scheduler import Placement, Scheduler, Work

_NOTHING: Vector = (0, 0, 0, 0, 0)


class SimulatedCluster:
    """See the module's text.

    Args:
        look_every_s: How often places are given and the clock of shares is set.
        planner: A user's own, which is asked as the server does; its plans must be right.

    Attributes:
        now: Simulated seconds.
        jobs: All jobs ever submitted, and how long they run.
        started: When each job started.
        ended: When each job ended.
        used: Processor seconds used by each user.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        agents: Sequence[Agent],
        look_every_s: float = 1.0,
        planner: OwnPlanner | None = None,
    ) -> None:
        self.scheduler = scheduler
        self._planner = planner
        self.agents = {agent.id: agent for agent in agents}
        self.now = 0.0
        self.started: dict[int, float] = {}
        self.ended: dict[int, float] = {}
        self.used: defaultdict[str, float] = defaultdict(float)
        self.held: defaultdict[str, Vector] = defaultdict(lambda: _NOTHING)
        self.running: dict[int, Job] = {}
        self.on_end: Callable[[Job], None] = lambda job: None
        self._free = {agent.id: agent.total.vector for agent in agents}
        self.jobs: dict[int, tuple[Job, float]] = {}
        self._ends: list[tuple[float, int]] = []
        self._look_every_s = look_every_s
        self._next_look = 0.0
        self._offers = 0
        self._passes_due = True
        if scheduler.shares is not None:
            scheduler.shares.resize(self._capacity(), 0.0)
        for agent in agents:
            self._offer(agent.id)

    def submit(self, job: Job, run_s: float) -> None:
        """Queue a job that will run so long. It may run no longer than its limit."""
        assert job.timeout_s is None or run_s <= job.timeout_s
        job = replace(job, submitted=self.now)
        self.jobs[job.id] = (job, run_s)
        self.scheduler.add(job)
        self._passes_due = True

    def run(self, until: float) -> None:
        """Let the time pass."""
        while True:
            self._plan()
            times = [until]
            if self._ends:
                times.append(self._ends[0][0])
            if self.scheduler.patience_s and len(self.scheduler):
                times.append(self._next_look)
            self.now = max(self.now, min(times))
            if self.now >= until:
                return
            while self._ends and self._ends[0][0] <= self.now:
                self._end(heappop(self._ends)[1])
                self._passes_due = True
            self._plan()  # as a server does: places are given when everything was tried
            if self.scheduler.patience_s and self._next_look <= self.now:
                self.scheduler.hold_places(
                    list(self.agents.values()), lambda job_id: self.jobs[job_id][0].submitted, self.now
                )
                self._next_look = self.now + self._look_every_s
            self._passes_due = True

    def _plan(self) -> None:
        while self._passes_due:
            work = self.scheduler.prepare(len(self.running), 256, self.now)
            placements = self._check(work) if work is not None else []
            self._passes_due = bool(placements)
            self._place(placements)

    def _check(self, work: Work) -> list[Placement]:
        plan = work.solve() if self._planner is None else self._ask(self._planner, work)
        good = self.scheduler.check(plan, len(self.running))
        assert good == plan, "nothing changed since it was made"
        return good

    def _ask(self, planner: OwnPlanner, work: Work) -> list[Placement]:
        assert isinstance(work, OutsideWork)
        if due := work.due():
            return due
        shown = work.show(lambda job_id: self.jobs[job_id][0].submitted)
        return work.adopt([Choice(*choice) for choice in planner.plan(shown)])

    def _place(self, placements: Sequence[Placement]) -> None:
        by_offer: dict[str, list[int]] = {}
        for job_id, offer_id in placements:
            by_offer.setdefault(offer_id, []).append(job_id)
        for offer_id, job_ids in by_offer.items():
            agent = self.agents[self.scheduler.use(offer_id, job_ids).agent]
            for job_id in job_ids:
                self._start(job_id, agent)
            self._offer(agent.id)

    def _start(self, job_id: int, agent: Agent) -> None:
        job, run_s = self.jobs[job_id]
        assert job_id not in self.started, f"job {job_id} was placed twice"
        assert parse(job.attributes).matches(agent.attributes)
        assert fits(job.resources.vector, self._free[agent.id]), f"{agent.id} is over-committed"
        self._free[agent.id] = subtract(self._free[agent.id], job.resources.vector)
        self.held[job.owner] = add(self.held[job.owner], job.resources.vector)
        job = replace(job, state="STARTING", attempts=(Attempt(1, agent.id, self.now),))
        self.running[job_id] = job
        self.started[job_id] = self.now
        heappush(self._ends, (self.now + run_s, job_id))
        self.scheduler.started(job, self.now)
        self._check_limits(job.owner)

    def _check_limits(self, owner: str) -> None:
        limits, held = self.scheduler.user_limits, self.held[owner]
        number = sum(job.owner == owner for job in self.running.values()) if limits.running else 0
        assert number <= limits.running
        assert all(most == 0 or amount <= most for most, amount in zip(limits.most, held, strict=True))

    def _end(self, job_id: int) -> None:
        job = self.running.pop(job_id)
        agent = job.attempts[-1].agent
        self.ended[job_id] = self.now
        self.used[job.owner] += job.resources.cpus * (self.now - self.started[job_id])
        self._free[agent] = add(self._free[agent], job.resources.vector)
        self.held[job.owner] = subtract(self.held[job.owner], job.resources.vector)
        self.scheduler.stopped(job, self.now)
        self._offer(agent)
        self.on_end(job)

    def _offer(self, agent_id: str) -> None:
        self.scheduler.rescind([offer for offer, at in self.scheduler.offers.items() if at.agent == agent_id])
        self._offers += 1
        agent = self.agents[agent_id]
        offer = Offer(
            id=f"o{self._offers}",
            agent=agent_id,
            room=self._free[agent_id],
            attributes=agent.attributes,
            host=agent.host,
        )
        if max(offer.room) > 0:
            self.scheduler.offer([offer])

    def _capacity(self) -> Vector:
        total = _NOTHING
        for agent in self.agents.values():
            total = add(total, agent.total.vector)
        return total
