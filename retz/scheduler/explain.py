"""Why a job is not running: in one line for lists, and in numbers.

The reasons, in the order in which they are looked for: it is held; the engine can start nothing; no agent known
could ever run it; the queue is paused or draining; as many jobs run as may; its user holds what one user may hold; no
agent has the room now; the agents that have it are kept for jobs that waited long; other jobs come first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from retz.model.agent import Agent
from retz.model.job import Job
from retz.model.resources import RESOURCE_NAMES, Resources, Vector, fits, from_vector
from retz.model.units import format_duration, format_size

from .constraints import Constraint, parse
from .places import Place
from .scheduler import Scheduler
from .waits import Waited

BlockedBy = Literal[
    "held",
    "engine",
    "dependency",
    "time",
    "array",
    "paused",
    "draining",
    "max_running",
    "user_limit",
    "room",
    "place",
    "never",
    "order",
]

MAX_DETAILS = 100
_NOTHING: Vector = (0, 0, 0, 0, 0)
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


class _Machine(NamedTuple):
    agent: Agent
    total: Vector
    free: Vector


class _Finding(NamedTuple):
    """What the agents have to say about one shape of job; ``line`` is empty if there is room now.

    ``kept`` is an agent that has room and is kept for somebody, if there is room on no other.
    """

    blocked_by: Literal["never", "room"] | None
    line: str
    kept: str | None = None


class Explainer:
    """Explains jobs against one moment. Make one for a whole list: equal jobs are looked at once.

    Args:
        agents: As the engine reports them.
        free: What nobody holds, others who share the machines included, by agent id; an agent that is missing has
            nothing free.
        mode: ``open``, ``paused`` or ``draining``.
        running: How many jobs run now.
        trouble: What is wrong with the engine, so that it starts nothing; None if it works.
        now: Seconds since the epoch, to say how long something may take.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        agents: Sequence[Agent],
        free: Mapping[str, Resources],
        *,
        mode: str,
        running: int,
        trouble: str | None = None,
        now: float = 0.0,
    ) -> None:
        self._now = now
        self._scheduler = scheduler
        self._trouble = trouble
        self._mode = mode
        self._running = running
        self._machines = [
            _Machine(agent, agent.total.vector, free[agent.id].vector if agent.id in free else _NOTHING)
            for agent in agents
        ]
        self._findings: dict[tuple[Vector, str], _Finding] = {}

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
        if self._trouble is not None:
            return "engine", f"nothing can be started now: {self._trouble}"
        key = (job.resources.vector, job.attributes)
        finding = self._findings.get(key)
        if finding is None:
            finding = self._findings[key] = self._look(key[0], parse(job.attributes))
        if finding.blocked_by == "never":
            return "never", finding.line
        if self._mode == "paused":
            return "paused", "queue paused"
        if self._mode == "draining":
            return "draining", "queue draining: it starts no more jobs"
        if 0 < self._scheduler.max_running <= self._running:
            return "max_running", f"{_count(self._running, 'job')} run already (retz.max.running)"
        limit = self._scheduler.user_limit(job)
        if limit is not None:
            return "user_limit", limit
        return self._in_line(job, finding)

    def _in_line(self, job: Job, finding: _Finding) -> tuple[BlockedBy | None, str]:
        place = self._scheduler.place_of(job.id)
        if place is not None:
            return "room", f"holds a place on {place.host}, {self._start(place)}"
        kept = self._scheduler.places.get(finding.kept) if finding.kept is not None else None
        if kept is not None:
            whom = f"job {kept.job}" if kept.owner == job.owner else "a job of another user"
            return "place", f"{kept.host} is kept for {whom}, which has waited long"
        ahead = self._scheduler.ahead(job.id)
        order = f"{_count(ahead, 'job')} ahead" if ahead and not self._scheduler.outside else ""
        if finding.blocked_by == "room":
            return "room", "; ".join(filter(None, (finding.line, order)))
        if self._scheduler.outside:
            return "order", f"fits; planner {self._scheduler.planner} decides when"
        return ("order", order) if ahead else (None, "next in line")

    def _start(self, place: Place) -> str:
        if place.start == math.inf:
            return "starts when jobs without a time limit have ended there"
        if place.start <= self._now:
            return "starts as soon as its room is offered"
        return f"starts when jobs there have ended, at the latest in {format_duration(place.start - self._now)}"

    def _look(self, need: Vector, constraint: Constraint) -> _Finding:
        if not self._machines:
            return _Finding("room", "no agent is connected")
        able = _able(self._machines, need, constraint)
        if isinstance(able, str):
            return _Finding("never", able)
        reached = [machine for machine in able if machine.agent.state == "active"]
        if not reached:
            return _Finding("room", f"{_count(len(able), 'agent')} could run it, but {_away(able)}")
        fitting = [machine.agent.id for machine in reached if fits(need, machine.free)]
        if not fitting:
            return _Finding("room", _no_room(need, [machine.free for machine in reached]))
        places = self._scheduler.places
        kept = fitting[0] if places and all(agent in places for agent in fitting) else None
        return _Finding(None, "", kept)

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


def why(
    job: Job,
    scheduler: Scheduler,
    agents: Sequence[Agent],
    free: Mapping[str, Resources],
    *,
    mode: str,
    running: int,
) -> Why:
    """:meth:`Explainer.why` for a single job."""
    return Explainer(scheduler, agents, free, mode=mode, running=running).why(job)


def reason_line(
    job: Job,
    scheduler: Scheduler,
    agents: Sequence[Agent],
    free: Mapping[str, Resources],
    *,
    mode: str,
    running: int,
) -> str:
    """:meth:`Explainer.line` for a single job; for a list make one Explainer."""
    return Explainer(scheduler, agents, free, mode=mode, running=running).line(job)


def never(resources: Resources, attributes: str, agents: Sequence[Agent]) -> str | None:
    """Why none of these agents could ever run such a job; None if one could, or none is known."""
    machines = [_Machine(agent, agent.total.vector, _NOTHING) for agent in agents]
    able = _able(machines, resources.vector, parse(attributes)) if machines else machines
    return able if isinstance(able, str) else None


def _able(machines: Sequence[_Machine], need: Vector, constraint: Constraint) -> Sequence[_Machine] | str:
    """Those that could take it if they were empty; why there are none."""
    matching = [machine for machine in machines if constraint.matches(machine.agent.attributes)]
    if not matching:
        return _unmatched(machines, constraint)
    able = [machine for machine in matching if machine.agent.guessed or fits(need, machine.total)]
    return able or _too_large(need, constraint, [machine.total for machine in matching])


def _unmatched(machines: Sequence[_Machine], constraint: Constraint) -> str:
    clauses = {constraint.first_failing(machine.agent.attributes) for machine in machines}
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


def _away(machines: Sequence[_Machine]) -> str:
    """Why none of these takes a job: ``cannot be reached``, ``take no new jobs (2 draining, 1 unreachable)``."""
    states = Counter(machine.agent.state for machine in machines)
    if len(states) > 1:
        return f"take no new jobs ({', '.join(f'{number} {state}' for state, number in states.most_common())})"
    (state,) = states
    if state == "unreachable":
        return "cannot be reached"
    return f"{'is' if len(machines) == 1 else 'are'} {state}"


def _too_large(need: Vector, constraint: Constraint, totals: list[Vector]) -> str:
    for index in range(len(RESOURCE_NAMES)):
        most = max(total[index] for total in totals)
        if need[index] > most:
            which = f" with {constraint.text}" if constraint else ""
            wanted, has = _apart(index, need[index], most)
            return f"would never fit: needs {_named(index, wanted)}, the largest agent{which} has {has}"
    return f"would never fit: needs {_all_of(need)} together, no agent has that"


def _no_room(need: Vector, free: list[Vector]) -> str:
    for index in range(len(RESOURCE_NAMES)):
        most = max(room[index] for room in free)
        if need[index] > most:
            wanted, has = _apart(index, need[index], most)
            room = f"{has} free" if len(free) == 1 else f"at most {has} free on {len(free)} agents"
            return f"needs {_named(index, wanted)}, {room}"
    return f"needs {_all_of(need)} together, none of {len(free)} agents has that free"


def _detail(machine: _Machine, need: Vector, constraint: Constraint) -> Detail:
    failing = []
    if machine.agent.state != "active":
        failing.append(_away([machine]))
    clause = constraint.failing(machine.agent.attributes)
    if clause is not None:
        failing.append(clause)
    for index, name in enumerate(RESOURCE_NAMES):
        wanted, total, free = need[index], machine.total[index], machine.free[index]
        if wanted > total:
            failing.append(f"{name} {' > '.join(_apart(index, wanted, total))} in all")
        elif wanted > free:
            failing.append(f"{name} {' > '.join(_apart(index, wanted, free))} free")
    agent = machine.agent
    return Detail(agent.id, agent.host, _amounts(machine.free), _amounts(machine.total), failing)


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
