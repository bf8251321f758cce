"""The job's record: what was asked, where it stands, and every attempt at it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from .array import Array
from .resources import Resources

State = Literal["CREATED", "QUEUED", "STARTING", "STARTED", "FINISHED", "FAILED", "KILLED"]

LIVE_STATES: tuple[State, ...] = ("QUEUED", "STARTING", "STARTED")
RUNNING_STATES: tuple[State, ...] = ("STARTING", "STARTED")
ENDED_STATES: tuple[State, ...] = ("FINISHED", "FAILED", "KILLED")
STATES: tuple[State, ...] = ("CREATED", *LIVE_STATES, *ENDED_STATES)

Reason = Literal[
    "exit",  # the command ended with a non-zero code
    "signal",  # the command was ended by a signal that we did not send
    "oom",  # it used more memory than it asked for
    "disk",  # it wrote more to its sandbox than the disk it asked for
    "timeout",  # it ran longer than its time limit
    "start",  # the command could not be started at all (not found, not executable, no such directory)
    "fetch",  # a file of its application could not be fetched
    "image",  # its container image could not be had
    "user",  # somebody killed it
    "dependency",  # a job that it waited for did not end well: it was never started
    "max_fails",  # too many others of its group or array failed: it was never started
    "tasks",  # an array: some of its tasks did not end well
    "lost",  # its machine, launcher or result was lost, more often than it may be retried
]
"""Why a job ended otherwise than well, or (``lost``) why it went back to the queue."""

MIN_PRIORITY, MAX_PRIORITY = -20, 19
DEFAULT_RETRIES = 5
DEFAULT_KILL_GRACE_S = 5.0


class Usage(Struct, frozen=True, omit_defaults=True, gc=False):
    """What an attempt really used.

    Attributes:
        cpu_s: Processor seconds, user and system, of the whole process tree.
        max_rss_mb: Peak resident memory in MiB: of the tree as sampled, at least the kernel's own figure
            for its largest process.
        gpu_util: Highest utilisation seen, per cent, over the attempt's GPUs; None without telemetry.
        gpu_mem_mb: Highest GPU memory seen, MiB; None without telemetry.
        interval_s: Seconds between two points of ``series``.
        series: Points ``(cpus in use x 100, resident MiB)`` from the attempt's start; bounded in number, the
            interval doubles when it is full, so that a day stays under 10 kB.
    """

    cpu_s: float = 0.0
    max_rss_mb: float = 0.0
    gpu_util: float | None = None
    gpu_mem_mb: float | None = None
    interval_s: float = 0.0
    series: tuple[tuple[int, int], ...] = ()


OffPathKind = Literal["slower", "hungrier"]
"""How a running job may leave the path of the runs before it: it takes longer, or holds more memory."""


class OffPath(Struct, frozen=True, omit_defaults=True, gc=False):
    """A running job left the path of its step's past runs.

    Attributes:
        at: When that was noticed, seconds since the epoch.
        attempt: Which attempt.
        value: Seconds that it had run, or MiB that it held.
        usual: The 90th percentile of the past runs.
        runs: How many of them there were.
        after_s: ``value`` was held, and ``usual`` is what was usual, so many seconds after the attempt's start; None:
            these are of whole runs.
    """

    kind: OffPathKind
    at: float
    attempt: int
    value: float
    usual: float
    runs: int
    after_s: float | None = None


class Attempt(Struct, frozen=True, omit_defaults=True, gc=False):
    """One try at running a job on one agent. Times are seconds since the epoch, UTC.

    Attributes:
        number: 1 for the first; never re-used, so the task id ``<job>.<number>`` is unique for ever.
        agent: Id of the agent.
        launched: When the intent to launch was recorded.
        started: When the engine said that the process runs; None before.
        ended: When it ended; None while it runs.
        host: Name of the agent's host, if that is not its id.
        reason: Why it ended, None when it ended with exit code 0.
        waited: What kept it waiting before, and for how many seconds each, as far as that is known; see
            :mod:`retz.scheduler.waits`.
    """

    number: int
    agent: str
    launched: float
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: Reason | None = None
    message: str | None = None
    gpus: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    usage: Usage | None = None
    host: str = ""
    waited: tuple[tuple[str, float], ...] = ()


class Sized(Struct, frozen=True, omit_defaults=True, gc=False):
    """What past runs said about a job that was to ask for what they say (``--predicted``).

    Attributes:
        asked: What its user asked for, or our defaults.
        runs: Runs of its step that were known.
        mem: MiB that were given by them; None: too little was known, and what was asked holds.
        again_mem: MiB for one more try if ``mem`` turns out too little; 0: none would do.
        outgrew: Number of the attempt that needed more than ``mem``.
    """

    asked: Resources
    runs: int = 0
    mem: int | None = None
    again_mem: int = 0
    outgrew: int | None = None


class Job(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One command line with what it needs and what became of it. Immutable: changes make a new record.

    ``gc=False``: records hold no cycles, and a full collection over 100 000 of them would stop the server
    for 200 ms. Times are seconds since the epoch, UTC.

    Attributes:
        id: Given by the server, ascending, never used again.
        owner: Access key of the user whose job it is.
        command: A shell line (text), or the argument vector of a program (array).
        resources: What it asks for, defaults filled in.
        mem_default: True when ``resources.mem`` was filled in by us: resubmitted, it is filled in anew.
        application: Name of the owner's application it runs in.
        priority: -20..19, lower runs earlier (planner ``priority``).
        environment: Variables set for the job, beyond what the engine sets.
        attributes: Constraints on the agent, all of which must hold: ``rack=r1,level>=10,ssd``.
        directory: Absolute working directory; None means the sandbox.
        timeout_s: Time limit of one attempt.
        kill_grace_s: Seconds between SIGTERM and SIGKILL.
        max_retries: How often it is tried again after its machine was lost.
        held: A mark on a queued job: it is not started until released.
        losses: How often a machine was lost under it.
        kill_requested: When a kill was recorded for a running job; from then on it is never queued again.
        resubmit_of: The job this one repeats.
        after: Jobs that must have ended well before this one starts.
        after_any: Jobs that must have ended, no matter how.
        start_at: Not to be started before.
        group: Name of its group, one of its owner's: see ``max_fails``.
        max_fails: After so many failures in its group, or among the tasks of this array, what has not started is
            killed; 0 means never.
        array: This record stands for many tasks; it is QUEUED until the last of them has ended (see ``shown_state``).
        array_id, array_index: This job is a task of that array.
        on_end: URL that is told of its end; of an array's, not of its tasks'. It may hold a secret: never shown whole.
        sized: What past runs said, for a job that was to ask for that.
        off_path: How it left the path of its step's past runs, once for each kind.
    """

    id: int
    owner: str
    command: str | tuple[str, ...]
    resources: Resources
    submitted: float
    mem_default: bool = False
    application: str = "default"
    name: str = ""
    tags: tuple[str, ...] = ()
    priority: int = 0
    environment: dict[str, str] = {}
    attributes: str = ""
    directory: str | None = None
    timeout_s: float | None = None
    kill_grace_s: float = DEFAULT_KILL_GRACE_S
    max_retries: int = DEFAULT_RETRIES
    pipeline: str | None = None
    run: str | None = None
    resubmit_of: int | None = None
    state: State = "QUEUED"
    held: bool = False
    reason: Reason | None = None
    message: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    losses: int = 0
    kill_requested: float | None = None
    ended: float | None = None
    attempts: tuple[Attempt, ...] = ()
    after: tuple[int, ...] = ()
    after_any: tuple[int, ...] = ()
    start_at: float | None = None
    group: str = ""
    max_fails: int = 0
    array: Array | None = None
    array_id: int | None = None
    array_index: int | None = None
    on_end: str | None = None
    sized: Sized | None = None
    off_path: tuple[OffPath, ...] = ()

    def given(self, attempt: Attempt) -> Resources:
        """What this one of its attempts was given: one that outgrew its size was given less than the next."""
        sized = self.sized
        if sized is None or sized.outgrew is None or sized.mem is None or attempt.number > sized.outgrew:
            return self.resources
        need = self.resources
        return Resources(need.cpus, sized.mem, need.disk, need.gpus, need.ports)

    @property
    def shown_state(self) -> State:
        """The state that people see: an array of which nothing waits for its first start any more is STARTED."""
        if self.array is None or self.state != "QUEUED" or self.array.waiting or not self.array.active:
            return self.state
        return "STARTED"

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt, running or over; None for a job never launched."""
        return self.attempts[-1] if self.attempts else None

    @property
    def task_id(self) -> str | None:
        """``<job>.<attempt>`` of the latest attempt."""
        return f"{self.id}.{self.attempts[-1].number}" if self.attempts else None

    @property
    def started(self) -> float | None:
        """When the latest attempt's process started."""
        return self.attempts[-1].started if self.attempts else None


def parse_task_id(task_id: str) -> tuple[int, int]:
    """Return (job id, attempt number) of a task id.

    Raises:
        ValueError: if it is not one of ours.
    """
    job, _, attempt = task_id.partition(".")
    return int(job), int(attempt)
