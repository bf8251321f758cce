"""What people and programs get to see: tables, colours, times, JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TextIO

from retz.model.units import fine_span, span

from .errors import SCHEMA

# state -> (glyph, ANSI colour)
STATES = {
    "CREATED": ("◌", ""),
    "QUEUED": ("◌", ""),
    "STARTING": ("◔", "36"),
    "STARTED": ("●", "32"),
    "FINISHED": ("✔", "2"),
    "FAILED": ("✘", "31"),
    "KILLED": ("■", "35"),
    "HELD": ("‖", "33"),
}


class Cell(NamedTuple):
    """A table's cell: text, and the ANSI colour it has on a terminal."""

    text: str
    colour: str = ""


class Column(NamedTuple):
    """A table's column.

    Attributes:
        right: Right-aligned, for numbers.
        flexible: Cut to what the terminal has left, if it can be to ``least``.
        optional: Left out on a terminal if every cell is empty.
        varied: Left out on a terminal unless two cells differ: where all is the same there is nothing to tell.
        drop: Rank of leaving it out where the terminal is too narrow, 1 goes first; 0 stays.
    """

    title: str
    right: bool = False
    flexible: bool = False
    optional: bool = False
    least: int = 8
    varied: bool = False
    drop: int = 0


def print_json(kind: str, **payload: Any) -> None:
    """Print one document: the schema, its kind, and what it holds."""
    print(json.dumps({"schema": SCHEMA, "kind": kind, **payload}, ensure_ascii=False), flush=True)


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at it."""
    return stream.isatty()


def coloured(stream: TextIO) -> bool:
    """Whether colours are welcome: https://no-color.org, FORCE_COLOR, dumb terminals."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def width_of(stream: TextIO) -> int | None:
    """The terminal's width; None if it is none, and nothing must be cut."""
    if not is_terminal(stream):
        return None
    try:
        return int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def printable(text: str) -> str:
    """Return the text with control characters escaped: a job's name must not steer the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def display_width(text: str) -> int:
    """Columns that a text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, width: int) -> str:
    """Return at most ``width`` columns of a text, with an ellipsis where something is missing."""
    if display_width(text) <= width:
        return text
    while text and display_width(text) > width - 1:
        text = text[:-1]
    return text + "…"


def print_text(text: str, indent: str = "") -> None:
    """Print a line, on a terminal in as many as it takes, the second and following indented."""
    width = width_of(sys.stdout)
    if width is None or display_width(text) <= width:
        print(text)
        return
    from textwrap import wrap

    print("\n".join(wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)))


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell | str]], out: TextIO | None = None) -> None:
    """Print a table: as wide as the terminal, or as wide as its content when piped."""
    out = out or sys.stdout
    for line in table_lines(columns, rows, width_of(out), coloured(out)):
        print(line, file=out)


def table_lines(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell | str]], width: int | None, colour: bool
) -> Iterator[str]:
    """Yield the lines of a table."""
    cells = [[c if isinstance(c, Cell) else Cell(c) for c in row] for row in rows]
    cells = [[Cell(printable(c.text), c.colour) for c in row] for row in cells]
    shown = [i for i, c in enumerate(columns) if width is None or _says_something(c, [row[i].text for row in cells])]
    widths = {i: max([len(columns[i].title), *(display_width(row[i].text) for row in cells)]) for i in shown}
    if width is not None:
        _drop(columns, widths, width)
        _shrink(columns, widths, width)
    kept = [columns[i] for i in widths]
    yield _line([Cell(column.title) for column in kept], kept, list(widths.values()), False)
    for row in cells:
        yield _line([row[i] for i in widths], kept, list(widths.values()), colour)


def _says_something(column: Column, texts: list[str]) -> bool:
    if column.varied:
        return len(set(texts) - {""}) > 1
    return not column.optional or any(texts)


def _total(widths: Iterable[int]) -> int:
    """The width of a line, two spaces between its columns."""
    return sum(width + 2 for width in widths) - 2


def _least(column: Column, width: int) -> int:
    return min(width, column.least) if column.flexible else width


def _drop(columns: Sequence[Column], widths: dict[int, int], width: int) -> None:
    """Leave out columns until the others, cut as far as makes sense, have room."""
    for i in sorted((i for i in widths if columns[i].drop), key=lambda i: columns[i].drop):
        if _total(_least(columns[j], widths[j]) for j in widths) <= width:
            return
        del widths[i]


def _shrink(columns: Sequence[Column], widths: dict[int, int], width: int) -> None:
    """Take what is too much from the widest flexible columns: down to what makes sense, if need be further."""
    for ruthless in (False, True):
        excess = _total(widths.values()) - width
        while excess > 0:
            flexible = [i for i in widths if columns[i].flexible and widths[i] > (1 if ruthless else columns[i].least)]
            if not flexible:
                break
            widths[max(flexible, key=lambda i: widths[i])] -= 1
            excess -= 1


def _line(cells: list[Cell], columns: list[Column], widths: list[int], colour: bool) -> str:
    parts = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        text = cut(cell.text, width)
        padding = " " * (width - display_width(text))
        if colour and cell.colour:
            text = f"\033[{cell.colour}m{text}\033[0m"
        parts.append(padding + text if column.right else text + padding)
    return "  ".join(parts).rstrip()


def state_cell(job: dict[str, Any]) -> Cell:
    """A job's state: glyph, word, and how it failed."""
    state = "HELD" if job.get("held") and job["state"] == "QUEUED" else job["state"]
    glyph, colour = STATES.get(state, ("?", ""))
    word = "killing" if job.get("kill_requested") and state in ("STARTING", "STARTED") else state.lower()
    return Cell(f"{glyph} {word} {_failure(job)}".rstrip(), colour)


def _failure(job: dict[str, Any]) -> str:
    reason = job.get("reason")
    if job["state"] == "QUEUED" and reason == "oom":
        return "after oom"  # it outgrew a size that past runs gave it
    if job["state"] != "FAILED":
        return ""
    if reason == "exit":
        return str(job.get("exit_code"))
    return f"signal {job.get('signal')}" if reason == "signal" else str(reason or "")


def off_path_text(job: dict[str, Any]) -> str:
    """How it left the path of its pipeline's past runs; empty if it did not."""
    from retz.model.units import format_size

    told = []
    for how in job.get("off_path") or ():
        if how["kind"] == "slower":
            told.append(
                f"slower than usual: {fine_span(how['value'])}, in 9 of 10 runs at most {fine_span(how['usual'])}"
            )
        else:
            value, usual = format_size(round(how["value"])), format_size(round(how["usual"]))
            after, then = (f" after {span(how['after_s'])}", " then") if how.get("after_s") is not None else ("", "")
            told.append(f"hungrier than usual: {value}{after}, in 9 of 10 runs at most {usual}{then}")
    return "; ".join(told)


def command_text(command: str | list[str]) -> str:
    """A command as one would type it."""
    if isinstance(command, str):
        return command
    from shlex import join

    return join(command)


def seconds_of(text: str | None) -> float | None:
    """An ISO-8601 time as seconds since the epoch."""
    if text is None:
        return None
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def ago(text: str | None, now: float) -> str:
    """How long ago: ``12s``, ``5m``, ``3h``, ``2d``; empty if never."""
    then = seconds_of(text)
    if then is None:
        return ""
    passed = max(0, int(now - then))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if passed >= 2 * size:
            return f"{passed // size}{unit}"
    return f"{passed}s"


def to_seconds(text: str) -> str:
    """An ISO-8601 time without its milliseconds, for people."""
    return f"{text[:19]}Z" if text[19:20] == "." and text.endswith("Z") else text


def plural(number: int, noun: str) -> str:
    """``1 job``, ``2 jobs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def note(text: str) -> None:
    """Tell people something on stderr, if they are looking."""
    if is_terminal(sys.stderr):
        print(text, file=sys.stderr, flush=True)
