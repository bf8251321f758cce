"""Why a job is not running: in one line for lists, and in numbers. What it waits for is judged by :mod:`.causes`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct

from retz.model.agent import Agent
from retz.model.job import Job
from retz.model.resources import RESOURCE_NAMES, Resources, Vector, fits, from_vector
from retz.model.units import format_duration, format_size

from .causes import Blocked, BlockedBy, Judge, Machine, could_take
from .constraints import Constraint, parse
from .places import Place
from .scheduler import Scheduler
from .waits import Waited

MAX_DETAILS = 100
_AHEAD_IDS = 10


class Amounts(Struct, frozen=True):
    """An amount of each resource, zeros spelled out; mem and disk in MiB."""

    cpus: float
    mem: int
    disk: int
    gpus: int
    ports: int


class Fail(Struct, frozen=True):
    """How many agents are short of each; one agent may count several times."""

    cpus: int = 0
    mem: int = 0
    disk: int = 0
    gpus: int = 0
    ports: int = 0
    attributes: int = 0


class AgentCounts(Struct, frozen=True):
    """Agents known; those that can be reached and could take the job right now; what the others fail on."""

    total: int
    fit: int
    fail: Fail


class Detail(Struct, frozen=True):
    """One agent: what it has, and each thing that it fails on, as text."""

    agent: str
    host: str
    free: Amounts
    total: Amounts
    failing: list[str]


class Why(Struct, frozen=True):
    """The whole answer to "why is it not running?"; encodes to what docs/api.md describes.

    ``blocked_by`` is None when nothing holds it back. ``details`` has at most 100 agents, the best fit first.
    ``waited_s`` is how long it waited in all, ``waited`` what for, the longest first; of ``unknown_s`` nobody knows.
    """

    id: int
    state: str
    summary: str
    ahead: int
    ahead_ids: list[int]
    blocked_by: BlockedBy | None
    agents: AgentCounts
    need: Amounts
    details: list[Detail]
    waited_s: float = 0.0
    waited: list[Waited] = []
    unknown_s: float = 0.0


class Explainer:
    """Explains jobs against one moment. Make one for a whole list: equal jobs are looked at once.

    Args:
        machines, mode, running: As for :class:`~.causes.Judge`.
        trouble: What is wrong with the engine, so that it starts nothing; None if it works.
        now: Seconds since the epoch, to say how long something may take.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        machines: Sequence[Machine],
        *,
        mode: str,
        running: int,
        trouble: str | None = None,
        now: float = 0.0,
    ) -> None:
        self._scheduler = scheduler
        self._machines = machines
        self._judge = Judge(scheduler, self._machines, mode=mode, running=running, stuck=trouble is not None)
        self._running = running
        self._trouble = trouble
        self._now = now
        self._lines: dict[tuple[Vector, str], str] = {}

    def line(self, job: Job) -> str:
        """The one line shown in lists; never empty."""
        return self._reason(job)[1]

    def why(self, job: Job) -> Why:
        """Everything there is to say."""
        blocked_by, summary = self._reason(job)
        need, constraint = job.resources.vector, parse(job.attributes)
        details = [_detail(machine, need, constraint) for machine in self._machines]
        details.sort(key=lambda detail: len(detail.failing))
        return Why(
            id=job.id,
            state=job.state,
            summary=summary,
            ahead=self._scheduler.ahead(job.id),
            ahead_ids=self._scheduler.ahead_ids(job.id, _AHEAD_IDS),
            blocked_by=blocked_by,
            agents=self._counts(need, constraint),
            need=_amounts(need),
            details=details[:MAX_DETAILS],
        )

    def _reason(self, job: Job) -> tuple[BlockedBy | None, str]:
        if job.state != "QUEUED":
            return None, _not_queued(job, {machine.agent.id: machine.agent.host for machine in self._machines})
        if job.held:
            return "held", f"held: retz release {job.id}"
        need, constraint = job.resources.vector, parse(job.attributes)
        blocked = self._judge.blocked(need, constraint, job.owner)
        if blocked.by == "engine":
            return "engine", f"nothing can be started now: {self._trouble}"
        if blocked.by == "paused":
            return "paused", "queue paused"
        if blocked.by == "draining":
            return "draining", "queue draining: it starts no more jobs"
        if blocked.by == "max_running":
            return "max_running", f"{_count(self._running, 'job')} run already (retz.max.running)"
        if blocked.by == "user_limit":
            return "user_limit", str(self._scheduler.user_limit(job))
        if blocked.by == "never":
            return "never", self._agents_say(blocked, need, constraint)
        return self._in_line(job, blocked)

    def _in_line(self, job: Job, blocked: Blocked) -> tuple[BlockedBy | None, str]:
        place = self._scheduler.place_of(job.id)
        if place is not None:
            return "room", f"holds a place on {place.host}, {self._start(place)}"
        if blocked.kept is not None:
            whom = f"job {blocked.kept.job}" if blocked.kept.owner == job.owner else "a job of another user"
            return "place", f"{blocked.kept.host} is kept for {whom}, which has waited long"
        ahead = self._scheduler.ahead(job.id)
        order = f"{_count(ahead, 'job')} ahead" if ahead and not self._scheduler.outside else ""
        if blocked.by == "room":
            line = self._agents_say(blocked, job.resources.vector, parse(job.attributes))
            return "room", "; ".join(filter(None, (line, order)))
        if self._scheduler.outside:
            return "order", f"fits; planner {self._scheduler.planner} decides when"
        return ("order", order) if ahead else (None, "next in line")

    def _start(self, place: Place) -> str:
        if place.start == math.inf:
            return "starts when jobs without a time limit have ended there"
        if place.start <= self._now:
            return "starts as soon as its room is offered"
        return f"starts when jobs there have ended, at the latest in {format_duration(place.start - self._now)}"

    def _agents_say(self, blocked: Blocked, need: Vector, constraint: Constraint) -> str:
        """Why no agent can take it: in words once for all equal jobs, because they cost a walk over all agents."""
        key = (need, constraint.text)
        if key not in self._lines:
            if blocked.by == "never":
                self._lines[key] = _never([machine.agent for machine in self._machines], need, constraint)
            else:
                self._lines[key] = _no_room(self._machines, need, constraint)
        return self._lines[key]

    def _counts(self, need: Vector, constraint: Constraint) -> AgentCounts:
        fail = dict.fromkeys((*RESOURCE_NAMES, "attributes"), 0)
        fit = 0
        for machine in self._machines:
            matches = constraint.matches(machine.agent.attributes)
            fail["attributes"] += not matches
            for index, name in enumerate(RESOURCE_NAMES):
                fail[name] += need[index] > machine.free[index]
            fit += machine.agent.state == "active" and matches and fits(need, machine.free)
        return AgentCounts(len(self._machines), fit, Fail(**fail))


def never(resources: Resources, attributes: str, agents: Sequence[Agent]) -> str | None:
    """Why none of these agents could ever run such a job; None if one could, or none is known."""
    need, constraint = resources.vector, parse(attributes)
    if not agents or any(could_take(agent, need, constraint) for agent in agents):
        return None
    return _never(agents, need, constraint)


def _never(agents: Sequence[Agent], need: Vector, constraint: Constraint) -> str:
    matching = [agent for agent in agents if constraint.matches(agent.attributes)]
    if not matching:
        return _unmatched(agents, constraint)
    return _too_large(need, constraint, [agent.total.vector for agent in matching])


def _unmatched(agents: Sequence[Agent], constraint: Constraint) -> str:
    clauses = {constraint.first_failing(agent.attributes) for agent in agents}
    clause = clauses.pop()
    if clause is not None and not clauses:
        return f"needs {clause.text}: no agent has it"
    return f"needs {constraint.text}: no agent has all of it"


def _not_queued(job: Job, hosts: Mapping[str, str]) -> str:
    if job.state in ("STARTING", "STARTED"):
        doing = "starting" if job.state == "STARTING" else "running"
        if job.kill_requested is not None:
            doing = "being killed"
        agent = job.attempts[-1].agent if job.attempts else ""
        return f"{doing} on {hosts.get(agent, agent)}" if agent else doing
    if job.state == "KILLED" and (job.message or "").startswith("killed"):
        return str(job.message)
    ended = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}.get(job.state, "not queued yet")
    cause = ": ".join(filter(None, (_cause(job), job.message)))
    return f"{ended}: {cause}" if cause else ended


def _cause(job: Job) -> str:
    if job.reason == "exit":
        return f"exit code {job.exit_code}"
    if job.reason == "signal":
        return f"signal {job.signal}"
    return {"oom": "out of memory", "disk": "out of disk", "timeout": "out of time"}.get(str(job.reason), "")


def _away(agents: Sequence[Agent]) -> str:
    """Why none of these takes a job: ``cannot be reached``, ``take no new jobs (2 draining, 1 unreachable)``."""
    states = Counter(agent.state for agent in agents)
    if len(states) > 1:
        return f"take no new jobs ({', '.join(f'{number} {state}' for state, number in states.most_common())})"
    (state,) = states
    if state == "unreachable":
        return "cannot be reached"
    return f"{'is' if len(agents) == 1 else 'are'} {state}"


def _too_large(need: Vector, constraint: Constraint, totals: list[Vector]) -> str:
    for index in range(len(RESOURCE_NAMES)):
        most = max(total[index] for total in totals)
        if need[index] > most:
            which = f" with {constraint.text}" if constraint else ""
            wanted, has = _apart(index, need[index], most)
            return f"would never fit: needs {_named(index, wanted)}, the largest agent{which} has {has}"
    return f"would never fit: needs {_all_of(need)} together, no agent has that"


def _no_room(machines: Sequence[Machine], need: Vector, constraint: Constraint) -> str:
    if not machines:
        return "no agent is connected"
    able = [machine for machine in machines if could_take(machine.agent, need, constraint)]
    reached = [machine.free for machine in able if machine.agent.state == "active"]
    if not reached:
        return f"{_count(len(able), 'agent')} could run it, but {_away([machine.agent for machine in able])}"
    return _too_little(need, reached)


def _too_little(need: Vector, free: list[Vector]) -> str:
    for index in range(len(RESOURCE_NAMES)):
        most = max(room[index] for room in free)
        if need[index] > most:
            wanted, has = _apart(index, need[index], most)
            room = f"{has} free" if len(free) == 1 else f"at most {has} free on {len(free)} agents"
            return f"needs {_named(index, wanted)}, {room}"
    return f"needs {_all_of(need)} together, none of {len(free)} agents has that free"


def _detail(machine: Machine, need: Vector, constraint: Constraint) -> Detail:
    agent, failing = machine.agent, []
    all_of, left = agent.total.vector, machine.free
    if agent.state != "active":
        failing.append(_away([agent]))
    clause = constraint.failing(agent.attributes)
    if clause is not None:
        failing.append(clause)
    for index, name in enumerate(RESOURCE_NAMES):
        wanted, total, free = need[index], all_of[index], left[index]
        if wanted > total:
            failing.append(f"{name} {' > '.join(_apart(index, wanted, total))} in all")
        elif wanted > free:
            failing.append(f"{name} {' > '.join(_apart(index, wanted, free))} free")
    return Detail(agent.id, agent.host, _amounts(left), _amounts(all_of), failing)


def _amounts(vector: Vector) -> Amounts:
    resources = from_vector(vector)
    return Amounts(resources.cpus, resources.mem, resources.disk, resources.gpus, resources.ports)


def _value(index: int, amount: int) -> str:
    """An amount without its name: ``0.5`` cpus, ``23G``."""
    if index == 0:
        return f"{amount / 1000:.3f}".rstrip("0").rstrip(".")
    return format_size(amount) if index in (1, 2) else str(amount)


def _apart(index: int, wanted: int, has: int) -> tuple[str, str]:
    """Two amounts as texts that differ: 23.01 GiB and 23 GiB would both be ``23G``."""
    texts = _value(index, wanted), _value(index, has)
    return texts if texts[0] != texts[1] else (f"{wanted}M", f"{has}M")


def _named(index: int, value: str) -> str:
    """A value with the name of its resource: ``4 cpus``, ``64G memory``."""
    name = ("cpus", "memory", "disk", "gpus", "ports")[index]
    return f"{value} {name.removesuffix('s') if value == '1' else name}"


def _all_of(need: Vector) -> str:
    return " and ".join(_named(index, _value(index, amount)) for index, amount in enumerate(need) if amount)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
