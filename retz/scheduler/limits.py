"""What one user may have running at the same time."""

from __future__ import annotations

from typing import NamedTuple

from retz.model.resources import Vector, add, subtract, times
from retz.model.units import format_size

NOTHING: Vector = (0, 0, 0, 0, 0)

_KEYS = ("cpus", "mem", "disk", "gpus", "ports")


class Holding(NamedTuple):
    """What one user's running jobs hold together."""

    running: int = 0
    amounts: Vector = NOTHING

    def plus(self, need: Vector, count: int = 1) -> Holding:
        """With so many more jobs of this need."""
        return Holding(self.running + count, add(self.amounts, times(need, count)))

    def minus(self, need: Vector, count: int = 1) -> Holding:
        """With so many jobs of this need less."""
        return Holding(self.running - count, subtract(self.amounts, times(need, count)))


NO_HOLDING = Holding()


class UserLimits(NamedTuple):
    """The most that one user holds at the same time; 0 means no limit. ``mem`` is in MiB."""

    running: int = 0
    cpus: float = 0
    mem: int = 0
    gpus: int = 0

    def __bool__(self) -> bool:
        """Whether anything is limited."""
        return any((self.running, self.cpus, self.mem, self.gpus))

    @property
    def most(self) -> Vector:
        """The limits of amounts as a vector, with 0 for none."""
        return (round(self.cpus * 1000), self.mem, 0, self.gpus, 0)

    def admits(self, holding: Holding, need: Vector) -> bool:
        """Whether one more job of this need stays within the limits."""
        return self.room(holding, need, 1) == 1

    def room(self, holding: Holding, need: Vector, wanted: int) -> int:
        """How many more jobs of this need stay within the limits, at most ``wanted``."""
        if self.running:
            wanted = min(wanted, self.running - holding.running)
        for most, held, each in zip(self.most, holding.amounts, need, strict=True):
            if most and each:
                wanted = min(wanted, (most - held) // each)
        return max(0, wanted)

    def alone(self, need: Vector) -> str | None:
        """What of a job is above the limits even if its user runs nothing else: a key's last part, or None."""
        return next((name for name, most, each in zip(_KEYS, self.most, need, strict=True) if 0 < most < each), None)

    def reason(self, holding: Holding, need: Vector) -> str | None:
        """Why a job of this need is passed over, in a sentence; None if it is not."""
        if 0 < self.running <= holding.running:
            return f"its user runs {holding.running} of {self.running} jobs allowed at once (retz.max.user.running)"
        for index, (most, held, each) in enumerate(zip(self.most, holding.amounts, need, strict=True)):
            if most and each and held + each > most:
                name = _KEYS[index]
                has, all_of = _amount(index, held), _amount(index, most)
                needs = _amount(index, each)
                return f"needs {needs} {name}, its user holds {has} of {all_of} allowed at once (retz.max.user.{name})"
        return None


def _amount(index: int, value: int) -> str:
    if index == 0:
        return f"{value / 1000:g}"
    return format_size(value) if index in (1, 2) else str(value)
