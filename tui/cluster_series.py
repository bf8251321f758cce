"""What the cluster did over time, as layers and rows for its screen. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from retz.client.types import Aggregates, Event, Job, Point
from retz.model.resources import Resources

from .columns import id_of, title_of
from .states import look_of, state_text
from .text import amount, count, duration, fit, memory, printable
from .widgets.areaplot import Layer, Stack

MINUTE_S = 60
SPANS_S = (3600, 6 * 3600, 86_400, 3 * 86_400, 7 * 86_400, 30 * 86_400)
SPAN_NAMES = ("hour", "6 hours", "24 hours", "3 days", "7 days", "30 days")


def calm(value: float) -> float:
    """A mean without digits that nobody reads."""
    return float(round(value)) if value >= 100 else round(value, 1)


RESOURCES: dict[str, tuple[str, str, Callable[[float], str]]] = {
    "cpus": ("cpus", "", lambda value: amount(calm(value))),
    "mem": ("memory", "MB", memory),
    "gpus": ("gpus", "", lambda value: amount(calm(value))),
}
"""Name -> what it is called, unit of its axis, and how an amount of it is written."""

MOST_LAYERS = 5
OTHERS = "others"


class Row(NamedTuple):
    """A line of little bars: a value for each point of time, and how one is written.

    Attributes:
        like: The bars are as high as if these were drawn: two lines of one scale. None are the values themselves.
    """

    name: str
    values: Sequence[float | None]
    text: str
    style: str = ""
    like: Sequence[float | None] | None = None


def step_of(span_s: float, columns: int) -> int:
    """Seconds between two points, so that each has about two dots: whole minutes."""
    return max(1, round(span_s / max(1, 2 * columns) / MINUTE_S)) * MINUTE_S


def value_of(resources: Resources, name: str) -> float:
    """An amount by its name."""
    return float(getattr(resources, name))


def users_of(points: Sequence[Point], name: str) -> list[str]:
    """Who held most of it, most first."""
    sums: dict[str, float] = {}
    for point in points:
        for user, held in point.by_user.items():
            sums[user] = sums.get(user, 0.0) + value_of(held, name)
    return sorted((user for user in sums if sums[user] > 0), key=lambda user: (-sums[user], user))


def stack_of(found: Aggregates, name: str) -> Stack:
    """One resource by user, the largest at the bottom; who is not seen or too small is together on top."""
    points = found.points
    users = users_of(points, name)
    shown = users if len(users) <= MOST_LAYERS - 1 else users[: MOST_LAYERS - 1]
    nothing = Resources()
    layers = [Layer(printable(user), [value_of(p.by_user.get(user, nothing), name) for p in points]) for user in shown]
    rest = [
        max(0.0, value_of(p.used, name) - sum(value_of(p.by_user.get(user, nothing), name) for user in shown))
        for p in points
    ]
    most = max((value_of(p.used, name) for p in points), default=0.0)
    if any(value > 0.005 * most for value in rest):
        layers.append(Layer(OTHERS, rest))
    return Stack(
        times=[point.time.timestamp() for point in points],
        step=found.step_s,
        layers=layers,
        total=[value_of(point.total, name) for point in points],
        unit=RESOURCES[name][1],
    )


def rows_of(found: Aggregates, index: int | None, present: tuple[int, int] | None = None) -> list[Row]:
    """Queue, waiting times and throughput; the texts are those of one point.

    Args:
        present: How many are queued and running now; they are told instead.
    """
    points, at = found.points, None if index is None else found.points[index]
    hours = found.step_s / 3600
    half = "–" if at is None or at.wait_p50_s is None else duration(at.wait_p50_s)
    most = "–" if at is None or at.wait_p90_s is None else duration(at.wait_p90_s)
    over = "–" if at is None else f"{count(round(at.ended / hours))}/h"
    failed = "–" if at is None else f"{count(round(at.failed / hours))}/h"
    if present is None and at is not None:
        present = round(at.queued), round(at.running)
    queued, running = ("–", "–") if present is None else (count(present[0]), count(present[1]))
    ended, waits = [p.ended for p in points], [p.wait_p90_s for p in points]
    return [
        Row("queued", [p.queued for p in points], queued, "dim"),
        Row("running", [p.running for p in points], running, "started"),
        Row("waited", [p.wait_p50_s for p in points], f"p50 {half:>8}", "dim", waits),
        Row("", waits, f"p90 {most:>8}", "dim"),
        Row("ended", ended, over, "finished"),
        Row("failed", [p.failed for p in points], failed, "failed", ended),
    ]


def told(event: Event, host: Callable[[str], str] = str) -> tuple[str, str] | None:
    """(text, style name) of an event, machines by their names; None if it tells nothing to people."""
    if event.kind == "job" and event.job is not None:
        return _job_text(event.job, host), look_of(event.job).style
    data = event.data if isinstance(event.data, dict) else {}
    if event.kind == "queue":
        return f"‖ queue   is {printable(str(data.get('mode', '')))}", "held"
    if event.kind == "application":
        what = "was removed" if data.get("deleted") else "was changed"
        return f"◇ application {printable(str(data.get('name', '')))} {what}", "dim"
    return None


def _job_text(job: Job, host: Callable[[str], str]) -> str:
    where = f" on {printable(host(job.agent))}" if job.agent and job.state in ("STARTING", "STARTED") else ""
    return f"{fit(state_text(job), 14)} {id_of(job):>8}  {fit(printable(job.owner), 10)} {title_of(job)}{where}"
