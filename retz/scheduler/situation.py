"""What a forecast starts from: the cluster and the queue at one moment, in a form that travels between processes.

Equal things are told once: jobs name their kind and their spread by index.
"""

from __future__ import annotations

from msgspec import Struct

from retz.model.agent import AttributeValue
from retz.model.resources import Vector

from .limits import UserLimits
from .spread import Spread


class Kind(Struct, frozen=True, array_like=True, gc=False):
    """What jobs ask for that are alike to a planner; see :class:`retz.model.job.Job`."""

    owner: str
    need: Vector
    attributes: str = ""
    priority: int = 0
    timeout_s: float | None = None
    kill_grace_s: float = 0.0


class Machine(Struct, frozen=True, array_like=True):
    """An agent that may be given jobs: what of it others do not hold."""

    id: str
    host: str
    room: Vector
    attributes: dict[str, AttributeValue] = {}


class Waiter(Struct, frozen=True, array_like=True, gc=False):
    """A job that is to be started.

    Attributes:
        kind, spread: Indexes into the situation's.
        since: Since when it has waited for room.
        after: Jobs that must end first.
        start_at: Not before.
        array: The array it is a task of, or 0.
    """

    id: int
    kind: int
    spread: int
    since: float
    after: tuple[int, ...] = ()
    start_at: float = 0.0
    array: int = 0


class Runner(Struct, frozen=True, array_like=True, gc=False):
    """A job that runs; ``since`` is when it was started."""

    id: int
    kind: int
    spread: int
    agent: str
    since: float
    array: int = 0


class Row(Struct, frozen=True, array_like=True, gc=False):
    """An array: at most ``limit`` of its tasks run at a time (0: any number), ``untold`` are not among the waiters."""

    id: int
    limit: int = 0
    untold: int = 0


class Arrival(Struct, frozen=True, array_like=True, gc=False):
    """A job that was submitted so many seconds ago: such ones will come again.

    ``after`` are those of the situation's arrivals, by index, that had to end first.
    """

    kind: int
    spread: int
    ago: float
    after: tuple[int, ...] = ()


class Rules(Struct, frozen=True):
    """How the real scheduler was made."""

    planner: str = "fifo"
    max_running: int = 0
    user_limits: UserLimits = UserLimits()
    patience_s: float = 0.0
    fair_resources: tuple[str, ...] = ("cpus", "mem", "gpus")
    half_life_s: float = 7 * 86400.0


class Situation(Struct, frozen=True):
    """The whole.

    Attributes:
        now: Seconds since the epoch.
        open: Whether jobs are started.
        capacity: Of all agents, for shares.
        used: What each user used so far; see ``shares.py``.
        arrivals: What was submitted lately, in the last ``arrivals_s`` seconds, the oldest first.
        cut: The last waiters told of where there are more behind them: what starts later than these is not foreseen.
        probe: Id of a waiter, or of an array of which waiters are tasks, that only asks what would be: nothing after
            its start (of the tasks: the last of their starts) matters.
    """

    now: float
    rules: Rules
    kinds: list[Kind]
    spreads: list[Spread]
    machines: list[Machine]
    waiters: list[Waiter]
    runners: list[Runner]
    rows: list[Row] = []
    capacity: Vector = (0, 0, 0, 0, 0)
    used: dict[str, float] = {}
    open: bool = True
    arrivals: list[Arrival] = []
    arrivals_s: float = 0.0
    cut: tuple[int, ...] = ()
    probe: int = 0
