"""The heart of the double's master: what it keeps, how it sends events, how offers are made and taken back."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from . import statuses
from .allocator import Allocator, Bundle, Grant, Slot
from .answers import Stream, encode
from .model import (
    HISTORY,
    AgentLink,
    AgentRecord,
    Framework,
    Handler,
    Json,
    Observer,
    OfferRecord,
    TaskRecord,
    Timing,
)

VERSION = "1.12.0"
HEARTBEAT = b'{"type":"HEARTBEAT"}'
REFUSE_S = 5.0
"""The filter of a DECLINE or ACCEPT that names none."""


@dataclass(slots=True)
class Registry:
    """What outlives the master's process.

    Attributes:
        persistent: ``--registry=replicated_log``; False: ``in_memory``, everything is forgotten.
    """

    persistent: bool = True
    agents: dict[str, AgentRecord] = field(default_factory=dict)
    unreachable: dict[str, AgentRecord] = field(default_factory=dict)
    gone: dict[str, AgentRecord] = field(default_factory=dict)

    def forget(self) -> None:
        """As ``in_memory`` does when the process ends."""
        for table in (self.agents, self.unreachable, self.gone):
            table.clear()


class Core:
    """State, timers, events, offers."""

    def __init__(
        self, timing: Timing | None = None, *, ip: str = "127.0.0.1", registry: Registry | None = None
    ) -> None:
        self.timing = timing or Timing()
        self.registry = registry or Registry()
        self.ip = ip
        self.port = 0
        self.start_time = time.time()
        self.elected_time = 0.0
        self.leading = False
        self.recovering = False
        self.stalled: asyncio.Event | None = None
        self.observers: list[Observer] = []
        self.witnesses: list[Callable[[str, Json], None]] = []
        """Told of every status that goes to a framework: its id, and the status."""
        self.routes: dict[str, Handler] = {}
        self.local: dict[str, Handler] = {}
        self._epoch = 0
        self.deliver: Callable[[Framework, Json], None] = self._deliver
        """Forwards an agent's status; fault injection puts itself here."""
        self.forget()

    def forget(self) -> None:
        """A new process: knows nothing, is called something else."""
        self._epoch += 1
        self.id = str(uuid.uuid4())
        self.agents: dict[str, AgentRecord] = {}
        self.unreachable: dict[str, AgentRecord] = {}
        self.gone: dict[str, AgentRecord] = {}
        self.recovered: dict[str, AgentRecord] = {}
        self.frameworks: dict[str, Framework] = {}
        self.completed_frameworks: deque[Framework] = deque(maxlen=HISTORY)
        self.offers: dict[str, OfferRecord] = {}
        self.allocator = Allocator()
        self.streams: dict[str, Stream] = {}
        self._removed: set[str] = set()
        self._pings: dict[str, asyncio.TimerHandle] = {}
        self._numbers = dict.fromkeys(("framework", "agent", "offer"), 0)

    # -- small things ----------------------------------------------------------------------------------------------

    @property
    def master_info(self) -> Json:
        """MasterInfo as in SUBSCRIBED."""
        return {
            "id": self.id,
            "ip": struct.unpack("<I", socket.inet_aton(self.ip))[0],
            "port": self.port,
            "pid": f"master@{self.ip}:{self.port}",
            "hostname": self.ip,
            "version": VERSION,
            "address": {"hostname": self.ip, "ip": self.ip, "port": self.port},
            "capabilities": [{"type": "AGENT_UPDATE"}, {"type": "AGENT_DRAINING"}, {"type": "QUOTA_V2"}],
        }

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.ip}:{self.port}"

    @property
    def ready(self) -> bool:
        """Whether agents may register."""
        return self.leading and not self.recovering and self.stalled is None

    def _next(self, kind: str) -> int:
        number = self._numbers[kind]
        self._numbers[kind] = number + 1
        return number

    def later(self, delay: float, call: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
        """Call later, unless this process of the master has ended by then."""
        return asyncio.get_running_loop().call_later(delay, self._fire, self._epoch, call, args)

    def _fire(self, epoch: int, call: Callable[..., None], args: tuple[Any, ...]) -> None:
        if epoch == self._epoch:
            call(*args)

    def observe(self, kind: str, what: TaskRecord | AgentRecord | Framework, status: Json | None = None) -> None:
        """Tell the operator API."""
        for observer in self.observers:
            observer(kind, what, status)

    # -- events ----------------------------------------------------------------------------------------------------

    def send(self, framework_id: str, record: bytes) -> None:
        """Send an event, if the framework is there."""
        stream = self.streams.get(framework_id)
        if stream is not None:
            stream.write(record)

    def send_failure(self, agent_id: str) -> None:
        """FAILURE of an agent goes to everybody."""
        event = statuses.failure_event(agent_id)
        for stream in self.streams.values():
            stream.write(event)

    def _deliver(self, framework: Framework, status: Json) -> None:
        if framework.id in self.streams:
            for witness in self.witnesses:
                witness(framework.id, status)
        self.send(framework.id, statuses.update_event(status))

    def tell(self, framework: Framework, status: Json) -> None:
        """Send a status of the master's own."""
        self._deliver(framework, status)

    def _heartbeat(self, framework_id: str, stream: Stream) -> None:
        if self.streams.get(framework_id) is stream:
            stream.write(HEARTBEAT)
            self.later(self.timing.heartbeat, self._heartbeat, framework_id, stream)

    # -- offers ----------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self.later(self.timing.allocation_interval, self._tick)
        self.allocate()

    def allocate(self) -> None:
        """A round of offers."""
        if not self.ready:
            return
        grants = self.allocator.round(self.frameworks.values(), asyncio.get_running_loop().time())
        by_framework: dict[str, list[Grant]] = {}
        for grant in grants:
            by_framework.setdefault(grant.framework.id, []).append(grant)
        for framework_id, mine in by_framework.items():
            self._offer(self.frameworks[framework_id], mine)

    def _offer(self, framework: Framework, grants: list[Grant]) -> None:
        offers = [encode(self._record(framework, grant)) for grant in grants]
        self.send(framework.id, b'{"type":"OFFERS","offers":{"offers":[' + b",".join(offers) + b"]}}")

    def _record(self, framework: Framework, grant: Grant) -> Json:
        """Keep an offer, and give it as JSON."""
        slot = grant.slot
        resources = list(grant.amount.resources(grant.role, slot.order))
        offer = OfferRecord(
            f"{self.id}-O{self._next('offer')}",
            framework.id,
            slot.agent.id,
            grant.role,
            resources,
            time.time(),
            grant.amount,
        )
        self.offers[offer.id] = framework.offers[offer.id] = slot.agent.offers[offer.id] = offer
        if self.timing.offer_timeout is not None:
            self.later(self.timing.offer_timeout * self.timing.scale, self._offer_timed_out, offer)
        return _offer_json(offer, slot.agent.link, framework.multi_role)

    def _offer_timed_out(self, offer: OfferRecord) -> None:
        if self.offers.get(offer.id) is offer:
            self.rescind([offer])

    def take_back(self, offer: OfferRecord, *, recover: bool = True) -> None:
        """An offer is over; its resources are free again unless they went to tasks."""
        self.offers.pop(offer.id, None)
        if framework := self.frameworks.get(offer.framework_id):
            framework.offers.pop(offer.id, None)
        if agent := self.agents.get(offer.agent_id):
            agent.offers.pop(offer.id, None)
        if recover:
            self.allocator.recover(offer.agent_id, offer.role, offer.amount)

    def rescind(self, offers: Iterable[OfferRecord]) -> None:
        """Take offers back and say so."""
        for offer in list(offers):
            self.take_back(offer)
            self.send(offer.framework_id, statuses.rescind_event(offer.id))

    def refuse(self, framework: Framework, role: str, agent_id: str, amount: Bundle, filters: Json | None) -> None:
        """Do not offer these for a while."""
        seconds = (filters or {}).get("refuse_seconds", REFUSE_S)
        if seconds < 0:
            seconds = REFUSE_S
        if seconds:
            wait = max(seconds * self.timing.scale, self.timing.allocation_interval)
            until = asyncio.get_running_loop().time() + wait
            self.allocator.refuse(framework.id, role, agent_id, amount, until)

    def slot(self, agent_id: str) -> Slot | None:
        """The allocator's view of an agent."""
        return self.allocator.slots.get(agent_id)

    def available(self, agent: AgentRecord) -> list[Json]:
        """What is neither used nor offered there; without ``allocation_info``."""
        slot = self.slot(agent.id)
        return [] if slot is None else [_bare(each) for each in slot.free.resources("*", slot.order)]

    def used(self, agent: AgentRecord) -> list[Json]:
        """What its tasks use: one entry for each resource and role, with ``allocation_info``."""
        by_role: dict[str, Bundle] = {}
        for task in agent.tasks.values():
            if not task.terminal:
                by_role.setdefault(task.role, Bundle()).add(task.amount)
        return [each for role, amount in by_role.items() for each in amount.resources(role)]

    # -- tasks -----------------------------------------------------------------------------------------------------

    def set_state(self, task: TaskRecord, status: Json, latest: str) -> None:
        """Take over a status: history, state, and resources when it has ended."""
        changed = not task.terminal and status["state"] != task.state
        was_terminal = task.terminal
        if not was_terminal:
            task.state = latest
        statuses.remember(task, status)
        if changed:
            self.observe("TASK_UPDATED", task, status)
        if task.terminal and not was_terminal:
            self.allocator.recover(task.agent_id, task.role, task.amount)

    def remove_task(self, framework: Framework, task: TaskRecord, *, unreachable: bool = False) -> None:
        """The framework knows its end (or will never ask): only history is left."""
        framework.tasks.pop(task.id, None)
        task.unacknowledged = None
        if unreachable:
            framework.unreachable_tasks[task.id] = task
        else:
            framework.completed_tasks.append(task)
        agent = self.agents.get(task.agent_id)
        if agent is not None:
            agent.tasks.pop((framework.id, task.id), None)
            self._drained(agent)

    def end_task(self, framework: Framework, task: TaskRecord, status: Json, *, unreachable: bool = False) -> None:
        """End a task by the master's own word, and say so; nothing is left to acknowledge."""
        self.set_state(task, status, status["state"])
        self.tell(framework, status)
        self.remove_task(framework, task, unreachable=unreachable)

    def _drained(self, agent: AgentRecord) -> None:
        """An agent that drains may have drained."""


def _offer_json(offer: OfferRecord, agent: AgentLink, multi_role: bool) -> Json:
    json: Json = {
        "id": {"value": offer.id},
        "framework_id": {"value": offer.framework_id},
        "agent_id": {"value": offer.agent_id},
        "hostname": agent.hostname,
        "url": {
            "scheme": "http",
            "address": {"hostname": agent.hostname, "ip": agent.ip, "port": agent.port},
            "path": agent.path,
        },
        "resources": offer.resources if multi_role else [_bare(each) for each in offer.resources],
    }
    if agent.attributes:
        json["attributes"] = agent.attributes
    if multi_role:
        json["allocation_info"] = {"role": offer.role}
    return json


def _bare(resource: Json) -> Json:
    return {key: value for key, value in resource.items() if key != "allocation_info"}
