"""What people and programs get to see: tables, colours, JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TextIO


def print_json(document: object) -> None:
    """Print one JSON document."""
    print(json.dumps(document, ensure_ascii=False, allow_nan=False))


def coloured(stream: TextIO) -> bool:
    """Whether colours are welcome: https://no-color.org, FORCE_COLOR, dumb terminals."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def unicode(stream: TextIO) -> bool:
    """Whether a stream can show more than ASCII."""
    return (stream.encoding or "").lower().replace("-", "").startswith("utf")


def printable(text: str) -> str:
    """The text with control characters escaped: a pipeline's name must not steer the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """Print columns with their titles; the first ``left`` ones aligned left, the others right.

    On something that is no terminal the columns are separated by a tab and have no titles: for ``cut`` and ``awk``.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty() and not os.environ.get("FORCE_COLOR"):
        for row in shown:
            print("\t".join(row))
        return
    print_columns([list(titles), *shown], left)


def print_columns(rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """Print aligned columns, the first row being their titles."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def note(text: str) -> None:
    """Tell the person, not the program that reads the output."""
    print(printable(text), file=sys.stderr)
