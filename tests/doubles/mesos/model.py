"""What master and agents of the double know of each other, and what they may ask of each other.

Everything runs on one asyncio loop. Master and agents of one cluster call each other directly and synchronously: a call
is the message that Mesos would send. Messages that a partition or a death would swallow are swallowed by the agent
(it ignores calls while it cannot be reached) and by the master (it answers False while it is away).

Ids are plain strings. JSON objects keep the names and the order of fields that Mesos writes; scalars are floats.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

Json = dict[str, Any]

TERMINAL = frozenset(
    {
        "TASK_FINISHED",
        "TASK_FAILED",
        "TASK_KILLED",
        "TASK_ERROR",
        "TASK_LOST",
        "TASK_DROPPED",
        "TASK_GONE",
        "TASK_GONE_BY_OPERATOR",
    }
)
"""States after which the master gives a task's resources back (as in Mesos, TASK_UNREACHABLE is not one)."""

HISTORY = 1000
"""Completed tasks of a framework, and completed frameworks, that the master remembers."""


@dataclass(slots=True)
class Timing:
    """How long things take, in seconds. The values are those of Mesos; tests make them smaller.

    Attributes:
        scale: What a second of a *call* lasts (``refuse_seconds``, ``failover_timeout``, grace periods).
        agent_ping_timeout: How long one ping waits.
        max_agent_ping_timeouts: So many unanswered pings make an agent unreachable.
        agent_reregister_timeout: After a restart of the master, agents not back by then are unreachable.
        offer_timeout: An offer is rescinded after it; None: never.
        recovery: How long a new leader answers 503.
        first_offer: From SUBSCRIBE to the allocation it triggers.
        update_retry: The first wait for an acknowledgement; each next one is twice as long.
        update_retry_max: The longest such wait.
        executor_start: From the launch to TASK_STARTING, of agents that pretend.
        executor_linger: How long the command executor stays after its task's end.
        agent_recovery: How long a restarted agent waits before it re-registers.
        kill_grace: From SIGTERM to SIGKILL, if the task does not say.
    """

    allocation_interval: float = 1.0
    heartbeat: float = 15.0
    agent_ping_timeout: float = 15.0
    max_agent_ping_timeouts: int = 5
    agent_reregister_timeout: float = 600.0
    offer_timeout: float | None = None
    recovery: float = 0.1
    first_offer: float = 0.002
    update_retry: float = 10.0
    update_retry_max: float = 600.0
    executor_start: float = 0.0
    executor_linger: float = 1.0
    agent_recovery: float = 2.0
    kill_grace: float = 3.0
    scale: float = 1.0

    @property
    def unreachable_after(self) -> float:
        """How long an agent may be silent."""
        return self.agent_ping_timeout * self.max_agent_ping_timeouts


@dataclass(slots=True, eq=False)
class TaskRecord:
    """A task as the master keeps it.

    Attributes:
        info: The TaskInfo as accepted: each resource with type, float, role and ``allocation_info``.
        state: The latest state the agent told of (``latest_state``), perhaps ahead of what the framework was told.
        statuses: The last status of each state forwarded to the framework, as Mesos lists them in /state.
        status_state: The state of the last update forwarded (``status_update_state``).
        status_uuid: Its uuid (base64).
        killed: KILL was asked for.
    """

    info: Json
    framework_id: str
    agent_id: str
    state: str = "TASK_STAGING"
    statuses: list[Json] = field(default_factory=list)
    status_state: str | None = None
    status_uuid: str | None = None
    killed: bool = False
    unacknowledged: str | None = None
    """The uuid of the last update sent to the framework, until it is acknowledged."""
    amount: Any = None
    """Its resources as the master's own arithmetic keeps them (:class:`.allocator.Bundle`)."""

    @property
    def id(self) -> str:
        """The task id."""
        return str(self.info["task_id"]["value"])

    @property
    def terminal(self) -> bool:
        """Whether its resources are free again. Until the last update is acknowledged it stays in its framework."""
        return self.state in TERMINAL

    @property
    def role(self) -> str:
        """The role its resources are allocated to."""
        for resource in self.info["resources"]:
            return str(resource.get("allocation_info", {}).get("role", "*"))
        return "*"

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        labels = self.info.get("labels", {}).get("labels", [])
        return {label["key"]: label.get("value", "") for label in labels}


@dataclass(slots=True, eq=False)
class OfferRecord:
    """An outstanding offer: ``resources`` as they were sent (with ``allocation_info`` in any case)."""

    id: str
    framework_id: str
    agent_id: str
    role: str
    resources: list[Json]
    made: float = 0.0
    amount: Any = None
    """The same as the master's own arithmetic keeps it (:class:`.allocator.Bundle`)."""


@dataclass(slots=True, eq=False)
class Framework:
    """A framework. ``info`` is its FrameworkInfo, with ``id``.

    Attributes:
        connected: Its stream is up.
        active: Connected and so offered resources.
        recovered: Known from an agent only, after a failover of the master.
        suppressed: Roles that want no offers.
        tasks: Those that run, and those that ended and are not acknowledged yet, by id.
        unreachable_tasks: On agents that are unreachable, by id.
        stream_id: The ``Mesos-Stream-Id`` of the stream that is up; empty if none is.
    """

    id: str
    info: Json
    stream_id: str = ""
    connected: bool = False
    active: bool = False
    recovered: bool = False
    suppressed: set[str] = field(default_factory=set)
    tasks: dict[str, TaskRecord] = field(default_factory=dict)
    unreachable_tasks: dict[str, TaskRecord] = field(default_factory=dict)
    completed_tasks: deque[TaskRecord] = field(default_factory=lambda: deque(maxlen=HISTORY))
    offers: dict[str, OfferRecord] = field(default_factory=dict)
    registered_time: float = field(default_factory=time.time)
    reregistered_time: float | None = None
    unregistered_time: float | None = None
    principal: str | None = None
    capabilities: frozenset[str] = frozenset()
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.learn(self.info)

    def learn(self, info: Json) -> None:
        """Take over a new FrameworkInfo; the id stays."""
        self.info = {**info, "id": {"value": self.id}}
        self.capabilities = frozenset(each.get("type", "") for each in info.get("capabilities", ()))
        self.roles = tuple(info.get("roles", ())) if self.multi_role else (info.get("role", "*"),)

    @property
    def multi_role(self) -> bool:
        """Whether it may have several roles; without it no ``allocation_info`` is sent to it."""
        return "MULTI_ROLE" in self.capabilities

    @property
    def partition_aware(self) -> bool:
        """Whether it understands TASK_DROPPED, TASK_UNREACHABLE, TASK_GONE ...; otherwise all are TASK_LOST."""
        return "PARTITION_AWARE" in self.capabilities

    @property
    def killing_state(self) -> bool:
        """Whether TASK_KILLING is sent to it."""
        return "TASK_KILLING_STATE" in self.capabilities

    @property
    def gpus(self) -> bool:
        """Whether agents with GPUs are offered to it."""
        return "GPU_RESOURCES" in self.capabilities

    @property
    def checkpoint(self) -> bool:
        """Whether its tasks outlive their agent's process."""
        return bool(self.info.get("checkpoint", False))

    @property
    def failover_timeout(self) -> float:
        """For how long its tasks go on without it."""
        return float(self.info.get("failover_timeout", 0.0))


@dataclass(slots=True, eq=False)
class AgentRecord:
    """A registered agent as the master keeps it; one that is unreachable or gone is in the master's other tables.

    Attributes:
        link: The agent itself.
        connected: Its socket is up. Without it no offers are made, but its tasks count until the ping timeout.
        active: Registered and not lost; what Mesos calls ``active``.
        deactivated: By an operator: no offers.
        draining: DrainInfo while it drains, with ``state`` DRAINING or DRAINED.
        tasks: Those that run there, and those that ended unacknowledged: by framework id and task id.
    """

    id: str
    link: AgentLink
    connected: bool = True
    active: bool = True
    deactivated: bool = False
    draining: Json | None = None
    registered_time: float = field(default_factory=time.time)
    reregistered_time: float | None = None
    unreachable_time: int | None = None
    tasks: dict[tuple[str, str], TaskRecord] = field(default_factory=dict)
    offers: dict[str, OfferRecord] = field(default_factory=dict)


@dataclass(slots=True)
class HeldTask:
    """A task as an agent reports it when it re-registers.

    Attributes:
        framework: The FrameworkInfo, with ``id``.
        info: The TaskInfo as :meth:`AgentLink.launch` got it.
        state: The latest state, whether the framework was told of it or not.
        status: The update that is being delivered or was acknowledged last; None if there was none.
        earlier: Updates before that one.
    """

    framework: Json
    info: Json
    state: str
    status: Json | None = None
    earlier: tuple[Json, ...] = ()


class AgentLink(Protocol):
    """What the master sees of an agent, and the messages it sends to it."""

    id: str
    """Empty until :meth:`MasterLink.register` gave it one."""

    hostname: str
    ip: str
    port: int
    path: str
    """``/slave(1)``"""

    resources: list[Json]
    """All it has, as in an offer: ``name``, ``type``, ``scalar`` or ``ranges``, ``role`` ("*", or of a reservation)."""

    attributes: list[Json]
    """As in an offer."""

    @property
    def connected(self) -> bool:
        """Whether a message would reach it now."""

    def launch(self, framework: Framework, info: Json) -> None:
        """Run a task. ``framework`` is the master's own record: do not keep it, do not change it."""

    def kill(self, framework_id: str, task_id: str) -> None:
        """End a task; one the agent does not know is ignored."""

    def acknowledge(self, framework_id: str, task_id: str, uuid: str) -> None:
        """The framework has this update (``uuid`` base64); the next may be sent. Unknown ones are ignored."""

    def shutdown_framework(self, framework_id: str) -> None:
        """The framework is removed: kill its tasks, forget its updates, send no more."""

    def framework_updated(self, framework_id: str) -> None:
        """The framework is back: send the first unacknowledged update of each of its tasks again, now."""

    def unknown_tasks(self, framework: Framework, infos: list[Json]) -> None:
        """Tasks the master believes here but which were not reported on re-registration.

        One the agent does not know is answered by TASK_DROPPED (or TASK_LOST without PARTITION_AWARE), with a uuid.
        """

    def drain(self, max_grace: float | None) -> None:
        """Kill all tasks, with REASON_AGENT_DRAINING."""

    def gone(self) -> None:
        """Marked gone by an operator: kill everything and exit."""

    def detected(self, master: MasterLink | None) -> None:
        """The leading master is another one (None: there is none). Register or re-register with it, again and again
        until that answers True."""


class MasterLink(Protocol):
    """What an agent sees of the master, and the messages it sends to it."""

    id: str
    timing: Timing

    def register(self, agent: AgentLink) -> bool:
        """A new agent: gives it an id. False while the master is away or recovers: try again."""

    def reregister(self, agent: AgentLink, held: Iterable[HeldTask]) -> bool:
        """An agent with an id is back, with its tasks (ended ones too until their last update is acknowledged).

        False: try again later. An agent that was marked gone is told :meth:`AgentLink.gone`.
        """

    def status_update(self, agent: AgentLink, framework_id: str, status: Json, latest: str) -> None:
        """An update to forward. ``status`` is a TaskStatus with ``uuid`` as it goes to the framework; ``latest`` is the
        task's latest state, of which the framework may be told later only."""

    def executor_ended(self, agent: AgentLink, framework_id: str, executor_id: str, status: int) -> None:
        """A custom or default executor ended: FAILURE goes to the framework. Not for command tasks."""

    def disconnected(self, agent: AgentLink) -> None:
        """The agent's socket broke (its process died): no offers, the ping timeout runs.

        Tasks of frameworks without ``checkpoint`` are TASK_LOST at once.
        """

    def silent(self, agent: AgentLink) -> None:
        """Pings are not answered any more, though no socket broke (a partition): the ping timeout runs."""

    def answering(self, agent: AgentLink) -> None:
        """Pings are answered again. The agent registers again by itself: it may have missed messages."""

    def unregister(self, agent: AgentLink) -> None:
        """The agent shuts down gracefully: TASK_LOST for its tasks, RESCIND, FAILURE."""


Observer = Callable[[str, "TaskRecord | AgentRecord | Framework", "Json | None"], None]
"""Told of TASK_ADDED, TASK_UPDATED (with the status), AGENT_ADDED, AGENT_REMOVED, FRAMEWORK_ADDED, FRAMEWORK_UPDATED,
FRAMEWORK_REMOVED, right after the change."""


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""Answers one path."""


class MasterState(MasterLink, Protocol):
    """What the operator API reads and does. All dictionaries are by id, live, and not to be changed.

    The master is an :class:`aiohttp.web.Server` without routing: ``routes`` maps a path (``/state``, ``/api/v1``; with
    neither the ``/master`` prefix nor a slash at the end) to its handler. ``local`` are the paths that a master answers
    though it does not lead (``/health``); for all others redirects, 503, authentication and stalls come first.
    """

    ip: str
    port: int
    start_time: float
    elected_time: float
    leading: bool
    recovering: bool
    agents: dict[str, AgentRecord]
    unreachable: dict[str, AgentRecord]
    gone: dict[str, AgentRecord]
    recovered: dict[str, AgentRecord]
    """After a restart with a registry: agents known and not back yet."""
    frameworks: dict[str, Framework]
    completed_frameworks: deque[Framework]
    offers: dict[str, OfferRecord]
    observers: list[Observer]
    routes: dict[str, Handler]
    local: dict[str, Handler]

    @property
    def master_info(self) -> Json:
        """MasterInfo as in SUBSCRIBED."""

    def available(self, agent: AgentRecord) -> list[Json]:
        """What is neither used nor offered there."""

    def used(self, agent: AgentRecord) -> list[Json]:
        """What its tasks use: resources with ``allocation_info``."""

    def teardown(self, framework_id: str) -> bool:
        """Remove a framework and kill its tasks; False if there is no such framework."""

    def deactivate(self, agent_id: str) -> bool:
        """RESCIND, and no more offers; False if there is no such agent."""

    def reactivate(self, agent_id: str) -> bool:
        """Offer it again, also after draining."""

    def drain(self, agent_id: str, info: Json) -> bool:
        """RESCIND, kill its tasks; ``info`` is the call's ``drain_agent`` (``max_grace_period``, ``mark_gone``)."""

    def mark_gone(self, agent_id: str) -> bool:
        """TASK_GONE_BY_OPERATOR for its tasks, RESCIND, FAILURE; the agent exits and may never come back."""
