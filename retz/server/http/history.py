"""The queue's history by the minute, as the aggregates remember it."""

from __future__ import annotations

import asyncio
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from retz.store.aggregates import AggregatePoint

from .api import Call
from .params import refuse
from .responses import json_of
from .views import ResourcesView, Time, resources_of, time_of

MINUTE_S = 60
DAY_S = 86_400.0
MAX_POINTS = 10_000


class PointView(Struct):
    """One step. ``by_user`` is what each user held: yourself, for an administrator everybody."""

    time: Time
    queued: float
    running: float
    started: int
    ended: int
    failed: int
    wait_p50_s: float | None
    wait_p90_s: float | None
    total: ResourcesView
    used: ResourcesView
    by_user: dict[str, ResourcesView]


class History(Struct):
    """The steps that have passed, oldest first."""

    step_s: Annotated[float, Meta(gt=0)]
    points: list[PointView]


async def aggregates(call: Call) -> web.StreamResponse:
    """``GET /aggregates``."""
    params = call.params("since", "until", "step_s")
    until = params.time("until")
    until = call.core.clock() if until is None else until
    since = params.time("since")
    since = until - DAY_S if since is None else since
    step_s = params.integer("step_s", MINUTE_S, MINUTE_S, 86_400)
    if since > until:
        refuse("since", "is later than until")
    if (until - since) / step_s > MAX_POINTS:
        refuse("step_s", f"would make more than {MAX_POINTS} points: choose a longer step or a shorter time")
    points = await asyncio.to_thread(call.core.aggregates.read, since, until, step_s)
    return json_of(History(step_s, [_view(call, point) for point in points]))


def _view(call: Call, point: AggregatePoint) -> PointView:
    mine = {key: amount for key, amount in point.by_user.items() if call.user.admin or key == call.user.key}
    return PointView(
        time_of(point.time),
        point.queued,
        point.running,
        point.started,
        point.ended,
        point.failed,
        point.wait_p50_s,
        point.wait_p90_s,
        resources_of(point.total),
        resources_of(point.used),
        {key: resources_of(amount) for key, amount in mine.items()},
    )
