"""Texts as they may be drawn: what strangers wrote (names, commands, logs) must not steer the terminal."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

_HARMLESS_FORMAT = "\u200d\ufe0f"
"""Joins emoji into one picture; every other format character could hide or reverse text."""


def printable(text: str) -> str:
    """The text with control, format and other invisible characters replaced by what shows them (``␛``, ``·``)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if _harmless(character) else _shown(character) for character in text)


def _harmless(character: str) -> bool:
    return character.isprintable() or character in _HARMLESS_FORMAT


def _shown(character: str) -> str:
    number = ord(character)
    if number < 0x20:
        return " " if character == "\t" else chr(0x2400 + number)
    return "␡" if number == 0x7F else "·"


def fit(text: str, width: int, right: bool = False) -> str:
    """The text in exactly ``width`` cells, with an ellipsis where something is missing."""
    if width <= 0:
        return ""
    taken = len(text) if text.isascii() else cell_len(text)
    if taken > width:
        return set_cell_size(text, width - 1) + "…"
    padding = " " * (width - taken)
    return padding + text if right else text + padding


def width_of(text: str) -> int:
    """Cells that a text takes."""
    return len(text) if text.isascii() else cell_len(text)


def duration(seconds: float) -> str:
    """``04:07``, ``1:04:07``, ``3d 04h``: grows to the left, so that a right-aligned column does not jump."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{days}d {hours:02}h"
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes:02}:{left:02}"


def memory(mib: float) -> str:
    """``512M``, ``15.8G``, ``1.2T``."""
    for unit, factor in (("T", 1024 * 1024), ("G", 1024)):
        if mib >= factor:
            return f"{mib / factor:.1f}{unit}"
    return f"{mib:.0f}M"


def amount(value: float) -> str:
    """A number without needless digits: ``8``, ``0.5``."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def count(value: int) -> str:
    """A number with thin groups: ``1 204``."""
    return f"{value:,}".replace(",", " ")


def size_text(size: float) -> str:
    """Bytes: ``812``, ``1.2k``, ``15.8M``, ``2.0G``."""
    for unit in ("", "k", "M", "G", "T"):
        if size < 1024 or unit == "T":
            break
        size /= 1024
    return f"{size:.1f}{unit}" if unit else str(int(size))
