"""What of the master's operator API (``/api/v1``) is read: only these fields, everything else is skipped unparsed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from retz.model.agent import AgentState, AttributeValue
from retz.model.resources import Vector

TERMINAL = frozenset(
    (
        "TASK_FINISHED",
        "TASK_FAILED",
        "TASK_KILLED",
        "TASK_ERROR",
        "TASK_LOST",
        "TASK_DROPPED",
        "TASK_GONE",
        "TASK_GONE_BY_OPERATOR",
    )
)
"""States of tasks that hold nothing any more."""


class Id(Struct, frozen=True, gc=False):
    """Any id."""

    value: str = ""


class _Scalar(Struct, frozen=True, gc=False):
    value: float = 0.0


class _Text(Struct, frozen=True, gc=False):
    value: str = ""


class _Range(Struct, frozen=True, gc=False):
    begin: int = 0
    end: int = 0


class _Ranges(Struct, frozen=True, gc=False):
    range: list[_Range] = []


class _Items(Struct, frozen=True, gc=False):
    item: list[str] = []


class _Reservation(Struct, frozen=True, gc=False):
    role: str = "*"


class Resource(Struct, frozen=True, gc=False):
    """One entry of a list of resources; of the last fields only whether they are there counts."""

    name: str = ""
    scalar: _Scalar | None = None
    ranges: _Ranges | None = None
    role: str = "*"
    reservations: list[_Reservation] = []
    revocable: dict[str, object] | None = None
    shared: dict[str, object] | None = None
    disk: dict[str, object] | None = None


class _Attribute(Struct, frozen=True, gc=False):
    name: str = ""
    scalar: _Scalar | None = None
    text: _Text | None = None
    ranges: _Ranges | None = None
    set: _Items | None = None


class AgentInfo(Struct, frozen=True, gc=False):
    """What an agent says of itself."""

    id: Id = Id()
    hostname: str = ""
    port: int = 5051
    resources: list[Resource] = []
    attributes: list[_Attribute] = []


class _Drain(Struct, frozen=True, gc=False):
    state: str = ""


class AgentEntry(Struct, frozen=True, gc=False):
    """What the master says of an agent."""

    agent_info: AgentInfo = AgentInfo()
    active: bool = True
    deactivated: bool = False
    pid: str = ""
    total_resources: list[Resource] = []
    allocated_resources: list[Resource] = []
    offered_resources: list[Resource] = []
    drain_info: _Drain | None = None

    @property
    def url(self) -> str:
        """``slave(1)@10.0.0.7:5051`` as ``http://10.0.0.7:5051/slave(1)``."""
        name, _, address = self.pid.partition("@")
        return f"http://{address}/{name}" if address else ""

    @property
    def state(self) -> AgentState:
        """In our words. One that is merely not active lost its connection to the master."""
        if self.drain_info is not None and self.drain_info.state == "DRAINING":
            return "draining"
        if self.deactivated:
            return "deactivated"
        return "active" if self.active else "unreachable"


class TaskEntry(Struct, frozen=True, gc=False):
    """A task of any framework."""

    task_id: Id = Id()
    framework_id: Id = Id()
    agent_id: Id = Id()
    state: str = ""
    resources: list[Resource] = []


class FrameworkInfo(Struct, frozen=True, gc=False):
    """A framework and its roles; ``role`` is what one without MULTI_ROLE has."""

    id: Id = Id()
    role: str = "*"
    roles: list[str] = []


class FrameworkEntry(Struct, frozen=True, gc=False):
    """What the master says of a framework."""

    framework_info: FrameworkInfo = FrameworkInfo()

    @property
    def roles(self) -> tuple[str, ...]:
        """Its roles, in order of name."""
        info = self.framework_info
        return tuple(sorted(info.roles or [info.role]))


class Agents(Struct, frozen=True, gc=False):
    """All agents; ``recovered_agents`` are in the registry of a new master and have not come back yet."""

    agents: list[AgentEntry] = []
    recovered_agents: list[AgentInfo] = []


class _Tasks(Struct, frozen=True, gc=False):
    tasks: list[TaskEntry] = []


class _Frameworks(Struct, frozen=True, gc=False):
    frameworks: list[FrameworkEntry] = []


class State(Struct, frozen=True, gc=False):
    """All there is at the moment of a subscription."""

    get_tasks: _Tasks = _Tasks()
    get_frameworks: _Frameworks = _Frameworks()
    get_agents: Agents = Agents()


class _Subscribed(Struct, frozen=True, gc=False):
    get_state: State = State()
    heartbeat_interval_seconds: float = 15.0


class _TaskAdded(Struct, frozen=True, gc=False):
    task: TaskEntry


class _Status(Struct, frozen=True, gc=False):
    task_id: Id = Id()
    agent_id: Id = Id()
    state: str = ""


class TaskUpdated(Struct, frozen=True, gc=False):
    """``state`` is the latest of the task, ``status`` the update that is on its way to the framework."""

    framework_id: Id = Id()
    status: _Status = _Status()
    state: str = ""


class _AgentAdded(Struct, frozen=True, gc=False):
    agent: AgentEntry


class _AgentRemoved(Struct, frozen=True, gc=False):
    agent_id: Id


class _FrameworkChanged(Struct, frozen=True, gc=False):
    framework: FrameworkEntry


class Event(Struct, frozen=True, gc=False):
    """A record of the event stream; types that are not known have no field set."""

    type: str = ""
    subscribed: _Subscribed | None = None
    task_added: _TaskAdded | None = None
    task_updated: TaskUpdated | None = None
    agent_added: _AgentAdded | None = None
    agent_removed: _AgentRemoved | None = None
    framework_added: _FrameworkChanged | None = None
    framework_updated: _FrameworkChanged | None = None
    framework_removed: FrameworkEntry | None = None


class AgentsAnswer(Struct, frozen=True, gc=False):
    """The answer to ``GET_AGENTS``."""

    get_agents: Agents = Agents()


decode_event = msgspec.json.Decoder(Event).decode
decode_agents = msgspec.json.Decoder(AgentsAnswer).decode


def ours(resource: Resource, roles: Sequence[str] | None) -> bool:
    """Whether it may be offered to one of ``roles`` (None: any) as an ordinary resource.

    What is reserved for a role may be offered to those below it too; revocable and shared resources and disks with
    a source or a volume are not used.
    """
    if resource.revocable is not None or resource.shared is not None or resource.disk is not None:
        return False
    role = resource.reservations[-1].role if resource.reservations else resource.role
    if role == "*" or roles is None:
        return True
    return any(mine == role or mine.startswith(role + "/") for mine in roles)


def amounts(resources: Iterable[Resource], roles: Sequence[str] | None) -> Vector:
    """The sum of what may be ours; entries of the same name add up."""
    scalars = {"cpus": 0.0, "mem": 0.0, "disk": 0.0, "gpus": 0.0}
    ports = 0
    for resource in resources:
        name = resource.name
        if not ours(resource, roles):
            continue
        if name in scalars and resource.scalar is not None:
            scalars[name] += resource.scalar.value
        elif name == "ports" and resource.ranges is not None:
            ports += sum(max(0, part.end - part.begin + 1) for part in resource.ranges.range)
    cpus, mem, disk, gpus = scalars.values()
    return (round(cpus * 1000), int(mem), int(disk), int(gpus), ports)


def attributes(info: AgentInfo) -> dict[str, AttributeValue]:
    """An agent's attributes; ranges and sets as text."""
    return {attribute.name: _value(attribute) for attribute in info.attributes}


def _value(attribute: _Attribute) -> AttributeValue:
    if attribute.scalar is not None:
        return attribute.scalar.value
    if attribute.text is not None:
        return attribute.text.value
    if attribute.ranges is not None:
        return ",".join(f"{part.begin}-{part.end}" for part in attribute.ranges.range)
    return "" if attribute.set is None else ",".join(attribute.set.item)
