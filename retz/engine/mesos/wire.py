"""What the server and its two child processes say to each other, and how it goes through a pipe.

A message is a tagged array in MessagePack behind its length in four bytes, big-endian. The *driver* child speaks the
scheduler API (:mod:`.driver`), the *observer* child looks at master and agents (:mod:`.observer`). Times are seconds
since the epoch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from retz.engine.base import Task
from retz.model.agent import AttributeValue
from retz.model.resources import Vector

LENGTH = struct.Struct("!I")
MAX_MESSAGE = 256 * 1024 * 1024
"""A longer one is a fault of ours, not a message."""

ITEMS = 100
"""Offers, updates, agents or samples in one message at most: 100 offers with their launches, or 100 updates with their
records, keep the server's loop busy for five milliseconds."""


class Message(Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Anything that goes through a pipe."""


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """One resource of an offer, as Mesos lists it; there may be several of one name.

    Attributes:
        name: ``cpus``, ``mem``, ``disk``, ``gpus`` or ``ports``; others are not passed on.
        amount: Of a scalar; of ``ports`` their number.
        ranges: Of ``ports``: (first, last), both included.
        marks: What a task must repeat to use just this entry: ``role``, ``reservations``, ``reservation``; empty for
            what is not reserved.
    """

    name: str
    amount: float
    ranges: tuple[tuple[int, int], ...] = ()
    marks: dict[str, Any] = {}


class MesosOffer(Struct, frozen=True, array_like=True, gc=False):
    """An offer of the master. ``url`` is the agent's, ``http://10.0.0.7:5051/slave(1)``."""

    id: str
    agent: str
    host: str
    url: str
    role: str
    entries: tuple[Entry, ...]
    attributes: dict[str, AttributeValue] = {}


class Status(Struct, frozen=True, array_like=True, gc=False):
    """A task status update, with Mesos's own words. ``uuid`` is None for what must not be acknowledged.

    Attributes:
        unreachable_since: Since when the agent is not reached, if the update says so.
    """

    task: str
    agent: str
    state: str
    source: str = ""
    reason: str = ""
    message: str = ""
    at: float = 0.0
    uuid: str | None = None
    unreachable_since: float | None = None


class TaskRef(Struct, frozen=True, array_like=True, gc=False):
    """A task and its agent (empty: not known)."""

    task: str
    agent: str = ""


class Ack(Struct, frozen=True, array_like=True, gc=False):
    """A status update that is durable now."""

    task: str
    agent: str
    uuid: str


# -- server to driver ------------------------------------------------------------------------------------------


class Connect(Message, frozen=True):
    """The first message: subscribe, and stay so. ``framework`` is a FrameworkInfo, with its id if it has one."""

    master: str
    framework: dict[str, Any]
    principal: str | None = None
    secret: str | None = None


class Launch(Struct, frozen=True, array_like=True, gc=False):
    """A task, and what it uses of its offers: entries of those, with the amount and the ports that it takes."""

    task: Task
    entries: list[Entry]


class Accept(Message, frozen=True):
    """Launch tasks on these offers of one agent.

    Answered by :class:`Accepted` or :class:`NotAccepted`.
    """

    call: int
    offers: list[str]
    launches: list[Launch]
    refuse_s: float = 0.0


class Decline(Message, frozen=True):
    """Give offers back, not to be offered again for so long."""

    offers: list[str]
    refuse_s: float


class Revive(Message, frozen=True):
    """Clear filters and suppression."""


class Suppress(Message, frozen=True):
    """Make no more offers."""


class Kill(Message, frozen=True):
    """End these tasks."""

    tasks: list[TaskRef]


class Acknowledge(Message, frozen=True):
    """Acknowledge these updates."""

    acks: list[Ack]


class Reconcile(Message, frozen=True):
    """Ask for the states of these tasks; of all, if there are none."""

    tasks: list[TaskRef]


class Stop(Message, frozen=True):
    """Disconnect without a TEARDOWN, and exit."""


ToDriver = Connect | Accept | Decline | Revive | Suppress | Kill | Acknowledge | Reconcile | Stop

# -- driver to server ------------------------------------------------------------------------------------------


class Subscribed(Message, frozen=True):
    """The master knows us. ``master`` is ``host:port``."""

    framework: str
    master: str
    version: str = ""


class Disconnected(Message, frozen=True):
    """The stream ended; the driver looks for the master again by itself. Offers are void."""

    why: str


class Offers(Message, frozen=True):
    """New offers."""

    offers: list[MesosOffer]


class Rescinded(Message, frozen=True):
    """These offers are void."""

    offers: list[str]


class Statuses(Message, frozen=True):
    """Task status updates, in the order in which they came."""

    statuses: list[Status]


class AgentLost(Message, frozen=True):
    """The master gave an agent up (FAILURE without an executor)."""

    agent: str


class Accepted(Message, frozen=True):
    """The master took an ACCEPT (its content is answered by updates)."""

    call: int


class NotAccepted(Message, frozen=True):
    """An ACCEPT failed. ``certain``: it did not reach the master, or was refused whole: nothing of it runs."""

    call: int
    why: str
    certain: bool


class Refused(Message, frozen=True):
    """The master said ERROR, or refused the subscription.

    Attributes:
        kind: ``removed``: the framework id is no more; ``superseded``: somebody else subscribed with it; ``other``.
    """

    kind: str
    why: str


class Malformed(Message, frozen=True):
    """An event was not understood and is ignored."""

    why: str


class Alive(Message, frozen=True):
    """Sent every few seconds, whatever happens."""


FromDriver = (
    Subscribed
    | Disconnected
    | Offers
    | Rescinded
    | Statuses
    | AgentLost
    | Accepted
    | NotAccepted
    | Refused
    | Malformed
    | Alive
)

# -- server to observer ----------------------------------------------------------------------------------------


class Observe(Message, frozen=True):
    """Whom to look at, and how often. May be sent again when the master or the framework id changed.

    Attributes:
        master: ``host:port`` of the leading master; empty while there is none.
        poll_s: Between two looks at all agents.
        sample_s: Between two measurements of the running tasks.
        exporter: URL of the GPU exporter, ``{host}`` in it stands for the agent's host; None for none.
    """

    master: str
    framework: str
    principal: str | None
    secret: str | None
    poll_s: float
    sample_s: float
    exporter: str | None


class Watch(Message, frozen=True):
    """Agents (id -> URL) that run tasks of ours now, to be measured; and those that do not any more."""

    run: dict[str, str]
    idle: list[str]


ToObserver = Observe | Watch | Stop

# -- observer to server ----------------------------------------------------------------------------------------


class SeenAgent(Struct, frozen=True, array_like=True, gc=False):
    """An agent as the master describes it. Amounts are vectors (:data:`retz.model.resources.Vector`).

    Attributes:
        ours: Held by tasks of our framework; ``held``: by those of all frameworks.
        state: As in :class:`retz.model.agent.Agent`.
    """

    id: str
    host: str
    url: str
    total: Vector
    held: Vector
    ours: Vector
    offered: Vector
    state: str
    attributes: dict[str, AttributeValue]


class Agents(Message, frozen=True):
    """Agents that are new or changed.

    Attributes:
        anew: A list of all agents begins: those that are not in it are gone.
        more: Of such a list another message follows.
    """

    agents: list[SeenAgent]
    anew: bool = False
    more: bool = False


class AgentsGone(Message, frozen=True):
    """The master knows them no more."""

    agents: list[str]


class Sample(Struct, frozen=True, array_like=True, gc=False):
    """What a task used: processor seconds since its start, resident MiB now."""

    task: str
    at: float
    cpu_s: float
    rss_mb: float


class Samples(Message, frozen=True):
    """Measurements of running tasks."""

    samples: list[Sample]


class SeenGpu(Struct, frozen=True, array_like=True, gc=False):
    """Telemetry of one GPU; None for what the exporter does not tell."""

    index: int
    uuid: str
    model: str = ""
    mem_mb: int | None = None
    mem_used_mb: int | None = None
    util: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None


class Telemetry(Message, frozen=True):
    """All GPUs of one agent, or why they cannot be seen."""

    agent: str
    gpus: list[SeenGpu]
    why: str = ""


class Trouble(Message, frozen=True):
    """Master or agents do not answer the observer; empty once they do again."""

    why: str


FromObserver = Agents | AgentsGone | Samples | Telemetry | Trouble | Alive

# -- frames ----------------------------------------------------------------------------------------------------

_ENCODER = msgspec.msgpack.Encoder()


def frame(messages: Iterable[Message]) -> bytes:
    """The bytes of some messages."""
    parts: list[bytes] = []
    for message in messages:
        body = _ENCODER.encode(message)
        parts += (LENGTH.pack(len(body)), body)
    return b"".join(parts)


class Frames:
    """Cuts a stream of bytes into message bodies."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0

    def feed(self, data: bytes) -> None:
        """More bytes have come."""
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole body; None until more bytes come.

        Raises:
            ValueError: a length that no message has: the stream is broken.
        """
        buffer, at = self._buffer, self._at
        if len(buffer) - at < LENGTH.size:
            self._compact()
            return None
        (length,) = LENGTH.unpack_from(buffer, at)
        if length > MAX_MESSAGE:
            raise ValueError(f"a message of {length} bytes")
        end = at + LENGTH.size + length
        if len(buffer) < end:
            self._compact()
            return None
        self._at = end
        return bytes(memoryview(buffer)[at + LENGTH.size : end])

    def _compact(self) -> None:
        """Forget what was read, once and not for every message: deleting moves all that follows."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
