"""Numbers as people read them: memory, durations, their products, and the nice ticks of an axis. Without numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_MEMORY = ((1024.0**2, "TB"), (1024.0, "GB"), (1.0, "MB"))
_TIME = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_TIME_STEPS = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800,
    3600, 7200, 10_800, 21_600, 43_200, 86_400,
)  # fmt: skip


class Tick(NamedTuple):
    """A place on an axis, and what is written there."""

    value: float
    label: str


def unit_of(resource: str) -> str:
    """The unit of a resource's amounts: MB for memory, else its own name."""
    return "MB" if resource == "memory" else resource


def scale(largest: float, unit: str) -> tuple[float, str]:
    """The factor and name of the unit in which amounts up to ``largest`` read best: (1048576.0, "TB")."""
    if unit != "MB":
        return 1.0, unit
    return next((each for each in _MEMORY if largest >= each[0]), _MEMORY[-1])


def amount(value: float, unit: str) -> str:
    """An amount with its unit: ``2.48 TB``, ``2538 vcores``."""
    factor, name = scale(abs(value), unit)
    return f"{number(value / factor)} {name}"


def number(value: float) -> str:
    """Three significant digits, but all of a whole part: ``2.48``, ``24.8``, ``2480``, ``0``."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    digits = max(0, min(6, 2 - math.floor(math.log10(abs(value)))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(seconds: float) -> str:
    """A time in its two largest units: ``45 s``, ``4 min 10 s``, ``1 h 30 min``."""
    if abs(seconds) < 1:
        return f"{number(seconds)} s"
    left = round(abs(seconds))
    parts = []
    for size, name in _TIME:
        count, left = divmod(left, int(size))
        if count:
            parts.append(f"{count} {name}")
        elif parts:
            break
    return ("-" if seconds < 0 else "") + " ".join(parts[:2])


def usage(value: float, unit: str) -> str:
    """An amount times seconds in hours: ``1.7 TB·h``, ``230 vcores·h``; ``12 GB·min`` where hours are too coarse."""
    hours = value / 3600
    if abs(hours) >= 1 or value == 0:
        factor, name = scale(abs(hours), unit)
        return f"{number(hours / factor)} {name}·h"
    factor, name = scale(abs(value / 60), unit)
    return f"{number(value / 60 / factor)} {name}·min"


def percent(part: float) -> str:
    """A share: ``41 %``, ``0.5 %``; never ``0 %`` for something nor ``100 %`` for less than all."""
    value = 100 * part
    if 0 < abs(value) < 1:
        return "< 0.1 %" if abs(value) < 0.1 else f"{value:.1f} %"
    if 99.5 <= value < 100:
        return f"{math.floor(value * 10) / 10:.1f} %"
    return f"{value:.0f} %"


def amount_ticks(low: float, high: float, count: int, unit: str) -> list[Tick]:
    """At most about ``count`` ticks at multiples of 1, 2 or 5 within ``[low, high]``."""
    factor, name = scale(max(abs(low), abs(high)), unit)
    step = _nice_step((high - low) / factor, count)
    suffix = f" {name}" if unit == "MB" else ""
    places = _multiples(low / factor, high / factor, step)
    return [Tick(value * factor, _tick_label(value, step) + (suffix if value else "")) for value in places]


def time_ticks(low: float, high: float, count: int) -> list[Tick]:
    """At most about ``count`` ticks at whole seconds, minutes, hours or days within ``[low, high]`` seconds."""
    span = high - low
    wanted = span / max(count, 1)
    step = next((float(each) for each in _TIME_STEPS if each >= wanted), 0.0)
    step = step or 86_400 * _nice_step(span / 86_400, count)
    if span <= 1:
        step = _nice_step(span, count)
    return [Tick(value, _time_label(value, step, high)) for value in _multiples(low, high, step)]


def nice_top(high: float, count: int, unit: str) -> float:
    """The smallest tick that is not below ``high``: where an axis from zero may end. Positive."""
    if high <= 0:
        return 1.0
    factor, _ = scale(high, unit)
    step = _nice_step(high / factor, count)
    return math.ceil(high / factor / step - 1e-9) * step * factor


def _nice_step(span: float, count: int) -> float:
    if not (span > 0 and math.isfinite(span)):
        return 1.0
    raw = span / max(count, 1)
    size = 10.0 ** math.floor(math.log10(raw))
    return next((size * each for each in (1, 2, 5) if size * each >= raw * (1 - 1e-9)), size * 10)


def _multiples(low: float, high: float, step: float) -> Sequence[float]:
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, min(last, first + 1000) + 1)]


def _tick_label(value: float, step: float) -> str:
    if value == 0:
        return "0"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{digits}f}" if digits < 10 else f"{value:g}"


def _time_label(value: float, step: float, high: float) -> str:
    """In the unit that fits the axis' end; as on a clock where that would give odd fractions."""
    if value == 0:
        return "0"
    size, name = next((each for each in _TIME if high >= 2 * each[0]), _TIME[-1])
    if step >= 1 and (2 * step / size) % 1 > 1e-9:
        minutes, seconds = divmod(round(value), 60)
        hours, rest = divmod(minutes, 60)
        return f"{hours}:{rest:02}:{seconds:02}" if high >= 7200 else f"{minutes}:{seconds:02}"
    digits = max(0, -math.floor(math.log10(step / size) + 1e-9))
    return f"{value / size:.{min(digits, 9)}f} {name}"
