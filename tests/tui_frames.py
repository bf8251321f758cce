"""Frames of the window as plain text, and golden files of them.

Text survives a change of colours, and reads well in a review. ``RETZ_GOLDEN=write`` rewrites the files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from textual.app import App

from tui.once import frame_text

GOLDEN = Path(__file__).parent / "golden"


def frame(app: App[Any]) -> str:
    """What the screen shows, a line each, blanks at the ends of lines left out."""
    return frame_text(app)


def assert_golden(name: str, text: str) -> None:
    """Compare with ``tests/golden/NAME.txt``.

    Raises:
        AssertionError: they differ, or there is no such file yet.
    """
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("RETZ_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"{path.name} is missing: look at the frame, then run with RETZ_GOLDEN=write\n{text}"
    expected = path.read_text(encoding="utf-8")
    assert text == expected, f"{path.name} differs (RETZ_GOLDEN=write rewrites it):\n{text}"
