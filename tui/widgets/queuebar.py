"""The line of numbers over the queue: jobs by state, and how full the cluster is and was."""

from __future__ import annotations

from collections.abc import Sequence

from retz.client.types import Point, Status

from ..text import count
from .bars import Line

STEPS = "▁▂▃▄▅▆▇█"
RESOURCES = (("cpus", "cpus"), ("mem", "mem"), ("gpus", "gpus"))


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
        history: Today's steps: how full it was, what ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.status: Status | None = None
        self.history: Sequence[Point] = ()

    def show_counts(self, counts: dict[str, int]) -> None:
        """Other numbers of live jobs."""
        if counts != self.counts:
            self.counts = counts
            self.refresh()

    def parts(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """See :class:`Line`."""
        have = self.counts
        left = [
            (f" ◌ {count(have.get('QUEUED', 0))} queued  ", "queued"),
            (f" ◔ {count(have.get('STARTING', 0))} starting  ", "starting"),
            (f" ● {count(have.get('STARTED', 0))} started  ", "started"),
        ]
        if self.status is not None and self.status.held:
            left.append((f" ‖ {count(self.status.held)} held  ", "held"))
        if self.history and self.size.width >= 100:
            ended, failed = (
                int(sum(values)) for values in zip(*((p.ended, p.failed) for p in self.history), strict=True)
            )
            left.append((f" ✔ {count(max(0, ended - failed))} ", "finished"))
            left.append((f" ✘ {count(failed)} today", "failed" if failed else "finished"))
        return left, self._utilisation()

    def _utilisation(self) -> list[tuple[str, str]]:
        if self.status is None:
            return []
        width = 0 if self.size.width < 100 else 10 if self.size.width < 150 else 24
        parts: list[tuple[str, str]] = []
        for name, title in RESOURCES:
            total, used = getattr(self.status.total, name), getattr(self.status.used, name)
            if not total or (self.size.width < 120 and name == "mem"):
                continue
            past = [share(getattr(p.used, name), getattr(p.total, name)) for p in self.history]
            drawn = f"{spark(past, width)} " if width and past else ""
            parts += [(f"  {title} ", "dim"), (drawn, "allocated"), (f"{share(used, total):>4.0%} ", "")]
        return parts
