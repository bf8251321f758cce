"""Logs made up from a seed, with the truth about them: for tests, benchmarks and the demo."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Literal, NamedTuple

import numpy as np

from .model import RecurrenceId, ResourceSkyline
from .skyline import FIRST, Amounts, IntArray, Skyline
from .translator.base import Finished
from .translator.native import CONTAINER

Layout = Literal["hadoop", "log4j"]

EPOCH = 1_498_061_413
"""When the logs begin: 2017-06-21 16:10:13 UTC."""

_MASTER = {"memory": 1800.0, "vcores": 1.0}
_WORKER = {"memory": 4096.0, "vcores": 2.0}
_STATES = ("NEW to ALLOCATED", "ALLOCATED to ACQUIRED", "ACQUIRED to RUNNING", "RUNNING to COMPLETED")
_STAGES = ((1, 10), (1074, 60), (2538, 90), (2468, 70), (64, 25))
"""(containers, seconds) of the stages of :func:`tpch_q12`: start, scan, join, aggregation, writing."""


class Line(NamedTuple):
    """A line of a log, without its end, and the job that it completes, as the translator should find it."""

    text: str
    finishes: Finished | None


def native_log(
    lines: int, *, pipelines: int = 3, units: int = 5, interval: int = 5, most: int = 3000, seed: int = 0
) -> Iterator[Line]:
    """A log in the native format: ``lines`` runs of so many pipelines in turn.

    Args:
        units: Intervals of a run, each with 0 to ``most`` containers.
    """
    rng = np.random.default_rng(seed)
    for number in range(lines):
        run = RecurrenceId(f"pipeline_{number % pipelines}", f"run_{number // pipelines}")
        counts = rng.integers(0, most, units, endpoint=True)
        text = native_line(run, counts.tolist(), interval)
        amounts = counts[:, None] * np.array([CONTAINER[name] for name in FIRST])
        skyline = Skyline.sampled(amounts, interval)
        yield Line(text, (run, ResourceSkyline(run.run, skyline, 0, units * interval, CONTAINER)))


def native_line(run: RecurrenceId, counts: list[int], interval: int = 5) -> str:
    """The native line of a run that held ``counts[k]`` containers in interval ``k``."""
    start = EPOCH * 1000
    times = f"{start} {start + 10_345} {start + 10_345 + 1000 * interval * len(counts)}"
    memory = "".join(f"{8192 * amount}:{index * interval}|" for index, amount in enumerate(counts))
    units = "".join(f"{amount}:{index * interval}|" for index, amount in enumerate(counts))
    return f"{run.pipeline} {max(counts, default=0)} {times} {run.run} {memory} {units}"


def tpch_q12() -> list[str]:
    """Nine runs of a recurring query in the native format, always the same ones.

    It starts small, scans, joins, aggregates and, most times, writes what it found: some 250 s, up to 2.6 TB, the
    durations within 10 per cent.
    """
    chance = random.Random(12)  # the same numbers in every Python, which numpy does not promise of its own
    return [native_line(RecurrenceId("tpch_q12", f"tpch_q12_{run}"), _query(run, chance)) for run in range(9)]


def _query(run: int, chance: random.Random, interval: int = 5) -> list[int]:
    pace = chance.uniform(0.9, 1.1)
    counts: list[int] = []
    for containers, seconds in _STAGES[: 4 if run % 4 == 3 else 5]:
        size = 1 if containers == 1 else round(containers * chance.uniform(0.92, 1.02))
        counts += [size] * max(1, round(seconds * pace / interval))
    return counts


def resource_manager_log(
    applications: int,
    *,
    pipelines: int = 3,
    containers: int = 10,
    mixed: bool = False,
    layout: Layout = "hadoop",
    seed: int = 0,
) -> Iterator[Line]:
    """The ResourceManager's log of applications that overlap in time; four lines of five are of no interest.

    Args:
        containers: Of each application, beside the application master.
        mixed: Whether the other containers are larger than the master, which the log tells only then.
    """
    rng = np.random.default_rng(seed)
    waiting: list[tuple[int, int, str, Finished | None]] = []
    order = count()
    for number in range(applications):
        submitted = EPOCH + 30 * number
        while waiting and waiting[0][0] < submitted:
            yield _written(*heapq.heappop(waiting), layout)
        for time, message, finishes in _application(number, submitted, pipelines, containers, mixed, rng):
            heapq.heappush(waiting, (time, next(order), message, finishes))
    while waiting:
        yield _written(*heapq.heappop(waiting), layout)


def _written(time: int, number: int, message: str, finishes: Finished | None, layout: Layout) -> Line:
    moment = datetime.fromtimestamp(time, UTC)
    if layout == "log4j":
        return Line(f"{moment:%Y-%m-%d %H:%M:%S},{number % 1000:03} INFO {message}", finishes)
    head = f"{250_000 + number}:e,{moment:%m/%d/%Y %H:%M:%S},yarn resourcemanager,DefaultTag"
    process = 'Pid="5156" Tid="39272" TS="0x01D2EAA8DD060D14"'
    return Line(f'{head},{process} String1="{moment:%y/%m/%d %H:%M:%S} INFO {message}"', finishes)


def _application(
    number: int, submitted: int, pipelines: int, containers: int, mixed: bool, rng: np.random.Generator
) -> Iterator[tuple[int, str, Finished | None]]:
    """The messages of one application, those of one time in their order."""
    numbers = f"1497832133857_{number + 1:04}"
    app, pipeline = f"application_{numbers}", f"Pipeline{number % pipelines}"
    run = RecurrenceId(pipeline, f"2017-06-{number // pipelines + 1}")
    starts = submitted + 1 + np.append(0, rng.integers(1, 60, containers))
    ends = starts + rng.integers(1, 300, containers + 1)
    finished = int(ends.max())
    ends[0] = finished
    sizes = [_MASTER, *[_WORKER if mixed else _MASTER] * containers]
    audit = "resourcemanager.RMAuditLogger: USER=hadoop  OPERATION="
    told = f"TARGET=ClientRMService  RESULT=SUCCESS  APPID={app}  CALLERCONTEXT=CLI"
    yield submitted, f"{audit}Submit Application Request  {told}", None
    yield submitted, f"rmapp.RMAppImpl: {app} State change from NEW to NEW_SAVING", None
    for index, (start, end, size) in enumerate(zip(starts.tolist(), ends.tolist(), sizes, strict=True)):
        container = f"container_e26_{numbers}_01_{index + 1:06}"
        told = f"TARGET=SchedulerApp RESULT=SUCCESS  APPID={app}  CONTAINERID={container}"
        shown = f"<memory:{size['memory']:.0f}, vCores:{size['vcores']:.0f}>"
        resource = f"  RESOURCE={shown}" if mixed and index else ""
        yield start, f"{audit}AM Allocated Container  {told}{resource}", None
        if index == 0:
            yield start, _stored(app, numbers, container, shown), None
        for state in _STATES:
            where = end if "COMPLETED" in state else start
            yield where, f"rmcontainer.RMContainerImpl: {container} Container Transitioned from {state}", None
            yield where, f"scheduler.SchedulerNode: {container} on host node-{index % 40}:8041 has capacity", None
        yield end, f"{audit}AM Released Container  {told}", None
    skyline = _held(starts - submitted, ends - submitted, sizes)
    unit: Amounts = _MASTER if not mixed else {"memory": 8.0, "vcores": 1.0}  # 1800 and 4096 are multiples of 8
    job = ResourceSkyline(app, skyline, submitted * 1000, finished * 1000, unit)
    summary = f"appId={app},name={run.pipeline}-{run.run},user=hadoop, queue=PROD,state=FINISHED"
    yield finished, f"resourcemanager.RMAppManager$ApplicationSummary: {summary}", (run, job)


def _stored(app: str, numbers: str, container: str, size: str) -> str:
    ids = f"AppId: {app} AttemptId: appattempt_{numbers}_000001 MasterContainer: Container: [ContainerId: {container}"
    return f"attempt.RMAppAttemptImpl: Storing attempt: {ids}, NodeId: node-0:10131, Resource: {size}, Priority: 0]"


def _held(starts: IntArray, ends: IntArray, sizes: list[dict[str, float]]) -> Skyline:
    """Second by second, so that it shares no code with what it is compared with."""
    dense = np.zeros((int(ends.max()), len(FIRST)))
    for start, end, size in zip(starts, ends, sizes, strict=True):
        dense[start:end] += [size[name] for name in FIRST]
    return Skyline.sampled(dense, 1)
