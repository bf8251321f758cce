"""The line of numbers over the queue: jobs by state, and how full the cluster is and was."""

from __future__ import annotations

from collections.abc import Sequence

from retz.client.types import Point, Status

from ..text import count, width_of
from .bars import Line

STEPS = "▁▂▃▄▅▆▇█"
ALL, FEW = ("cpus", "mem", "gpus"), ("cpus", "gpus")
WAYS = ((24, ALL), (10, ALL), (5, ALL), (5, FEW), (0, ALL), (0, FEW))
"""Cells of history, and which resources: the first way that there is room for."""


def share(used: float, total: float) -> float:
    """Part of the whole, 0 to 1; nothing of nothing is nothing."""
    return max(0.0, min(1.0, used / total)) if total else 0.0


def spark(values: Sequence[float], width: int) -> str:
    """The last values, 0 to 1, a cell each."""
    return "".join(STEPS[min(7, int(value * 8))] for value in values[-width:]).rjust(width)


class Counts(Line):
    """See the module's text.

    Attributes:
        status: For utilisation now.
        history: The day's steps until what is looked at: how full it was, what ended.
        past: Whether an earlier time is looked at: then all numbers are the history's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.status: Status | None = None
        self.history: Sequence[Point] = ()
        self.past = False

    def show_counts(self, counts: dict[str, int]) -> None:
        """Other numbers of live jobs."""
        if counts != self.counts:
            self.counts = counts
            self.refresh()

    def parts(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """See :class:`Line`: how full the cluster was gives way to what is in it."""
        left = self._then() if self.past else self._now()
        if self.history and self.size.width >= 100:
            ended, failed = (
                int(sum(values)) for values in zip(*((p.ended, p.failed) for p in self.history), strict=True)
            )
            left.append((f" ✔ {count(max(0, ended - failed))} ", "finished"))
            left.append(
                (f" ✘ {count(failed)} {'that day' if self.past else 'today'}", "failed" if failed else "finished")
            )
        room = self.size.width - sum(width_of(text) for text, _ in left)
        for width, names in WAYS:
            right = self._utilisation(width, names)
            if sum(width_of(text) for text, _ in right) <= room:
                return left, right
        return left, []

    def _now(self) -> list[tuple[str, str]]:
        have = self.counts
        held = 0 if self.status is None else self.status.held
        return [
            (f" ◌ {count(have.get('QUEUED', 0))} queued  ", "queued"),
            (f" ◔ {count(have.get('STARTING', 0))} starting  ", "starting"),
            (f" ● {count(have.get('STARTED', 0))} started  ", "started"),
            *([(f" ‖ {count(held)} held  ", "held")] if held else []),
        ]

    def _then(self) -> list[tuple[str, str]]:
        if not self.history:
            return [(" nothing is recorded of that time", "dim")]
        last = self.history[-1]
        return [
            (f" ◌ {count(round(last.queued))} queued  ", "queued"),
            (f" ● {count(round(last.running))} ran  ", "started"),
        ]

    def _utilisation(self, width: int, names: Sequence[str]) -> list[tuple[str, str]]:
        of = self.history[-1] if self.past and self.history else None if self.past else self.status
        parts: list[tuple[str, str]] = []
        for name in names:
            total, used = (getattr(of.total, name), getattr(of.used, name)) if of is not None else (0, 0)
            if not total:
                continue
            past = [share(getattr(p.used, name), getattr(p.total, name)) for p in self.history]
            drawn = f"{spark(past, width)} " if width and past else ""
            parts += [(f"  {name} ", "dim"), (drawn, "allocated"), (f"{share(used, total):>4.0%} ", "")]
        return parts
