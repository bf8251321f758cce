"""The queue at one moment, taken in slices between which the server goes on with its work.

So the parts are of slightly different moments: a job is told of as its record is when its turn comes, and what is
contradictory then (an agent that holds more than it has) the simulation copes with.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Protocol

from retz.array_life import id_at, recorded, task_at
from retz.config_server import ServerConfig
from retz.model.agent import Agent
from retz.model.job import LIVE_STATES, RUNNING_STATES, Job
from retz.model.resources import Vector, add
from retz.scheduler.places import own_room
from retz.scheduler.planner import PLANNERS
from retz.scheduler.situation import Arrival, Kind, Machine, Row, Rules, Runner, Situation, Waiter
from retz.scheduler.spread import Source, Spread

from ..learning.past import Lasted, PastRun, step_of
from ..live import Live
from .recent import Recent

LOOKED_AT = 10_000
"""So many queued jobs, the first in the planner's order, are run forward; as many that wait for something else."""

SLICE = 200
"""Jobs told of between two turns of the loop: about a millisecond."""


class History(Protocol):
    """The part of :class:`~retz.server.learning.past.Past` that says how long jobs ran."""

    def of(self, job: Job) -> Sequence[PastRun]:
        """The last runs of the job's step, newest last."""

    def similar(self, owner: str, job: Job) -> Sequence[Lasted]:
        """How long the owner's last similar jobs ran, newest last."""


async def gather(
    live: Live,
    config: ServerConfig,
    history: History,
    recent: Recent,
    probe: Job | None = None,
    limit: int = LOOKED_AT,
) -> Situation:
    """Return what a forecast starts from.

    Args:
        recent: What was submitted lately.
        probe: A job that is not submitted, to be put behind all others of its rank; of an array the first ``limit``
            tasks are told of.
    """
    return await _Gathering(live, config, history, limit).situation(recent, probe)


class _Gathering:
    def __init__(self, live: Live, config: ServerConfig, history: History, limit: int) -> None:
        self._live = live
        self._config = config
        self._history = history
        self._limit = limit
        self._kinds: dict[tuple[Any, ...], int] = {}
        self._kind_list: list[Kind] = []
        self._spreads: dict[tuple[Any, ...], int] = {}
        self._spread_list: list[Spread] = []
        self._waiters: dict[int, Waiter] = {}
        self._runners: dict[int, Runner] = {}
        self._cut: list[int] = []
        self._unseen = limit
        """So many tasks that the scheduler does not see yet may still be told of."""

    async def situation(self, recent: Recent, probe: Job | None) -> Situation:
        live = self._live
        # What must belong together, at once.
        now, running = live.clock(), list(live.ledger.running)
        lanes = live.scheduler.first_ids(self._limit)
        blocked = live.following.waiting.first(self._limit)
        arrays = live.following.windows.ids()
        shares = live.scheduler.shares
        used = shares.dump(now) if shares is not None else {}
        agents = live.engine.agents()
        machines, capacity = [], (0, 0, 0, 0, 0)
        async for agent in _sliced(agents):
            capacity = add(capacity, agent.total.vector)
            if agent.state == "active":
                machines.append(_machine_of(agent))
        async for job_id in _sliced(running):
            self._run(live.db.jobs.record(job_id))
        for ids, more in lanes:
            await self._lane(ids, more)
        async for job_id in _sliced(blocked):
            self._blocked(job_id)
        told = self._told()
        async for array_id in _sliced(arrays):
            if not told[array_id]:
                await self._full(array_id)
        rows = [] if probe is None else await self._probe(probe, now)
        usual, usual_s = recent.seen(now)
        arrivals: list[Arrival] = []
        places: dict[int, int] = {}
        async for job in _sliced(usual):
            after = tuple(places[each] for each in (*job.after, *job.after_any) if each in places)
            places[job.id] = len(arrivals)
            arrivals.append(Arrival(self._kind(job), self._spread(job), now - job.submitted, after))
        told = self._told()
        rows += [row for array_id in arrays if (row := self._row(array_id, told[array_id])) is not None]
        return Situation(
            now=now,
            rules=self._rules(),
            kinds=self._kind_list,
            spreads=self._spread_list,
            machines=machines,
            waiters=list(self._waiters.values()),
            runners=list(self._runners.values()),
            rows=rows,
            capacity=capacity,
            used=used,
            open=live.mode == "open",
            arrivals=arrivals,
            arrivals_s=usual_s,
            cut=tuple(job_id for job_id in self._cut if job_id in self._waiters),
            probe=0 if probe is None else probe.id,
        )

    def _told(self) -> Counter[int]:
        """Of how many tasks of each array that wait is told."""
        return Counter(waiter.array for waiter in self._waiters.values())

    def _rules(self) -> Rules:
        config, scheduler = self._config, self._live.scheduler
        names = tuple(name.strip() for name in config.planner_fair_resources.split(",") if name.strip())
        return Rules(
            # What a planner of a user's own will do, nobody knows: by itself the queue is in order of submission.
            planner=scheduler.planner if scheduler.planner in PLANNERS else "fifo",
            max_running=scheduler.max_running,
            user_limits=scheduler.user_limits,
            patience_s=scheduler.patience_s,
            fair_resources=names,
            half_life_s=config.planner_half_life,
        )

    # -- jobs --------------------------------------------------------------------------------------------

    async def _lane(self, ids: Sequence[int], more: bool) -> None:
        """The first jobs of a lane, behind the last task of an array in view those that are not."""
        last = 0
        left = len(ids) if more else self._limit
        for number, job_id in enumerate(ids):
            if not left:
                more = True
                break
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            job = self._live.following.find(job_id)
            if job is None or not self._wait(job, self._live.waiting_since(job_id)):
                continue
            last, left = job_id, left - 1
            following = ids[number + 1] if number + 1 < len(ids) else 0
            array = self._live.db.jobs.record(job.array_id) if job.array_id is not None else None
            if array is not None and not array.id < following <= array.id + _size(array):
                model, behind = self._waiters[job_id], job_id - array.id
                async for task_id in self._tasks(array, behind, min(left, self._unseen), model):
                    last, left = task_id, left - 1
                    self._unseen -= 1
                more = more or not left or not self._unseen
        if more and last:
            self._cut.append(last)

    async def _full(self, array_id: int) -> None:
        """Of an array as many tasks of which run as may none is in a lane: tell of those that come next."""
        job = self._live.db.jobs.record(array_id)
        array = job.array if job is not None else None
        if job is None or array is None or not 0 < array.limit <= array.active or not array.waiting:
            return
        following = self._live.following
        if job.held or following.waiting.blocks(array_id) or following.stopped(job):
            return
        first = task_at(job, array.next)
        model = Waiter(first.id, self._kind(first), self._spread(first), job.submitted)
        told = [task_id async for task_id in self._tasks(job, array.next, self._unseen, model)]
        self._unseen -= len(told)
        if told and not self._unseen:
            self._cut.append(told[-1])

    async def _tasks(self, array: Job, first: int, most: int, model: Waiter) -> AsyncIterator[int]:
        """Tell of the tasks of an array, from a place on, that the scheduler does not see yet; yield their ids."""
        if array.array is None:
            return
        count = 0
        for place in range(first, array.array.end):
            if count == most:
                return
            if recorded(array.array, place):
                continue
            count += 1
            if count % SLICE == 0:
                await asyncio.sleep(0)
            task_id = id_at(array, place)
            self._waiters[task_id] = Waiter(task_id, model.kind, model.spread, model.since, array=array.id)
            yield task_id

    def _blocked(self, job_id: int) -> None:
        """A job that waits for others, or for a time; of an array all tasks do."""
        waiting = self._live.following.waiting
        job = self._live.db.jobs.record(job_id)
        if job is None or job.state != "QUEUED" or job.held:
            return
        after, start_at = tuple(waiting.awaited(job_id)), waiting.until(job_id) or 0.0
        if job.array is None:
            self._wait(job, job.submitted, after, start_at)
            return
        for place in range(job.array.next, min(job.array.end, job.array.next + SLICE)):
            if not recorded(job.array, place):
                self._wait(task_at(job, place), job.submitted, after, start_at)

    async def _probe(self, probe: Job, now: float) -> list[Row]:
        """Tell of a job that is not submitted; return what is to be told of the array, if it is one."""
        after = tuple(each for each in (*probe.after, *probe.after_any) if self._is_live(each))
        array, start_at = probe.array, probe.start_at or 0.0
        if array is None:
            self._wait(probe, now, after, start_at)
            return []
        first = task_at(probe, 0)
        kind, spread, told = self._kind(first), self._spread(first), min(array.size, self._limit)
        async for place in _sliced(range(told)):
            task_id = id_at(probe, place)
            self._waiters[task_id] = Waiter(task_id, kind, spread, now, after, start_at, probe.id)
        return [Row(probe.id, array.limit, array.size - told)]

    def _is_live(self, job_id: int) -> bool:
        job = self._live.db.jobs.record(job_id)
        return job is not None and job.state in LIVE_STATES

    def _wait(self, job: Job, since: float, after: tuple[int, ...] = (), start_at: float = 0.0) -> bool:
        if job.state != "QUEUED" or job.held:
            if job.state in RUNNING_STATES:  # started meanwhile
                self._run(job)
            return False
        array = job.array_id or 0
        self._runners.pop(job.id, None)
        self._waiters[job.id] = Waiter(job.id, self._kind(job), self._spread(job), since, after, start_at, array)
        return True

    def _run(self, job: Job | None) -> None:
        attempt = job.attempt if job is not None else None
        if job is None or attempt is None or job.state not in RUNNING_STATES:
            return
        since = attempt.started or attempt.launched
        runner = Runner(job.id, self._kind(job), self._spread(job), attempt.agent, since, job.array_id or 0)
        self._waiters.pop(job.id, None)
        self._runners[job.id] = runner

    def _row(self, array_id: int, told: int) -> Row | None:
        job = self._live.db.jobs.record(array_id)
        array = job.array if job is not None else None
        if array is None or array.over:
            return None
        return Row(array_id, array.limit, max(0, array.waiting - told))

    def _kind(self, job: Job) -> int:
        key = (job.owner, job.resources, job.attributes, job.priority, job.timeout_s, job.kill_grace_s)
        found = self._kinds.get(key)
        if found is None:
            found = self._kinds[key] = len(self._kind_list)
            need: Vector = job.resources.vector
            self._kind_list.append(Kind(job.owner, need, job.attributes, job.priority, job.timeout_s, job.kill_grace_s))
        return found

    def _spread(self, job: Job) -> int:
        key = (job.owner, job.pipeline, job.application, step_of(job), job.timeout_s)
        found = self._spreads.get(key)
        if found is None:
            found = self._spreads[key] = len(self._spread_list)
            self._spread_list.append(self._past(job))
        return found

    def _past(self, job: Job) -> Spread:
        runs = tuple(run.duration_s for run in self._history.of(job) if run.outcome == "finished")
        if runs:
            return _told("pipeline", runs)
        similar = self._history.similar(job.owner, job)
        if similar:
            times = tuple((each.submitted, each.ended) for each in similar)
            return Spread("similar", tuple(each.seconds for each in similar), times)
        return Spread("guess", ()) if job.timeout_s is None else _told("limit", (job.timeout_s,))


def _told(source: Source, values: tuple[float, ...]) -> Spread:
    return Spread(source, values)


def _size(array: Job) -> int:
    return array.array.size if array.array is not None else 0


def _machine_of(agent: Agent) -> Machine:
    return Machine(agent.id, agent.host, own_room(agent), agent.attributes)


async def _sliced(items: Iterable[Any]) -> AsyncIterator[Any]:
    for number, item in enumerate(items, 1):
        yield item
        if number % SLICE == 0:
            await asyncio.sleep(0)
