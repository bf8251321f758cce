"""When a job was submitted, waited, started and ended: a bar for each attempt on one scale of time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar

from rich.segment import Segment
from textual.strip import Strip

from retz.client.types import Attempt, Job

from ..columns import seconds
from ..text import duration, fit, printable, width_of
from .paint import STYLES, Painted

SHOWN = 4
"""Attempts at most: the first is of no interest to a job on its tenth."""

Cells = list[tuple[str, str]]


def clock(moment: float, now: float) -> str:
    """The local time of day, with the date unless it is today's."""
    local = datetime.fromtimestamp(moment)
    today = local.date() == datetime.fromtimestamp(now).date()
    return local.strftime("%H:%M:%S" if today else "%m-%d %H:%M:%S")


class Timeline(Painted):
    """See the module's text."""

    COMPONENT_CLASSES: ClassVar[set[str]] = STYLES

    def __init__(self) -> None:
        super().__init__()
        self.job: Job | None = None
        self.now = 0.0
        self.chosen = 0
        self.host: Callable[[str], str] = str
        self._lines: list[Cells] = []

    def show(self, job: Job | None, now: float, chosen: int) -> None:
        """Show this job as of ``now``; ``chosen`` is the attempt whose files are looked at."""
        self.job, self.now, self.chosen = job, now, chosen
        rows = 0 if job is None else 1 + max(1, min(SHOWN, len(job.attempts)))
        if self.styles.height is None or self.styles.height.value != rows:
            self.styles.height = rows
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """The times, then a line for each attempt."""
        width = self.size.width
        base = self.paint("base")
        cells = self._cells(y, width)
        segments = [Segment(text, base + self.paint(name)) for text, name in cells]
        taken = sum(width_of(text) for text, _ in cells)
        return Strip([*segments, Segment(" " * max(0, width - taken), base)]).crop(0, width)

    def _cells(self, y: int, width: int) -> Cells:
        job = self.job
        if job is None:
            return []
        if y == 0:
            return self._times(job, width)
        attempts = job.attempts[-SHOWN:]
        if not attempts:
            return self._bar(job, None, 0, width)
        return self._bar(job, attempts[y - 1], y - 1 + len(job.attempts) - len(attempts), width)

    def _times(self, job: Job, width: int) -> Cells:
        """``submitted 13:59:34  waited 00:03  started …``; what can be read elsewhere gives way on a narrow screen."""
        begun, over = seconds(job.started), seconds(job.ended)
        submitted = job.submitted.timestamp()
        parts = [("submitted", clock(submitted, self.now))]
        parts.append(("waited" if begun or over else "waiting", duration((begun or over or self.now) - submitted)))
        if begun is not None:
            parts.append(("started", clock(begun, self.now)))
            parts.append(("ran" if over else "running", duration((over or self.now) - begun)))
        if over is not None:
            parts.append(("ended", clock(over, self.now)))
        elif begun is not None and job.timeout_s is not None:
            parts.append(("ends by", clock(begun + job.timeout_s, self.now)))
        if sum(len(name) + len(value) + 3 for name, value in parts) > width:
            parts = [part for part in parts if part[0] != "started"]
        return [cell for name, value in parts for cell in ((f" {name} ", "dim"), (f"{value} ", ""))]

    def _bar(self, job: Job, attempt: Attempt | None, index: int, width: int) -> Cells:
        """``▸1 n17       ┄┄▒▒▓▓▓▓▓    03:54 ● running``."""
        shown = attempt is not None and attempt.number == self.chosen and len(job.attempts) > 1
        number = str(attempt.number) if attempt else "–"
        left = f" {number} {fit(printable(self.host(attempt.agent)) if attempt else '', min(20, width // 8))} "
        text, style = self._outcome(job, attempt)
        right = f"  {fit(text, min(28, max(14, width // 4)))}"
        room = max(4, width - width_of(left) - width_of(right) - 1)
        head: Cells = [("▸" if shown else " ", "accent"), (left, "" if shown else "dim")]
        return [*head, *self._steps(job, attempt, index, room), (right, style)]

    def _steps(self, job: Job, attempt: Attempt | None, index: int, room: int) -> Cells:
        """Waiting, starting, running on the common scale."""
        first, last = job.submitted.timestamp(), seconds(job.ended) or self.now
        scale = room / max(last - first, 1e-3)
        before = seconds(job.attempts[index - 1].ended) if index else first
        launched = seconds(attempt.launched) if attempt else None
        begun = seconds(attempt.started) if attempt else None
        over = (seconds(attempt.ended) if attempt else None) or last
        marks = [before or first, launched or over, begun or over, over]
        at = [min(room, max(0, round((mark - first) * scale))) for mark in marks]
        if begun is not None and at[3] == at[2]:  # a short run is seen too
            at[2] = max(0, min(at[2], room - 1))
            at[3] = at[2] + 1
            at[0], at[1] = min(at[0], at[2]), min(at[1], at[2])
        drawn = [("┄" * (at[1] - at[0]), "dim"), ("▒" * (at[2] - at[1]), "starting")]
        drawn.append(("▓" * (at[3] - at[2]), self._style(attempt)))
        return [(" " * at[0], ""), *drawn, (" " * (room - at[3]), "")]

    def _style(self, attempt: Attempt | None) -> str:
        if attempt is None or attempt.ended is None:
            return "started"
        if attempt.reason is None:
            return "used"
        return "killed" if attempt.reason == "user" else "failed"

    def _outcome(self, job: Job, attempt: Attempt | None) -> tuple[str, str]:
        if attempt is None:
            return ("◌ not started", "dim") if not job.over else ("■ never started", "killed")
        if attempt.ended is None:
            return ("● running", "started") if attempt.started is not None else ("◔ starting", "starting")
        begun, over = seconds(attempt.started), attempt.ended.timestamp()
        ran = duration(over - begun) if begun is not None else "–"
        if attempt.reason is None:
            return f"✔ {ran}", "finished"
        why = {"exit": f"exit {attempt.exit_code}", "signal": f"signal {attempt.signal}", "user": "killed"}
        glyph = "■" if attempt.reason == "user" else "✘"
        return f"{glyph} {ran} {why.get(attempt.reason, attempt.reason)}", self._style(attempt)
