"""The machines: a window of them, what is held of each, and what is really used."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from aiohttp import web
from msgspec import Struct

from retz.model.agent import Agent
from retz.model.job import Job, Usage
from retz.model.resources import RESOURCE_NAMES, Resources, Vector, from_vector

from ..core import Core
from ..shares import Shares, shares
from .api import Call
from .params import refuse
from .responses import json_of
from .views import AgentView, MeasuredView, ResourcesView, agent_of, resources_of

SORTS = ("host", "id", "state", "jobs", *RESOURCE_NAMES)
SORT_NAMES = tuple(sign + name for name in SORTS for sign in ("", "-"))
MAX_LIMIT = 1000
MAX_OFFSET = 10**9
MAX_MEASURED = 2000
"""So many tasks an engine is asked about for one answer; beyond, nobody could read the sum in time."""
_NOTHING: Vector = (0, 0, 0, 0, 0)
_NONE = Resources()


class AgentSum(Struct):
    """Of all machines that match: amounts as of one machine, the largest single ones, how many are in each state."""

    total: ResourcesView
    used: ResourcesView
    others: ResourcesView
    offered: ResourcesView
    largest: ResourcesView
    states: dict[str, int]


class AgentList(Struct):
    """The machines, or a window of them; ``total`` and ``sum`` are of all that match."""

    agents: list[AgentView]
    total: int
    sum: AgentSum


class _Machine(NamedTuple):
    agent: Agent
    shares: Shares


async def agents(call: Call) -> web.StreamResponse:
    """``GET /agents``."""
    params = call.params("id", "text", "gpus", "sort", "offset", "limit", "usage")
    held = call.core.dispatcher.ledger.by_agent
    sort = params.text("sort")
    if sort is not None and sort not in SORT_NAMES:
        refuse("sort", f"must be one of {', '.join(SORTS)}, with - in front for descending")
    machines = [
        _Machine(agent, shares(agent, held.get(agent.id, _NOTHING)))
        for agent in _matching(call.core.engine.agents(), params.text("id"), params.text("text"), params.flag("gpus"))
    ]
    if sort is not None:
        machines.sort(key=_key(call.core, sort.removeprefix("-")), reverse=sort.startswith("-"))
    first = params.integer("offset", 0, 0, MAX_OFFSET)
    window = machines[first : first + params.integer("limit", len(machines), 1, MAX_LIMIT)]
    views = [_view(call, machine) for machine in window]
    if params.flag("usage"):
        await _measure(call.core, views)
    return json_of(AgentList(views, len(machines), _sum(machines)))


def _matching(every: Sequence[Agent], agent_id: str | None, text: str | None, gpus: bool | None) -> Iterable[Agent]:
    found: Iterable[Agent] = every
    if agent_id is not None:
        wanted_ids = set(agent_id.split(","))
        found = [agent for agent in found if agent.id in wanted_ids]
    if text:
        wanted = text.lower()
        found = [agent for agent in found if _has(agent, wanted)]
    if gpus is not None:
        found = [agent for agent in found if bool(agent.gpus) == gpus]
    return found


def _has(agent: Agent, wanted: str) -> bool:
    if wanted in agent.host.lower() or wanted in agent.id.lower():
        return True
    return any(
        wanted in (name if value is True else f"{name}={value}").lower() for name, value in agent.attributes.items()
    )


def _key(core: Core, field: str) -> Callable[[_Machine], Any]:
    """What machines are sorted by; hosts of the same rank by name."""
    if field in RESOURCE_NAMES:
        place = RESOURCE_NAMES.index(field)
        return lambda m: (m.shares.free[place], natural(m.agent.host), m.agent.id)
    if field == "jobs":
        jobs = core.dispatcher.ledger.jobs_by_agent
        return lambda m: (len(jobs.get(m.agent.id, ())), natural(m.agent.host), m.agent.id)
    if field == "state":
        return lambda m: (m.agent.state, natural(m.agent.host), m.agent.id)
    if field == "id":
        return lambda m: natural(m.agent.id)
    return lambda m: (natural(m.agent.host), m.agent.id)


@lru_cache(maxsize=65_536)
def natural(text: str) -> tuple[str | int, ...]:
    """A sort key by which ``n2`` comes before ``n10``: texts and numbers in turn."""
    return tuple(int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]{1,18})", text)))


def _view(call: Call, machine: _Machine) -> AgentView:
    ledger, records = call.core.dispatcher.ledger, call.core.db.jobs

    def visible(job_id: int) -> bool:
        job = records.record(job_id)
        return job is not None and job.owner == call.user.key

    return agent_of(
        machine.agent,
        from_vector(machine.shares.used),
        from_vector(machine.shares.free),
        len(ledger.jobs_by_agent.get(machine.agent.id, ())),
        ledger.gpu_holder,
        (lambda _: True) if call.user.admin else visible,
        call.user.admin,
    )


def _sum(machines: Sequence[_Machine]) -> AgentSum:
    totals = [machine.shares.total for machine in machines]
    held = [machine.shares.used for machine in machines if machine.shares.used != _NOTHING]
    others = [machine.shares.others for machine in machines if machine.shares.others != _NOTHING]
    offered = [machine.agent.offered.vector for machine in machines if machine.agent.offered != _NONE]
    states: Counter[str] = Counter(machine.agent.state for machine in machines)
    return AgentSum(
        _columns(sum, totals),
        _columns(sum, held),
        _columns(sum, others),
        _columns(sum, offered),
        _columns(max, totals),
        dict(states),
    )


def _columns(function: Callable[[Iterable[int]], int], vectors: Sequence[Vector]) -> ResourcesView:
    """One amount made of many, resource by resource; columns at C speed, for there may be 10 000."""
    cpus, mem, disk, gpus, ports = (function(column) for column in zip(*(vectors or (_NOTHING,)), strict=True))
    return resources_of(from_vector((cpus, mem, disk, gpus, ports)))


async def _measure(core: Core, views: Sequence[AgentView]) -> None:
    """Fill in what the jobs of these machines use now, as far as the engine knows."""
    running = {view.id: _tasks(core, view.id) for view in views}
    tasks = [task for tasks in running.values() for task in tasks]
    if len(tasks) > MAX_MEASURED:
        return
    usage = await core.engine.usage(tasks) if tasks else {}
    now = core.clock()
    for view in views:
        known = [_rates(usage[task], now - started) for task, started in running[view.id].items() if task in usage]
        if known or not running[view.id]:
            view.measured = MeasuredView(round(sum(cpus for cpus, _ in known), 2), sum(mem for _, mem in known))


def _tasks(core: Core, agent_id: str) -> dict[str, float]:
    """The tasks that run on an agent, and since when."""
    jobs = (core.db.jobs.record(job_id) for job_id in core.dispatcher.ledger.jobs_by_agent.get(agent_id, ()))
    return {f"{job.id}.{number}": started for job in jobs if job is not None for number, started in _started(job)}


def _started(job: Job) -> list[tuple[int, float]]:
    attempt = job.attempt
    return [] if attempt is None or attempt.started is None else [(attempt.number, attempt.started)]


def _rates(usage: Usage, age_s: float) -> tuple[float, float]:
    """(processors, resident MiB) of late: the last point of the series, or all of it while there is none."""
    if usage.series:
        cpus, mem = usage.series[-1]
        return cpus / 100, float(mem)
    return usage.cpu_s / max(age_s, 1.0), usage.max_rss_mb
