"""A history in one line: ``▁▁▂▅▇▇▅▂``. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

LEVELS = "▁▂▃▄▅▆▇█"
GAP = " "

K = TypeVar("K", bound=Hashable)


def spark(values: Sequence[float | None], width: int, top: float = 100.0) -> str:
    """The latest ``width`` values, right-aligned; blank where there is none.

    Args:
        top: What fills a cell; everything above does, too.
    """
    shown = list(values)[-width:] if width > 0 else []
    return "".join(_level(value, top) for value in shown).rjust(max(0, width))


def _level(value: float | None, top: float) -> str:
    if value is None or top <= 0:
        return GAP
    part = max(0.0, min(1.0, value / top))
    return LEVELS[min(len(LEVELS) - 1, int(part * len(LEVELS)))]


class Histories(Generic[K]):
    """The latest values of many things, in bounded memory: what was not told of for longest goes first.

    Args:
        length: Values kept of each.
        most: Things kept.
    """

    def __init__(self, length: int = 240, most: int = 4096) -> None:
        self._length = length
        self._most = most
        self._kept: OrderedDict[K, deque[float | None]] = OrderedDict()

    def add(self, key: K, value: float | None) -> None:
        """Note the present value."""
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = deque(maxlen=self._length)
        kept.append(value)
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def of(self, key: K) -> Sequence[float | None]:
        """What is kept, oldest first."""
        return tuple(self._kept.get(key, ()))
