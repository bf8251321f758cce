"""Times as people write them on a command line, in their own time zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta

from retz.model.units import parse_duration

_DAYS = {"today": 0, "tomorrow": 1}
_HELP = "write +2h, 03:00, 'tomorrow 03:00', 2026-11-20T06:27, or seconds since 1970"


def parse_moment(text: str, now: datetime) -> datetime:
    """``+2h``, ``03:00`` (the next one), ``tomorrow 03:00``, ISO-8601 (without offset: local), or epoch seconds.

    Args:
        now: An aware time in the zone that times without offset are of.

    Raises:
        ValueError: with a sentence for the user.
    """
    words = text.strip()
    try:
        if words.startswith("+"):
            # Reckoned in UTC: two hours are two hours, whatever clocks do in between.
            return now.astimezone(UTC) + timedelta(seconds=parse_duration(words[1:]))
        if re.fullmatch(r"\d{9,11}(\.\d+)?", words):
            return datetime.fromtimestamp(float(words), UTC)
        day, _, clock = words.lower().partition(" ")
        if day in _DAYS:
            return _at(now + timedelta(days=_DAYS[day]), clock.strip() or "00:00")
        if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", words):
            today = _at(now, words)
            return today if today > now else _at(now + timedelta(days=1), words)
        return _local(datetime.fromisoformat(words), now)
    except (ValueError, OverflowError):
        raise ValueError(f"not a time: {text!r}; {_HELP}") from None


def _at(day: datetime, clock: str) -> datetime:
    return _local(datetime.combine(day.date(), time.fromisoformat(clock.zfill(5))), day)


def _local(when: datetime, now: datetime) -> datetime:
    """A time without offset is of the zone whose rules hold then, not of today's offset."""
    if when.tzinfo is not None:
        return when
    return when.replace(tzinfo=now.tzinfo) if now.tzinfo is UTC else when.astimezone()
