"""Agents and their offers, as an engine reports them."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from .resources import Resources, Vector

AttributeValue = str | float | bool
"""An agent attribute: text, a number, or True for one that is merely present."""


AgentState = Literal["active", "unreachable", "draining", "deactivated"]


class GpuProcess(Struct, frozen=True):
    """A process that computes on a GPU. ``mem_mb`` is None where the driver does not tell."""

    pid: int
    name: str = ""
    mem_mb: int | None = None


class Gpu(Struct, frozen=True, omit_defaults=True):
    """One GPU of an agent. Telemetry is None where there is none.

    Attributes:
        note: Why there is no telemetry, in a few words.
        idle_since: Since when its utilisation was 0 whenever somebody looked, epoch seconds; None while it is not.
        strangers: Processes on it that no task of ours started.
    """

    uuid: str
    index: int = 0
    model: str = ""
    mem_mb: int | None = None
    mem_used_mb: int | None = None
    util: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    note: str = ""
    idle_since: float | None = None
    strangers: tuple[GpuProcess, ...] = ()


class Agent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A machine that runs tasks.

    Attributes:
        id: The engine's id for it, stable over restarts of the server.
        host: Host name, for people.
        total: Everything it offers to Retz when idle.
        guessed: ``total`` is only what was seen free so far; it may have more.
        state: ``active``; ``unreachable`` while the engine cannot talk to it; ``draining``: it shall run nothing soon;
            ``deactivated``: an operator keeps it from getting tasks.
        others: Held by other users of the same machines, other frameworks of a cluster.
        offered: On offer to somebody at this moment, us included.
    """

    id: str
    host: str
    total: Resources
    attributes: dict[str, AttributeValue] = {}
    gpus: tuple[Gpu, ...] = ()
    state: AgentState = "active"
    others: Resources = Resources()
    offered: Resources = Resources()
    guessed: bool = False


class Offer(Struct, frozen=True, kw_only=True):
    """Room on one agent that the server may use now. Consumed whole by a launch or a decline; what is left
    over comes back as a new offer.

    Attributes:
        id: Unique for ever.
        agent: Id of the agent.
        room: Free amounts.
        attributes: The agent's attributes, for constraints.
        host: The agent's host name, for explanations.
    """

    id: str
    agent: str
    room: Vector
    attributes: dict[str, AttributeValue] = {}
    host: str = ""
