"""What the API shows of records: one Struct per JSON object, which the OpenAPI document describes too."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Literal

from msgspec import Meta, Struct

from retz.engine.base import FileEntry
from retz.model.agent import Agent, AgentState, Gpu
from retz.model.application import Application, Container
from retz.model.array import Array
from retz.model.job import Attempt, Job, OffPath, OffPathKind, Reason, Sized, State, Usage
from retz.model.notice import EventKind, Notice, NoticeState
from retz.model.resources import Resources

from ..notify.targets import receiver_of

MASK = "<masked>"
LAST_TIME = 253402300799.0
"""The end of the year 9999: what is foreseen later has no date."""
_SECRET = re.compile("secret|password|token|key", re.IGNORECASE)

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class ResourcesView(Struct, gc=False):
    """An amount of each resource; ``mem`` and ``disk`` in MiB."""

    cpus: float
    mem: int
    disk: int
    gpus: int
    ports: int


class UsageView(Struct, gc=False):
    """What an attempt really used. GPU figures are null without telemetry."""

    cpu_s: float
    max_rss_mb: float
    gpu_util: float | None
    gpu_mem_mb: float | None


class AttemptView(Struct, gc=False):
    """One try at running a job. ``host``: the agent's name for people."""

    number: int
    task: str
    agent: str
    host: str
    launched: Time
    started: Time | None
    ended: Time | None
    exit_code: int | None
    signal: int | None
    reason: Reason | None
    message: str | None
    gpus: tuple[str, ...]
    ports: tuple[int, ...]
    usage: UsageView | None


class ArrayView(Struct, gc=False):
    """How far an array is. ``killed`` counts those that will never start, too; ``limit`` is null without one."""

    text: str
    size: int
    limit: int | None
    active: int
    waiting: int
    finished: int
    failed: int
    killed: int


class SizedView(Struct, gc=False):
    """What past runs said about a job that asks for that. ``mem`` is null while too little is known.

    ``outgrew`` is the number of the attempt that needed more than ``mem``: the next got ``resources``.
    """

    asked: ResourcesView
    runs: int
    mem: int | None
    outgrew: int | None


class OffPathView(Struct, gc=False):
    """How a running job left the path of the runs before it: seconds or MiB, and the 90th percentile of those.

    ``after_s``: of the memory that is held so many seconds after the start; null: of whole runs.
    """

    kind: OffPathKind
    at: Time
    attempt: int
    value: float
    usual: float
    runs: int
    after_s: float | None


class NewsView(Struct, gc=False):
    """How it stands with telling somebody outside. ``error``: what was wrong with the last call.

    ``kind``: how the job left its path, of news of that.
    """

    event: EventKind
    state: NoticeState
    at: Time
    done: Time | None
    tries: int
    error: str | None
    kind: OffPathKind | None


class MomentView(Struct, frozen=True, gc=False):
    """When something happens: before ``p50`` in half of all cases, before ``p90`` in nine of ten."""

    p50: Time
    p90: Time


class ForeseenView(Struct, frozen=True, gc=False):
    """When a job starts and ends; null what has been or is not known."""

    start: MomentView | None
    end: MomentView | None


class JobView(Struct, gc=False):
    """A job. ``agent``, ``host``, ``gpus``, ``ports``, ``usage`` and ``started`` are those of the latest attempt.

    ``on_end`` is masked; ``news``, what was told to it, is null in lists and events.
    """

    id: int
    state: State
    held: bool
    owner: str
    application: str
    name: str
    command: str | tuple[str, ...]
    tags: tuple[str, ...]
    priority: int
    resources: ResourcesView
    environment: dict[str, str]
    attributes: str
    directory: str | None
    timeout_s: float | None
    kill_grace_s: float
    max_retries: int
    pipeline: str | None
    run: str | None
    resubmit_of: int | None
    submitted: Time
    started: Time | None
    ended: Time | None
    reason: Reason | None
    message: str | None
    exit_code: int | None
    signal: int | None
    losses: int
    kill_requested: Time | None
    why: str | None
    agent: str | None
    host: str | None
    gpus: tuple[str, ...]
    ports: tuple[int, ...]
    usage: UsageView | None
    attempts: list[AttemptView]
    after: list[str]
    start_at: Time | None
    group: str | None
    max_fails: int | None
    array: ArrayView | None
    array_id: int | None
    array_index: int | None
    on_end: str | None
    sized: SizedView | None
    off_path: list[OffPathView]
    news: list[NewsView] | None
    eta: ForeseenView | None


def time_of(seconds: float) -> str:
    """ISO-8601 UTC with milliseconds: ``2026-11-20T06:27:17.123Z``; not beyond :data:`LAST_TIME`."""
    return datetime.fromtimestamp(min(seconds, LAST_TIME), UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _optional(seconds: float | None) -> str | None:
    return None if seconds is None else time_of(seconds)


def resources_of(resources: Resources) -> ResourcesView:
    """The view of an amount."""
    return ResourcesView(resources.cpus, resources.mem, resources.disk, resources.gpus, resources.ports)


@lru_cache(maxsize=4096)
def secret_name(name: str) -> bool:
    """Whether a variable of this name probably holds a secret."""
    return _SECRET.search(name) is not None


def masked(environment: dict[str, str]) -> dict[str, str]:
    """The environment as it may be shown."""
    return {name: MASK if secret_name(name) else value for name, value in environment.items()}


def usage_of(usage: Usage | None) -> UsageView | None:
    """The view of a usage, without its series."""
    if usage is None:
        return None
    return UsageView(usage.cpu_s, usage.max_rss_mb, usage.gpu_util, usage.gpu_mem_mb)


def _attempt(job_id: int, a: Attempt) -> AttemptView:
    return AttemptView(
        a.number,
        f"{job_id}.{a.number}",
        a.agent,
        a.host or a.agent,
        time_of(a.launched),
        _optional(a.started),
        _optional(a.ended),
        a.exit_code,
        a.signal,
        a.reason,
        a.message,
        a.gpus,
        a.ports,
        usage_of(a.usage),
    )


def job_of(
    job: Job, why: str | None = None, news: Sequence[Notice] | None = None, eta: ForeseenView | None = None
) -> JobView:
    """The view of a job.

    Args:
        why: One line, for queued jobs.
        news: How it stands with what others are told of it.
        eta: When it starts and ends, if that is foreseen already.
    """
    attempts = [_attempt(job.id, attempt) for attempt in job.attempts]
    last = attempts[-1] if attempts else None
    return JobView(
        id=job.id,
        state=job.shown_state,
        held=job.held,
        owner=job.owner,
        application=job.application,
        name=job.name,
        command=job.command,
        tags=job.tags,
        priority=job.priority,
        resources=resources_of(job.resources),
        environment=masked(job.environment) if job.environment else job.environment,
        attributes=job.attributes,
        directory=job.directory,
        timeout_s=job.timeout_s,
        kill_grace_s=job.kill_grace_s,
        max_retries=job.max_retries,
        pipeline=job.pipeline,
        run=job.run,
        resubmit_of=job.resubmit_of,
        submitted=time_of(job.submitted),
        started=last.started if last else None,
        ended=_optional(job.ended),
        reason=job.reason,
        message=job.message,
        exit_code=job.exit_code,
        signal=job.signal,
        losses=job.losses,
        kill_requested=_optional(job.kill_requested),
        why=why,
        agent=last.agent if last else None,
        host=last.host if last else None,
        gpus=last.gpus if last else (),
        ports=last.ports if last else (),
        usage=last.usage if last else None,
        attempts=attempts,
        after=[*map(str, job.after), *(f"{awaited}:any" for awaited in job.after_any)],
        start_at=_optional(job.start_at),
        group=job.group or None,
        max_fails=job.max_fails or None,
        array=array_view_of(job.array) if job.array is not None else None,
        array_id=job.array_id,
        array_index=job.array_index,
        on_end=None if job.on_end is None else f"{receiver_of(job.on_end)}/{MASK}",
        sized=None if job.sized is None else _sized(job.sized),
        off_path=[_off_path(how) for how in job.off_path],
        news=None if news is None else [_news(notice) for notice in news],
        eta=eta,
    )


def _sized(sized: Sized) -> SizedView:
    return SizedView(resources_of(sized.asked), sized.runs, sized.mem, sized.outgrew)


def _off_path(how: OffPath) -> OffPathView:
    return OffPathView(how.kind, time_of(how.at), how.attempt, how.value, how.usual, how.runs, how.after_s)


def _news(notice: Notice) -> NewsView:
    at, done = time_of(notice.at), _optional(notice.done)
    return NewsView(notice.event, notice.state, at, done, notice.tries, notice.error, notice.kind)


def array_view_of(array: Array) -> ArrayView:
    """The view of an array."""
    return ArrayView(
        text=array.text,
        size=array.size,
        limit=array.limit or None,
        active=array.active,
        waiting=array.waiting,
        finished=array.finished,
        failed=array.failed,
        killed=array.killed + array.dropped,
    )


class GpuProcessView(Struct):
    """A process on a GPU that no job started; its name is for administrators."""

    pid: int
    name: str
    mem_mb: int | None


class GpuView(Struct):
    """One GPU with its telemetry, null where there is none, ``note`` saying why. ``job`` only if it is yours."""

    uuid: str
    index: int
    model: str
    mem_mb: int | None
    mem_used_mb: int | None
    util: float | None
    temperature_c: float | None
    power_w: float | None
    job: int | None
    held: bool
    note: str
    idle_since: Time | None
    strangers: list[GpuProcessView]


class MeasuredView(Struct):
    """What the jobs of an agent really use: processors and resident MiB."""

    cpus: float
    mem: float


class AgentView(Struct):
    """A machine. ``used`` is what all users' jobs hold, ``others`` what is held by others who share the cluster.

    ``offered`` is on offer to somebody at this moment; it is free. ``measured`` where it was asked for and something
    is known.
    """

    id: str
    host: str
    state: AgentState
    total: ResourcesView
    used: ResourcesView
    others: ResourcesView
    free: ResourcesView
    offered: ResourcesView
    attributes: dict[str, str | float | bool]
    gpus: list[GpuView]
    jobs: int
    measured: MeasuredView | None = None


def _gpu(gpu: Gpu, holders: dict[str, int], visible: Callable[[int], bool], names: bool) -> GpuView:
    holder = holders.get(gpu.uuid)
    return GpuView(
        gpu.uuid,
        gpu.index,
        gpu.model,
        gpu.mem_mb,
        gpu.mem_used_mb,
        gpu.util,
        gpu.temperature_c,
        gpu.power_w,
        holder if holder is not None and visible(holder) else None,
        holder is not None,
        gpu.note,
        _optional(gpu.idle_since),
        [GpuProcessView(p.pid, p.name if names else "", p.mem_mb) for p in gpu.strangers],
    )


def agent_of(
    agent: Agent,
    used: Resources,
    free: Resources,
    jobs: int,
    holders: dict[str, int],
    visible: Callable[[int], bool],
    names: bool,
) -> AgentView:
    """The view of an agent.

    Args:
        jobs: How many jobs run on it.
        holders: GPU's UUID -> job.
        visible: Whether the reader may see a job.
        names: Whether the reader may see what strangers run.
    """
    gpus = [_gpu(gpu, holders, visible, names) for gpu in agent.gpus]
    return AgentView(
        agent.id,
        agent.host,
        agent.state,
        resources_of(agent.total),
        resources_of(used),
        resources_of(agent.others),
        resources_of(free),
        resources_of(agent.offered),
        agent.attributes,
        gpus,
        jobs,
    )


class VolumeView(Struct):
    """A container volume."""

    driver: str
    name: str
    container_path: str
    mode: Literal["RO", "RW"]
    options: dict[str, str]


class ContainerView(Struct):
    """How jobs are contained."""

    type: Literal["none", "docker"]
    image: str | None
    volumes: list[VolumeView]


class ApplicationView(Struct):
    """A named environment of jobs."""

    name: str
    owner: str
    files: tuple[str, ...]
    large_files: tuple[str, ...]
    user: str | None
    grace_period_s: float | None
    container: ContainerView
    enabled: bool
    predict: Literal["off", "auto"]
    predict_floor: int
    updated: Time


def _container(container: Container) -> ContainerView:
    volumes = [VolumeView(v.driver, v.name, v.container_path, v.mode, masked(v.options)) for v in container.volumes]
    return ContainerView(container.type, container.image, volumes)


def application_of(application: Application) -> ApplicationView:
    """The view of an application."""
    return ApplicationView(
        application.name,
        application.owner,
        application.files,
        application.large_files,
        application.user,
        application.grace_period_s,
        _container(application.container),
        application.enabled,
        application.predict,
        application.predict_floor,
        time_of(application.updated),
    )


class FileView(Struct):
    """One entry of a sandbox directory."""

    path: str
    name: str
    type: Literal["file", "directory", "link", "other"]
    size: int
    mtime: Time
    mode: str
    uid: str
    gid: str
    nlink: int


def file_of(entry: FileEntry) -> FileView:
    """The view of a file. Names that are not UTF-8 are shown with replacement characters."""
    path = entry.path.encode("utf-8", "replace").decode()
    name = path.rpartition("/")[2]
    # Anybody may give a file a time beyond what a calendar holds.
    mtime = time_of(max(0.0, entry.mtime))
    return FileView(path, name, entry.type, entry.size, mtime, entry.mode, entry.uid, entry.gid, entry.nlink)
