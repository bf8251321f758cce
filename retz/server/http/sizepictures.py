"""How much, as a picture: what jobs of a pipeline ask for, what its runs used, what the next should get."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ..learning.report import StepReport
from ..problem import Problem
from .api import Call
from .pipelines import HEIGHTS, WIDTHS, name_of, operate, owner_of, unknown
from .responses import text


def size_picture(format: str) -> Callable[[Call], Awaitable[web.StreamResponse]]:
    """The handler of ``GET /pipelines/{name}/sizes.png`` and its like."""

    async def handle(call: Call) -> web.StreamResponse:
        name, owner = name_of(call), owner_of(call, call.params("user"))
        drawn = await operate(call, owner, "size_plot", pipeline=name, format=format, **await _shown(call, owner, name))
        return text(drawn.body, drawn.media)

    return handle


async def size_text(call: Call) -> web.StreamResponse:
    """``GET /pipelines/{name}/sizes.txt``."""
    params = call.params("user", "width", "height", "colour")
    name, owner = name_of(call), owner_of(call, params)
    drawn = await operate(
        call,
        owner,
        "size_text",
        pipeline=name,
        width=params.integer("width", 100, *WIDTHS),
        height=params.integer("height", 28, *HEIGHTS),
        colour=params.flag("colour") or False,
        **await _shown(call, owner, name),
    )
    return text(drawn.body, "text/plain; charset=utf-8")


async def _shown(call: Call, owner: str, name: str) -> dict[str, Any]:
    """What the estimator is told of the steps.

    Raises:
        Problem: nothing is known of the pipeline, or too little.
    """
    await call.core.settled()
    reports = await call.core.learner.reports(owner, name)
    if not reports:
        raise unknown(name)
    steps = [_step(report, report.given_mb) for report in reports if report.given_mb is not None]
    if not steps:
        measured, needed = max(report.size.runs for report in reports), call.core.config.estimator_min_runs
        raise Problem(
            "unprocessable",
            f"pipeline {name!r} has {measured} measured run{'s' * (measured != 1)} so far; {needed} are needed: "
            f"run it again with --pipeline {name}",
        )
    one_job = len(reports) == 1 and all(each.run.jobs == 1 for each in reports[0].replayed)
    return {"steps": steps, "one_job": one_job}


def _step(report: StepReport, given: int) -> tuple[object, ...]:
    past = [(each.run.asked_mb, each.run.given_mb, each.run.peak_mb, each.limit_mb) for each in report.replayed]
    return report.step, report.asked_mb, given, past
