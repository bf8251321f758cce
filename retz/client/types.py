"""What the API answers, typed. Times are aware datetimes (UTC), durations seconds, memory and disk MiB.

Unknown fields are ignored, so that an older client understands a newer server.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct, field

from retz.model.agent import AttributeValue
from retz.model.application import Container
from retz.model.job import Reason, State
from retz.model.resources import Resources


class Usage(Struct, frozen=True, kw_only=True):
    """What an attempt really used: processor seconds, peak memory, GPU use in per cent."""

    cpu_s: float = 0.0
    max_rss_mb: float = 0.0
    gpu_util: float | None = None
    gpu_mem_mb: float | None = None


class Attempt(Struct, frozen=True, kw_only=True):
    """One try at running a job."""

    number: int
    task: str = ""
    agent: str = ""
    host: str = ""
    launched: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: Reason | None = None
    message: str | None = None
    gpus: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    usage: Usage | None = None


class Array(Struct, frozen=True, kw_only=True):
    """How far an array is: its tasks by state. ``killed`` counts those that will never start, too."""

    text: str
    size: int = 0
    limit: int | None = None
    active: int = 0
    waiting: int = 0
    finished: int = 0
    failed: int = 0
    killed: int = 0


class Sized(Struct, frozen=True, kw_only=True):
    """What past runs said about a job; ``mem`` is None while too little is known."""

    asked: Resources
    runs: int = 0
    mem: int | None = None
    outgrew: int | None = None


class OffPath(Struct, frozen=True, kw_only=True):
    """How a running job left the path of the runs before it: ``slower`` (seconds) or ``hungrier`` (MiB).

    ``usual`` is the 90th percentile of ``runs`` runs. With ``after_s``, ``value`` was held so many seconds after the
    start, and ``usual`` is of that time; else both are of whole runs.
    """

    kind: str
    at: datetime
    attempt: int
    value: float
    usual: float
    runs: int = 0
    after_s: float | None = None


class News(Struct, frozen=True, kw_only=True):
    """How it stands with telling ``on_end``: waiting, delivered or given-up. ``kind``: how the job left its path."""

    event: str
    kind: str | None = None
    state: str
    at: datetime | None = None
    done: datetime | None = None
    tries: int = 0
    error: str | None = None


class Moment(Struct, frozen=True, kw_only=True):
    """When something happens: before ``p50`` in half of all cases, before ``p90`` in nine of ten."""

    p50: datetime
    p90: datetime


class Foreseen(Struct, frozen=True, kw_only=True):
    """When a job starts and ends, as foreseen when its list was asked for."""

    start: Moment | None = None
    end: Moment | None = None


class Job(Struct, frozen=True, kw_only=True):
    """A job as the server shows it; docs/api.md explains the fields."""

    id: int
    state: State
    owner: str = ""
    command: str | tuple[str, ...] = ""
    held: bool = False
    application: str = "default"
    name: str = ""
    tags: tuple[str, ...] = ()
    priority: int = 0
    resources: Resources = Resources()
    environment: dict[str, str] = {}
    attributes: str = ""
    directory: str | None = None
    timeout_s: float | None = None
    kill_grace_s: float = 0.0
    max_retries: int = 0
    pipeline: str | None = None
    run: str | None = None
    resubmit_of: int | None = None
    submitted: datetime
    started: datetime | None = None
    ended: datetime | None = None
    reason: Reason | None = None
    message: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    losses: int = 0
    kill_requested: datetime | None = None
    why: str | None = None
    agent: str | None = None
    host: str | None = None
    gpus: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    usage: Usage | None = None
    attempts: tuple[Attempt, ...] = ()
    after: tuple[str, ...] = ()
    start_at: datetime | None = None
    group: str | None = None
    max_fails: int | None = None
    array: Array | None = None
    array_id: int | None = None
    array_index: int | None = None
    on_end: str | None = None
    sized: Sized | None = None
    off_path: tuple[OffPath, ...] = ()
    news: tuple[News, ...] | None = None
    eta: Foreseen | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in ("FINISHED", "FAILED", "KILLED")

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.state == "FINISHED"


class SubmitWarning(Struct, frozen=True, kw_only=True):
    """So many jobs, the first of which has this id, could never run on the agents known now; ``message`` says why."""

    first: int
    jobs: int
    message: str


class Submitted(Struct, frozen=True):
    """The answer to a submission. ``replayed``: the same key had been seen before, these are its jobs."""

    ids: tuple[int, ...]
    replayed: bool = False
    warnings: tuple[SubmitWarning, ...] = ()


class Window(Struct, frozen=True, kw_only=True):
    """A part of a list. ``as_of`` is the sequence number to ask events from, ``next`` the cursor of what follows."""

    jobs: tuple[Job, ...]
    total: int
    total_exact: bool = True
    next: str | None = None
    as_of: int = 0
    counts: dict[str, int] = {}


class Failing(Struct, frozen=True, kw_only=True):
    """How many agents fit a job, and how many fail on which resource."""

    total: int = 0
    fit: int = 0
    fail: dict[str, int] = {}


class AgentDetail(Struct, frozen=True, kw_only=True):
    """Why one agent does not take a job."""

    agent: str
    host: str = ""
    free: Resources = Resources()
    total: Resources = Resources()
    failing: tuple[str, ...] = ()


class Waited(Struct, frozen=True, kw_only=True):
    """What kept a job waiting for so many seconds; ``text`` says it in words."""

    cause: str
    seconds: float
    text: str
    resource: str | None = None


class Why(Struct, frozen=True, kw_only=True):
    """Why a job stands where it stands; ``waited``: what it waited for in all, the longest first."""

    id: int
    state: State
    summary: str
    ahead: int = 0
    ahead_ids: tuple[int, ...] = ()
    blocked_by: str | None = None
    agents: Failing = Failing()
    need: Resources = Resources()
    details: tuple[AgentDetail, ...] = ()
    waited_s: float = 0.0
    waited: tuple[Waited, ...] = ()
    unknown_s: float = 0.0


class Eta(Struct, frozen=True, kw_only=True):
    """When a job starts and ends; docs/api.md says what None means. ``note``: why there is no answer."""

    id: int
    state: State
    name: str = ""
    start: Moment | None = None
    end: Moment | None = None
    not_before: datetime | None = None
    source: str | None = None
    note: str | None = None
    as_of: datetime | None = None
    age_s: float | None = None


class Etas(Struct, frozen=True, kw_only=True):
    """Of many jobs; ``trouble``: why there is no newer forecast, if that failed."""

    etas: tuple[Eta, ...] = ()
    trouble: str | None = None


class Ahead(Struct, frozen=True, kw_only=True):
    """Jobs that start before, and what they ask for together."""

    jobs: int = 0
    resources: Resources = Resources()


class Plan(Struct, frozen=True, kw_only=True):
    """What would become of a job: ``could`` agents can take it, on host ``where`` it starts most likely.

    Of an array (``tasks`` is None for a job) ``start`` is the first task's and ``end`` the last one's; ``at_once``
    tasks run at the same time at most, on ``hosts`` agents. ``not_before`` and ``end_not_before`` are bounds where it
    is too far to see.
    """

    resources: Resources = Resources()
    tasks: int | None = None
    agents: Failing = Failing()
    could: int = 0
    where: str | None = None
    start: Moment | None = None
    end: Moment | None = None
    not_before: datetime | None = None
    end_not_before: datetime | None = None
    at_once: int | None = None
    hosts: int | None = None
    ahead: Ahead = Ahead()
    source: str = "guess"
    note: str | None = None


class Series(Struct, frozen=True, kw_only=True):
    """Usage over time: points of (cpus in use, resident MiB), ``interval_s`` apart."""

    interval_s: float = 0.0
    cpu_s: float = 0.0
    max_rss_mb: float = 0.0
    series: tuple[tuple[float, float], ...] = ()
    attempt: int = 1


class Result(Struct, frozen=True, kw_only=True):
    """What became of one job in a bulk request."""

    id: int
    ok: bool
    state: State | None = None
    new_id: int | None = None
    error: str | None = None


class Results(Struct, frozen=True, kw_only=True):
    """The answer to a bulk request."""

    results: tuple[Result, ...]
    ok: int
    failed: int


class FileEntry(Struct, frozen=True, kw_only=True):
    """An entry of a sandbox."""

    path: str
    name: str = ""
    type: Literal["file", "directory", "link", "other"] = "file"
    size: int = 0
    mtime: datetime | None = None
    mode: str = ""
    uid: str = ""
    gid: str = ""
    nlink: int = 1


class FileRange(Struct, frozen=True, kw_only=True):
    """Some bytes of a file: from ``offset``; ``size`` is the whole file's at that moment."""

    data: bytes
    offset: int
    size: int
    attempt: int


class Listing(Struct, frozen=True, kw_only=True):
    """A directory of a sandbox."""

    path: str
    attempt: int
    entries: tuple[FileEntry, ...]


class Application(Struct, frozen=True, kw_only=True):
    """An environment that jobs run in."""

    name: str
    owner: str = ""
    files: tuple[str, ...] = ()
    large_files: tuple[str, ...] = ()
    user: str | None = None
    grace_period_s: float | None = None
    container: Container = Container()
    enabled: bool = True
    predict: Literal["off", "auto"] = "off"
    predict_floor: int = 0
    updated: datetime | None = None


class Applications(Struct, frozen=True):
    """All applications of a user."""

    applications: tuple[Application, ...]


class GpuProcess(Struct, frozen=True, kw_only=True):
    """A process on a GPU that no job started; its name is for administrators."""

    pid: int
    name: str = ""
    mem_mb: int | None = None


class Gpu(Struct, frozen=True, kw_only=True):
    """A GPU; telemetry is None where there is none, and ``note`` says why. ``job`` is set only if it is yours.

    Attributes:
        idle_since: Since when its utilisation was 0 whenever somebody looked.
        strangers: Processes that are no job's.
    """

    uuid: str
    index: int = 0
    model: str = ""
    mem_mb: int | None = None
    mem_used_mb: int | None = None
    util: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    job: int | None = None
    held: bool = False
    note: str = ""
    idle_since: datetime | None = None
    strangers: tuple[GpuProcess, ...] = ()


class Measured(Struct, frozen=True, kw_only=True):
    """What the jobs of a machine really use: processors and resident MiB."""

    cpus: float = 0.0
    mem: float = 0.0


class Agent(Struct, frozen=True, kw_only=True):
    """A machine.

    Attributes:
        state: ``active``, ``unreachable``, ``draining`` or ``deactivated``; only the first takes new jobs.
        used: Held by jobs of all users.
        others: Held by others who share the cluster.
        offered: On offer to somebody at this moment; part of what is free.
    """

    id: str
    host: str = ""
    state: str = "active"
    total: Resources = Resources()
    used: Resources = Resources()
    others: Resources = Resources()
    free: Resources = Resources()
    offered: Resources = Resources()
    attributes: dict[str, AttributeValue] = {}
    gpus: tuple[Gpu, ...] = ()
    jobs: int = 0
    measured: Measured | None = None


class AgentSum(Struct, frozen=True, kw_only=True):
    """Of many machines: amounts, the largest single amounts, how many are in each state."""

    total: Resources = Resources()
    used: Resources = Resources()
    others: Resources = Resources()
    offered: Resources = Resources()
    largest: Resources = Resources()
    states: dict[str, int] = {}


class Agents(Struct, frozen=True):
    """All machines, or a window of them; ``total`` and ``sum`` are of all that match."""

    agents: tuple[Agent, ...]
    total: int = 0
    sum: AgentSum = AgentSum()


class WhoAmI(Struct, frozen=True, kw_only=True):
    """The user who asks."""

    key: str
    admin: bool = False
    info: str = ""


class Limits(Struct, frozen=True, kw_only=True):
    """What is refused beyond."""

    largest_agent: Resources = Resources()
    max_jobs_per_request: int = 0
    max_command_bytes: int = 0


class Status(Struct, frozen=True, kw_only=True):
    """The queue at a glance."""

    version: str
    engine: str
    mode: Literal["open", "paused", "draining"]
    queued: int = 0
    held: int = 0
    starting: int = 0
    started: int = 0
    agents: int = 0
    total: Resources = Resources()
    used: Resources = Resources()
    seq: int = 0
    started_at: datetime | None = None
    planner: str = ""
    read_only: str | None = None
    engine_failure: str | None = None
    estimator_failure: str | None = None
    planner_failure: str | None = None
    user: WhoAmI = WhoAmI(key="")
    host: str = ""
    same_host_token: str = ""
    local: bool = False
    limits: Limits = Limits()


class User(Struct, frozen=True, kw_only=True):
    """A user. ``secret`` only in the answer to the request that made it; ``repr`` leaves it out."""

    key: str
    enabled: bool = True
    admin: bool = False
    info: str = ""
    unix_user: str | None = None
    created: datetime | None = None
    secret: str | None = None

    def __repr__(self) -> str:
        return f"User(key={self.key!r}, enabled={self.enabled}, admin={self.admin}, info={self.info!r})"


class Users(Struct, frozen=True):
    """All users, or those just made."""

    users: tuple[User, ...]


class UsageRow(Struct, frozen=True, kw_only=True):
    """What one user's jobs of one application held and used, in hours; docs/api.md explains the fields."""

    user: str
    info: str = ""
    application: str = "default"
    finished: int = 0
    failed: int = 0
    killed: int = 0
    running: int = 0
    cpu_hours: float = 0.0
    cpu_hours_used: float = 0.0
    gpu_hours: float = 0.0
    gpu_hours_used: float | None = None
    mem_gib_hours: float = 0.0
    mem_gib_hours_used: float = 0.0


class UsageReport(Struct, frozen=True):
    """Who used what in a time."""

    since: datetime
    until: datetime
    rows: tuple[UsageRow, ...]


class AuditRecord(Struct, frozen=True, kw_only=True):
    """One thing that an administrator did."""

    id: str
    at: datetime
    who: str
    what: str
    whom: tuple[str, ...] = ()
    detail: str = ""
    origin: str = ""


class AuditRecords(Struct, frozen=True):
    """What administrators did, oldest first."""

    records: tuple[AuditRecord, ...]


class Cleared(Struct, frozen=True):
    """Jobs whose sandboxes are being removed, and records that were forgotten."""

    sandboxes: int = 0
    records: int = 0


class QueueMode(Struct, frozen=True):
    """The queue's mode, and how many jobs run."""

    mode: Literal["open", "paused", "draining"]
    running: int = 0


Amounts = dict[str, float]
"""By resource: ``memory`` (MB), ``vcores``, perhaps ``gpus``."""


class Pipeline(Struct, frozen=True, kw_only=True):
    """A pipeline that has a history of runs."""

    name: str
    runs: int = 0
    predicted: bool = False


class Pipelines(Struct, frozen=True):
    """All pipelines of a user."""

    pipelines: tuple[Pipeline, ...]


class Skyline(Struct, frozen=True, kw_only=True):
    """Resources over time: second from the run's start -> amounts from then on; the last is zero."""

    steps: dict[int, Amounts] = field(name="resourceAllocation")


class Skylines(Struct, frozen=True, kw_only=True):
    """What a run reserved and what it used; ``used`` is None where nobody measured."""

    allocated: Skyline
    used: Skyline | None = None


class Run(Struct, frozen=True, kw_only=True):
    """A run of a pipeline with its peaks; ``used`` is None where nobody measured, ``skylines`` where nobody asked."""

    run: str
    start: datetime
    duration_s: float = 0.0
    allocated: Amounts = {}
    used: Amounts | None = None
    skylines: Skylines | None = None


class History(Struct, frozen=True, kw_only=True):
    """The runs of a pipeline, oldest first."""

    name: str
    runs: tuple[Run, ...]


class Confidence(Struct, frozen=True, kw_only=True):
    """How far a prediction can be trusted; ``over``, ``under``, ``needed``, ``fixed`` are resource-seconds of a run."""

    runs: int
    lower: Skyline
    upper: Skyline
    over: Amounts = {}
    under: Amounts = {}
    needed: Amounts = {}
    fixed: Amounts = {}
    left_out_error: Amounts | None = None
    left_out_runs: int = 0


class Prediction(Struct, frozen=True, kw_only=True):
    """What the next run of a pipeline will need. ``gap``: certified relative distance from the optimum."""

    pipeline: str
    solver: str
    kind: Literal["allocated", "used"]
    settings: dict[str, str | float]
    runs: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    objective: float | None = None
    gap: float | None = None
    skyline: Skyline
    confidence: Confidence | None = None


class Ask(Struct, frozen=True, kw_only=True):
    """Memory in MiB, and processors."""

    mem: int
    cpus: float


class PastRun(Struct, frozen=True, kw_only=True):
    """A past run of a step; ``limit_mb``: what those before it foretold, None if they were too few."""

    run: str
    job: int
    ended: datetime
    duration_s: float = 0.0
    jobs: int = 1
    outcome: str = "finished"
    asked_mb: float = 0.0
    given_mb: float = 0.0
    peak_mb: float | None = None
    limit_mb: float | None = None


class StepSize(Struct, frozen=True, kw_only=True):
    """What a step of a pipeline asks for, and what ``predicted`` would give; docs/api.md explains the fields."""

    step: str
    asked: Ask
    given: Ask | None = None
    measured: int = 0
    needed: int = 0
    expected_mb: float = 0.0
    spread: float = 0.0
    growth: float = 0.0
    stage: int = 0
    outliers: int = 0
    busy_cpus: float | None = None
    duration_s: float | None = None
    past: tuple[PastRun, ...] = ()
    covered: int = 0
    period: int = 0


class Sizes(Struct, frozen=True):
    """The steps of a pipeline."""

    pipeline: str
    steps: tuple[StepSize, ...]


class Point(Struct, frozen=True, kw_only=True):
    """Numbers of one step of time."""

    time: datetime
    queued: float = 0
    running: float = 0
    started: float = 0
    ended: float = 0
    failed: float = 0
    wait_p50_s: float | None = None
    wait_p90_s: float | None = None
    total: Resources = Resources()
    used: Resources = Resources()
    by_user: dict[str, Resources] = {}


class Aggregates(Struct, frozen=True):
    """Numbers over time."""

    step_s: float
    points: tuple[Point, ...]


class Event(Struct, frozen=True, kw_only=True):
    """A change. After ``reset`` load what you show again, then go on: some changes are no longer to be had.

    Attributes:
        seq: Its journal sequence number; events resume from there.
        job: The job as it is now, for ``job``.
        data: What any other kind brings, as decoded JSON.
    """

    kind: str
    seq: int | None = None
    job: Job | None = None
    data: object = None
