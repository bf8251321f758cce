"""Values of configuration keys: from what TOML, the environment or an option says to what programs use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .config_keys import Key
from .model.units import parse_duration, parse_size

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def convert(key: Key, raw: object, base: Path, environ: Mapping[str, str]) -> Any:
    """Return the value of a key: seconds for durations, MiB for sizes, a Path for paths.

    Args:
        raw: Typed (from TOML) or text (from elsewhere).
        base: The directory that relative paths start from.

    Raises:
        ValueError: with a sentence about the value alone.
    """
    value = _path(raw, base, environ) if key.kind == "path" else _CONVERTERS[key.kind](raw)
    if key.choices and value not in key.choices:
        raise ValueError(f"must be one of {', '.join(key.choices)}, not {raw!r}")
    return value


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"must be a text in quotes, not {raw!r}")
    if not raw or any(c < " " or c == "\x7f" for c in raw):
        raise ValueError("must not be empty or hold control characters")
    return raw


def _bool(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    word = raw.lower() if isinstance(raw, str) else ""
    if word not in _TRUE + _FALSE:
        raise ValueError(f"must be true or false, not {raw!r}")
    return word in _TRUE


def _number(raw: object) -> float:
    try:
        value = float(raw) if isinstance(raw, int | float | str) and not isinstance(raw, bool) else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"must be a number, not negative, not {raw!r}")
    return value


def _int(raw: object) -> int:
    value = _number(raw)
    if value != int(value) or isinstance(raw, float):
        raise ValueError(f"must be a whole number, not {raw!r}")
    return int(value)


def _size(raw: object) -> int:
    if not isinstance(raw, int | float | str):
        raise ValueError(f"must be a size such as 512 (MiB) or '16g', not {raw!r}")
    return parse_size(raw)


def _duration(raw: object) -> float:
    return parse_duration(raw, bare_unit="s") if isinstance(raw, str) else _number(raw)


def _uri(raw: object) -> str:
    text = _text(raw).rstrip("/")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"must be http://HOST:PORT or https://HOST:PORT, not {raw!r}")
    if parts.username is not None:
        raise ValueError("must not hold a user name: use retz.access.key and retz.access.secret")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(f"has a port that is not one: {raw!r}") from None
    return text


def _path(raw: object, base: Path, environ: Mapping[str, str]) -> Path:
    text = _text(raw)
    home = Path(environ.get("HOME") or Path.home())
    state = environ.get("XDG_STATE_HOME", "")
    text = text.replace("$XDG_STATE_HOME", state if state.startswith("/") else f"{home}/.local/state", 1)
    if text == "~" or text.startswith("~/"):
        return home / text[2:]
    return base / text


def _range(raw: object) -> tuple[int, int]:
    """First, and one after the last, as Python counts."""
    first, dash, last = raw.partition("-") if isinstance(raw, str) else ("", "", "")
    if not (dash and first.strip().isdecimal() and last.strip().isdecimal()):
        raise ValueError(f"must be a range such as '31000-32000', not {raw!r}")
    low, high = int(first), int(last)
    if not 1 <= low <= high <= 65535:
        raise ValueError(f"must be a range within 1-65535, not {raw!r}")
    return low, high + 1


def _gpus(raw: object) -> str:
    if isinstance(raw, list) and all(isinstance(item, str) and item for item in raw):
        return ",".join(raw)
    if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0:
        return str(raw)
    if isinstance(raw, str) and raw:
        return raw
    raise ValueError(f'must be "auto", a number or a list of UUIDs, not {raw!r}')


def _table(raw: object) -> dict[str, str | float | bool]:
    if not isinstance(raw, dict):
        raise ValueError(f"must be a table, not {raw!r}")
    for name, value in raw.items():
        if value is False or not isinstance(value, str | int | float):
            raise ValueError(f"{name}: must be a text, a number, or true for an attribute without a value")
    return {name: value if isinstance(value, str | bool) else float(value) for name, value in raw.items()}


_CONVERTERS: dict[str, Callable[[object], Any]] = {
    "text": _text,
    "bool": _bool,
    "int": _int,
    "number": _number,
    "size": _size,
    "duration": _duration,
    "uri": _uri,
    "range": _range,
    "gpus": _gpus,
    "table": _table,
}
