"""The agents of the cluster as the server shows them: what the observer told, and until it did, what offers tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import get_args

from msgspec.structs import replace

from retz.model.agent import Agent, AgentState, Gpu
from retz.model.resources import Resources, Vector, add, from_vector

from .wire import Agents, AgentsGone, MesosOffer, SeenAgent, SeenGpu, Telemetry

NO_TELEMETRY = "Mesos counts GPUs but does not name them: set retz.gpu.exporter for their use"
BY_INDEX = "use is that of the machine's GPU of this number; Mesos decides which GPU a job gets"
_WAITING = "nothing heard from the GPU exporter yet"
_SILENT = "the GPU exporter tells nothing of this GPU"
_STATES: frozenset[str] = frozenset(get_args(AgentState))
_NOTHING = Resources()


def slot(agent_id: str, number: int) -> str:
    """The name of an agent's GPU: ``<agent id>/gpu0`` and so on."""
    return f"{agent_id}/gpu{number}"


class AgentTable:
    """All agents known. An agent of which only offers are known shows what was offered as all it has.

    Args:
        telemetry: Whether a GPU exporter is configured.
        clock: Seconds since the epoch.
    """

    def __init__(self, *, telemetry: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._agents: dict[str, Agent] = {}
        self._urls: dict[str, str] = {}
        self._heard: dict[str, Telemetry] = {}
        self._listed: list[Agent] | None = None
        self._missing: set[str] = set()  # in the list that is coming
        self._told: set[str] = set()  # by the observer; of others an offer says more than nothing

    def agents(self) -> Sequence[Agent]:
        """All agents, in the order in which they became known. Not to be changed."""
        if self._listed is None:
            self._listed = list(self._agents.values())
        return self._listed

    def get(self, agent_id: str) -> Agent | None:
        """One agent; None for one that is not known."""
        return self._agents.get(agent_id)

    def url(self, agent_id: str) -> str | None:
        """Where an agent answers, ``http://10.0.0.7:5051/slave(1)``; None if that is not known."""
        return self._urls.get(agent_id)

    # -- news

    def apply(self, message: Agents | AgentsGone | Telemetry) -> bool:
        """Take in what the observer says. Return whether :meth:`agents` answers something else now."""
        if isinstance(message, Telemetry):
            changed = self._hear(message)
        elif isinstance(message, AgentsGone):
            changed = self._forget(message.agents)
        else:
            changed = self._list(message)
        if changed:
            self._listed = None
        return changed

    def offered(self, offer: MesosOffer) -> bool:
        """Take in what an offer says of an agent that the observer has not told yet. Return whether it is news."""
        if offer.agent in self._told:
            if offer.url.startswith("https:"):
                self._urls[offer.agent] = offer.url
            return False
        before = self._agents.get(offer.agent)
        total = _largest(before.total.vector if before else None, _room(offer))
        after = Agent(
            id=offer.agent,
            host=offer.host,
            total=from_vector(total),
            attributes=offer.attributes,
            gpus=before.gpus if before and len(before.gpus) == total[3] else self._gpus(offer.agent, total[3], ()),
            guessed=True,
        )
        self._urls[offer.agent] = offer.url
        if after == before:
            return False
        self._agents[offer.agent] = after
        self._listed = None
        return True

    def _list(self, message: Agents) -> bool:
        """Of a new list those that are missing go at its end: meanwhile nobody shall find the cluster empty."""
        if message.anew:
            self._missing = set(self._agents)
        changed = False
        for seen in message.agents:
            self._missing.discard(seen.id)
            changed = self._see(seen) or changed
        if self._missing and not message.more:
            changed = self._forget(list(self._missing)) or changed
            self._missing.clear()
        return changed

    def _forget(self, agent_ids: Sequence[str]) -> bool:
        known = [agent_id for agent_id in agent_ids if self._agents.pop(agent_id, None) is not None]
        for agent_id in known:
            self._urls.pop(agent_id, None)
            self._heard.pop(agent_id, None)
            self._told.discard(agent_id)
        return bool(known)

    def _see(self, seen: SeenAgent) -> bool:
        self._told.add(seen.id)
        known = self._urls.get(seen.id, "")
        # Only offers say that an agent speaks https.
        if seen.url and not (known.startswith("https:") and _port(known) == _port(seen.url)):
            self._urls[seen.id] = seen.url
        before = self._agents.get(seen.id)
        count = seen.total[3]
        after = Agent(
            id=seen.id,
            host=seen.host,
            total=_resources(seen.total, before.total if before else None),
            attributes=seen.attributes,
            gpus=before.gpus if before and len(before.gpus) == count else self._gpus(seen.id, count, ()),
            state=seen.state if seen.state in _STATES else "unreachable",  # type: ignore[arg-type]
            others=_resources(_beyond(seen.held, seen.ours), before.others if before else None),
            offered=_resources(seen.offered, before.offered if before else None),
        )
        if after == before:
            return False
        self._agents[seen.id] = after
        return True

    # -- GPUs

    def _hear(self, message: Telemetry) -> bool:
        self._heard[message.agent] = message
        agent = self._agents.get(message.agent)
        if agent is None:
            return False
        gpus = self._gpus(agent.id, len(agent.gpus), agent.gpus)
        if gpus == agent.gpus:
            return False
        self._agents[agent.id] = replace(agent, gpus=gpus)
        return True

    def _gpus(self, agent_id: str, count: int, before: Sequence[Gpu]) -> tuple[Gpu, ...]:
        """The slots of an agent, each with the telemetry of the GPU of its number."""
        if not count:
            return ()
        heard = self._heard.get(agent_id)
        note = NO_TELEMETRY if not self._telemetry else _WAITING if heard is None else heard.why or _SILENT
        found = {} if heard is None else {gpu.index: gpu for gpu in heard.gpus}
        idle = {gpu.index: gpu.idle_since for gpu in before}
        return tuple(
            self._gpu(slot(agent_id, index), index, found.get(index), note, idle.get(index)) for index in range(count)
        )

    def _gpu(self, uuid: str, index: int, seen: SeenGpu | None, note: str, idle_since: float | None) -> Gpu:
        if seen is None:
            return Gpu(uuid=uuid, index=index, note=note)
        return Gpu(
            uuid=uuid,
            index=index,
            model=seen.model,
            mem_mb=seen.mem_mb,
            mem_used_mb=seen.mem_used_mb,
            util=seen.util,
            temperature_c=seen.temperature_c,
            power_w=seen.power_w,
            note=BY_INDEX,
            idle_since=(idle_since or self._clock()) if seen.util == 0 else None,
        )


def _resources(vector: Vector, before: Resources | None) -> Resources:
    """The same object if it is the same amount: thousands of agents have the same size."""
    if before is not None and before.vector == vector:
        return before
    return from_vector(vector) if any(vector) else _NOTHING


def _beyond(held: Vector, ours: Vector) -> Vector:
    cpus, mem, disk, gpus, ports = (max(0, h - o) for h, o in zip(held, ours, strict=True))
    return (cpus, mem, disk, gpus, ports)


def _largest(before: Vector | None, room: Vector) -> Vector:
    if before is None:
        return room
    cpus, mem, disk, gpus, ports = (max(pair) for pair in zip(before, room, strict=True))
    return (cpus, mem, disk, gpus, ports)


def _port(url: str) -> str:
    return url.partition("//")[2].partition("/")[0].rpartition(":")[2]


def _room(offer: MesosOffer) -> Vector:
    room: Vector = (0, 0, 0, 0, 0)
    for entry in offer.entries:
        amount = entry.amount
        if entry.name == "cpus":
            room = add(room, (round(amount * 1000), 0, 0, 0, 0))
        elif entry.name == "mem":
            room = add(room, (0, int(amount), 0, 0, 0))
        elif entry.name == "disk":
            room = add(room, (0, 0, int(amount), 0, 0))
        elif entry.name == "gpus":
            room = add(room, (0, 0, 0, int(amount), 0))
        elif entry.name == "ports":
            room = add(room, (0, 0, 0, 0, int(amount)))
    return room
