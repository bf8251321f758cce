"""Who used what in a time."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from retz.store.usage import Sums, UsageSum

from ..usage import usage_between
from .api import Call
from .params import refuse
from .responses import json_of
from .selection import owner_of
from .views import Time, time_of

WEEK_S = 7 * 86_400.0
HOUR_S = 3600.0
MIB_PER_GIB = 1024.0


class UsageRow(Struct):
    """One user's jobs of one application: how many ended how, what they held and what they used, in hours.

    ``running``: held something in the time and had not ended by its end. ``gpu_hours_used`` is an upper bound (the
    highest utilisation seen counts for the whole attempt), null where GPUs were held and nobody measured.
    """

    user: str
    info: str
    application: str
    finished: int
    failed: int
    killed: int
    running: int
    cpu_hours: float
    cpu_hours_used: float
    gpu_hours: float
    gpu_hours_used: float | None
    mem_gib_hours: float
    mem_gib_hours_used: float


class UsageReport(Struct):
    """The rows, those who held most first; ``until`` is never later than now."""

    since: Time
    until: Time
    rows: list[UsageRow]


async def report(call: Call) -> web.StreamResponse:
    """``GET /usage``."""
    params = call.params("since", "until", "user")
    owner = owner_of(call, params.text("user"))
    now = call.core.clock()
    until = params.time("until")
    until = now if until is None else min(until, now)
    since = params.time("since")
    since = until - WEEK_S if since is None else since
    if since > until:
        refuse("since", "is later than until, or than now")
    sums = await usage_between(call.core, since, until, owner)
    rows = [_row(call, user, application, total) for (user, application), total in _ordered(sums)]
    return json_of(UsageReport(time_of(max(0.0, since)), time_of(until), rows))


def _ordered(sums: Sums) -> list[tuple[tuple[str, str], UsageSum]]:
    """Who held the most cpu-hours first, with all their applications together, those in the same order."""
    of_user: dict[str, float] = {}
    for (user, _), total in sums.items():
        of_user[user] = of_user.get(user, 0.0) + total.cpu_s
    return sorted(sums.items(), key=lambda item: (-of_user[item[0][0]], item[0][0], -item[1].cpu_s, item[0][1]))


def _row(call: Call, user: str, application: str, total: UsageSum) -> UsageRow:
    account = call.api.user(user)
    measured = total.gpu_measured_s > 0 or total.gpu_s == 0
    return UsageRow(
        user,
        account.info if account is not None else "",
        application,
        total.finished,
        total.failed,
        total.killed,
        total.running,
        _hours(total.cpu_s),
        _hours(total.cpu_used_s),
        _hours(total.gpu_s),
        _hours(total.gpu_used_s) if measured else None,
        _hours(total.mem_mb_s / MIB_PER_GIB),
        _hours(total.mem_used_mb_s / MIB_PER_GIB),
    )


def _hours(seconds: float) -> float:
    return round(seconds / HOUR_S, 6)
