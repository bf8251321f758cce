"""Units people type: memory and disk sizes, durations. Pure text in, numbers out.

Kept free of any import beyond the standard library, because the command line parses them before it
knows whether it will talk to a server at all.
"""

from __future__ import annotations

import math
import re

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?|\.\d+)\s*([kmgtp]?)(?:i?b)?\s*$", re.IGNORECASE)
_MIB_PER_UNIT = {"": 1.0, "k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0**2, "p": 1024.0**3}

_DURATION = re.compile(r"^\s*(?:\d+(?:\.\d+)?\s*[smhdw]\s*)+$", re.IGNORECASE)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.IGNORECASE)
_SECONDS_PER_UNIT = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

MAX_SIZE_MIB = 1 << 43
"""Eight exbibytes: anything above is a typing error, and would not fit a signed 64-bit byte count."""


def parse_size(text: str | int | float) -> int:
    """Return a size in MiB. ``512`` means MiB; ``512m``, ``16g``, ``1.5g``, ``2t`` are powers of 1024.

    A fraction of a MiB is rounded up, so that what is asked for is never silently less.

    Raises:
        ValueError: with a sentence for the user, when the text is not a size or is out of range.
    """
    if isinstance(text, bool):
        raise ValueError("a size is a number of MiB or a text such as '512m', '16g'")
    if isinstance(text, int | float):
        mib = float(text)
        if not math.isfinite(mib) or mib < 0:
            raise ValueError(f"a size must be a finite number, not negative: {text!r}")
    else:
        match = _SIZE.match(text)
        if match is None:
            raise ValueError(f"not a size: {text!r}; write MiB as '512', or '512m', '16g', '1.5g', '2t'")
        mib = float(match[1]) * _MIB_PER_UNIT[match[2].lower()]
    if mib > MAX_SIZE_MIB:
        raise ValueError(f"size out of range: {text!r}")
    return math.ceil(mib - 1e-9)


def format_size(mib: int) -> str:
    """Return a short text for a size in MiB: ``512M``, ``1.5G``, ``2T``."""
    if mib < 1024:
        return f"{mib}M"
    if mib < 1023.95 * 1024:  # above, one decimal would round to 1024G
        return f"{mib / 1024:.1f}".removesuffix(".0") + "G"
    return f"{mib / 1024 / 1024:.1f}".removesuffix(".0") + "T"


def parse_duration(text: str, *, bare_unit: str = "m") -> float:
    """Return a duration in seconds. A bare number counts ``bare_unit`` (minutes, as Retz's --timeout does).

    ``90s``, ``2h``, ``1h30m``, ``1.5d`` are understood.

    Raises:
        ValueError: with a sentence for the user.
    """
    stripped = text.strip()
    if re.fullmatch(r"\d+(?:\.\d+)?", stripped):
        seconds = float(stripped) * _SECONDS_PER_UNIT[bare_unit]
    elif _DURATION.match(stripped):
        seconds = sum(
            float(number) * _SECONDS_PER_UNIT[unit.lower()] for number, unit in _DURATION_PART.findall(stripped)
        )
    else:
        unit_name = {"m": "minutes", "s": "seconds"}.get(bare_unit, bare_unit)
        raise ValueError(f"not a duration: {text!r}; write '30' ({unit_name}), '90s', '2h' or '1h30m'")
    if seconds > 100 * 366 * 86400:
        raise ValueError(f"duration out of range: {text!r}")
    return seconds


def format_duration(seconds: float) -> str:
    """Return ``12s``, ``03:50``, ``1:12:09`` or ``2d 03:00:00``: short, and of one width inside a magnitude."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    if days:
        return f"{days}d {hours:02}:{minutes:02}:{secs:02}"
    if hours:
        return f"{hours}:{minutes:02}:{secs:02}"
    return f"{minutes:02}:{secs:02}"


def fine_span(seconds: float) -> str:
    """As :func:`span`, to the nearest, with tenths where it is less than ten seconds: ``0.3s``."""
    return f"{max(0.0, seconds):.1f}s" if seconds < 10 else span(round(seconds))


def span(seconds: float) -> str:
    """Return a length of time by its two largest units: ``45s``, ``1m40s``, ``2h05m``, ``3d04h``."""
    whole = max(0, int(seconds))
    for size, part, names in ((86400, 3600, "dh"), (3600, 60, "hm"), (60, 1, "ms")):
        if whole >= size:
            return f"{whole // size}{names[0]}{whole % size // part:02}{names[1]}"
    return f"{whole}s"
