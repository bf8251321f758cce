"""How much? What the jobs of a pipeline ask for, and what their past says they need."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from ..learning.past import Outcome
from ..learning.report import Replayed, StepReport
from .api import Call
from .pipelines import name_of, owner_of, unknown
from .responses import json_of
from .views import Time, time_of


class AskView(Struct):
    """Memory in MiB, and processors."""

    mem: int
    cpus: float


class PastRunView(Struct):
    """A past run of a step. ``limit_mb``: what the runs before it foretold; null if they were too few."""

    run: str
    job: int
    ended: Time
    duration_s: float
    jobs: int
    outcome: Outcome
    asked_mb: float
    given_mb: float
    peak_mb: float | None
    limit_mb: float | None


class StepSizeView(Struct, omit_defaults=True):
    """A step of a pipeline: what its last run asked for, and what the next would get with ``predicted``.

    ``measured`` runs of ``needed``; ``given`` is null while they are too few. ``expected_mb``: the peak foretold;
    ``spread``: how far peaks are from what was foretold, 0.05 is 5 %; ``growth`` per run; ``stage``: of how many runs
    the level is; ``outliers``: runs far above it that are not covered; ``busy_cpus``: most that a run kept busy.
    Only where there is something to tell: ``covered``: runs far above it that come so often that they are covered;
    ``period``: peaks recur every so many runs.
    """

    step: str
    asked: AskView
    given: AskView | None
    measured: int
    needed: int
    expected_mb: float
    spread: float
    growth: float
    stage: int
    outliers: int
    busy_cpus: float | None
    duration_s: float | None
    past: list[PastRunView]
    covered: int = 0
    period: int = 0


class SizesView(Struct):
    """The steps of a pipeline, in the order in which they became known."""

    pipeline: str
    steps: list[StepSizeView]


async def get_sizes(call: Call) -> web.StreamResponse:
    """``GET /pipelines/{name}/sizes``."""
    name, owner = name_of(call), owner_of(call, call.params("user"))
    await call.core.settled()
    reports = await call.core.learner.reports(owner, name)
    if not reports:
        raise unknown(name)
    needed = call.core.config.estimator_min_runs
    return json_of(SizesView(name, [_step(report, needed) for report in reports]))


def _step(report: StepReport, needed: int) -> StepSizeView:
    given, cpus, memory = report.given_mb, report.given_cpus, report.size.memory
    return StepSizeView(
        step=report.step,
        asked=AskView(report.asked_mb, report.asked_cpus),
        given=None if given is None or cpus is None else AskView(given, cpus),
        measured=report.size.runs,
        needed=needed,
        expected_mb=round(memory.expected, 1),
        spread=round(memory.spread, 4),
        growth=round(memory.growth, 4),
        stage=memory.stage,
        outliers=memory.outliers,
        busy_cpus=None if report.size.busy is None else round(report.size.busy, 2),
        duration_s=report.duration_s,
        past=[_past(each) for each in report.replayed],
        covered=memory.covered,
        period=memory.period,
    )


def _past(replayed: Replayed) -> PastRunView:
    run, limit = replayed
    return PastRunView(
        run=run.run, job=run.job, ended=time_of(run.ended), duration_s=run.duration_s, jobs=run.jobs,
        outcome=run.outcome, asked_mb=run.asked_mb, given_mb=run.given_mb, peak_mb=run.peak_mb,
        limit_mb=None if limit is None else round(limit, 1),
    )  # fmt: skip
