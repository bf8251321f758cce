"""An engine of many machines with GPUs, for looking at them: tasks go where there is room."""

from __future__ import annotations

from collections.abc import Sequence

from retz.engine.base import Assignment, Task
from retz.model.agent import Agent, Gpu, GpuProcess, Offer
from retz.model.resources import Resources, subtract

from .http_site import PuppetEngine

MODEL, MEM_MB = "H200", 143_771


def farm(machines: int, gpus: int = 8, telemetry: bool = True) -> list[Agent]:
    """Machines ``n01``... with a rack each; every GPU knows what it does, if there is telemetry."""
    return [
        Agent(
            id=f"agent-{number}",
            host=f"n{number:02}",
            total=Resources(64, 524_288, 1_000_000, gpus, 1000),
            attributes={"rack": f"r{number % 4}", "ssd": True},
            gpus=tuple(_gpu(number, index, telemetry) for index in range(gpus)),
        )
        for number in range(1, machines + 1)
    ]


def _gpu(number: int, index: int, telemetry: bool) -> Gpu:
    gpu = Gpu(f"GPU-{number}-{index}", index, MODEL, MEM_MB)
    if not telemetry:
        return Gpu(gpu.uuid, index, note="declared, no driver")
    busy = (number * 37 + index * 13) % 101
    strangers = (GpuProcess(8812, "jupyter", 34_816),) if (number, index) == (3, 6) else ()
    return Gpu(
        gpu.uuid, index, MODEL, MEM_MB, mem_used_mb=MEM_MB * busy // 110, util=float(busy),
        temperature_c=35.0 + busy / 2, power_w=90.0 + 6 * busy, idle_since=1.0 if busy == 0 else None,
        strangers=strangers,
    )  # fmt: skip


class FarmEngine(PuppetEngine):
    """Offers the room of every machine, and gives out GPUs that nobody holds."""

    def __init__(self, agents: Sequence[Agent]) -> None:
        super().__init__(agents)
        self._where: dict[str, str] = {}
        self._gpus: dict[str, tuple[str, ...]] = {}
        self._open: list[str] = []

    def replace_agents(self, agents: Sequence[Agent]) -> None:
        """Other machines, or the same with other telemetry."""
        self._agents = agents

    def offer(self) -> None:
        assert self._listener is not None
        self._listener.rescinded(self._open)
        offers = [self._offer(agent) for agent in self._agents if agent.state == "active"]
        self._open = [offer.id for offer in offers]
        self._listener.offers(offers)

    def _offer(self, agent: Agent) -> Offer:
        self._offers += 1
        room = agent.total.vector
        for task, held in self.held.items():
            if self._where[task] == agent.id:
                room = subtract(room, held.vector)
        return Offer(id=f"o{self._offers}", agent=agent.id, host=agent.host, room=room, attributes=agent.attributes)

    def assign(self, offer: Offer, resources: Resources, taken: Assignment) -> Assignment | None:
        agent = next(agent for agent in self._agents if agent.id == offer.agent)
        gone = {uuid for task in self.held for uuid in self._gpus[task]} | set(taken.gpus)
        free = [gpu.uuid for gpu in agent.gpus if gpu.uuid not in gone]
        return Assignment(gpus=tuple(free[: resources.gpus])) if len(free) >= resources.gpus else None

    def launch(self, offer: Offer, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self._where[task.id], self._gpus[task.id] = offer.agent, task.assignment.gpus
        super().launch(offer, tasks)
