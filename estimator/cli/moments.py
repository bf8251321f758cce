"""Times and durations as people write them on a command line."""

from __future__ import annotations

import re
from datetime import datetime

import click

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(ms|min|s|m|h|d|w)", re.ASCII)


class Duration(click.ParamType[int]):
    """``90s``, ``15m``, ``1h30m``, ``1d``: milliseconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds of a text."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        parts = _PART.findall(text)
        if not parts or _PART.sub("", text).strip():
            self.fail(f"{text!r} is no duration: write 90s, 15m, 1h30m or 1d", param, ctx)
        return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


class Moment(click.ParamType[int]):
    """``2026-03-01T06:00Z`` (local time without a zone), or ``+2h`` from now: epoch milliseconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Epoch milliseconds of a text."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        if text.startswith("+"):
            return now_ms() + Duration().convert(text[1:], param, ctx)
        try:
            return round(datetime.fromisoformat(text).timestamp() * 1000)
        except (ValueError, OverflowError, OSError):
            self.fail(f"{text!r} is no time: write 2026-03-01T06:00Z, or +2h from now", param, ctx)


def now_ms() -> int:
    """Now, as epoch milliseconds."""
    return round(datetime.now().timestamp() * 1000)
