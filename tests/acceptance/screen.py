"""A terminal's screen, as far as a well-behaved full-screen program needs one; what it does not know is noted."""

from __future__ import annotations

import re
from typing import Any

from rich.cells import get_character_cell_size

_PART = re.compile(
    r"(?P<csi>\x1b\[(?P<given>[0-9;:<=>?]*)(?P<between>[ -/]*)(?P<final>[@-~]))"
    r"|(?P<osc>\x1b\](?P<payload>[^\x07\x1b]*)(?:\x07|\x1b\\))"
    r"|(?P<esc>\x1b[^\[\]])"
    r"|(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f-\x9f])"
)


class Screen:
    """Feed it what a program writes; read what a person would see.

    Attributes:
        modes: The private modes that are on (``?1049`` the second screen, ``?25`` the cursor, ...).
        strange: Everything that is neither text nor one of the few sequences that the window has use for.
        clipboard: Texts that were sent to the clipboard (OSC 52), still in base64.
        coloured: Whether any colour was set; shades of grey are none.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.modes = {"?25"}
        self.strange: list[str] = []
        self.clipboard: list[str] = []
        self.coloured = False
        self._rest = ""
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        """Another size; what was there is gone, as the program will draw it anew."""
        self.columns, self.rows = columns, rows
        self._cells = [[" "] * columns for _ in range(rows)]
        self._x = self._y = 0

    @property
    def lines(self) -> list[str]:
        """What is seen, line by line."""
        return ["".join(row).rstrip() for row in self._cells]

    @property
    def text(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines)

    def column_of(self, line: int, text: str) -> int:
        """The cell in which a text begins on a line; wide characters before it fill two."""
        before = "".join(cell or "\0" for cell in self._cells[line])
        return before.index(text)

    def feed(self, text: str) -> None:
        """Something was written."""
        text, self._rest = self._rest + text, ""
        place = 0
        while place < len(text):
            match = _PART.match(text, place)
            if match is None:
                if len(text) - place > 4096:
                    self.strange.append(text[place : place + 40])
                    return
                self._rest = text[place:]
                return
            self._do(match)
            place = match.end()

    def _do(self, match: re.Match[str]) -> None:
        found: dict[str, Any] = match.groupdict()
        if found["text"] is not None:
            for character in found["text"]:
                self._put(character)
        elif found["csi"] is not None:
            self._sequence(found["given"], found["between"] + found["final"], found["csi"])
        elif found["osc"] is not None:
            self._operating(found["payload"])
        elif found["control"] == "\n":
            self._x, self._y = 0, min(self._y + 1, self.rows - 1)
        elif found["control"] == "\r":
            self._x = 0
        else:
            self.strange.append(match.group())

    def _sequence(self, given: str, final: str, whole: str) -> None:
        if final == "H":
            row, _, column = given.partition(";")
            self._y, self._x = int(row or 1) - 1, int(column or 1) - 1
        elif final in ("h", "l") and given.startswith("?"):
            for number in given[1:].split(";"):
                (self.modes.add if final == "h" else self.modes.discard)(f"?{number}")
        elif final == "m":
            self.coloured |= _has_colour([int(number or 0) for number in re.split("[;:]", given)])
        elif final == "J" and given == "2":
            self.resize(self.columns, self.rows)
        elif (final, given[:1]) not in (("$p", "?"), ("u", ">"), ("u", "<"), ("t", "1")):
            self.strange.append(whole)

    def _operating(self, payload: str) -> None:
        if payload.startswith("52;c;"):
            self.clipboard.append(payload[5:])
        elif payload.partition(";")[0] != "22":  # the shape of the mouse pointer
            self.strange.append(payload)

    def _put(self, character: str) -> None:
        width = get_character_cell_size(character)
        if width == 0 or self._x + width > self.columns or self._y >= self.rows:
            return  # joins what is before it, or falls off the edge
        row = self._cells[self._y]
        row[self._x] = character
        if width == 2:
            row[self._x + 1] = ""
        self._x += width


def _has_colour(numbers: list[int]) -> bool:
    while numbers:
        first = numbers.pop(0)
        if first in (38, 48):
            if numbers[:1] != [2] or len(set(numbers[1:4])) > 1:
                return True
            numbers = numbers[4:]
        elif first % 60 in (*range(31, 37), *range(41, 47)):
            return True
    return False
