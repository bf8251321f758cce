"""``--watch``: the same again and again, until interrupted."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from .output import is_terminal

INTERVAL_S = 2.0


def repeat(watch: bool, as_json: bool) -> Iterator[None]:
    """Yield once, or for ever at an interval; a terminal is cleared in between, JSON comes as lines."""
    first = True
    while first or watch:
        if not first:
            time.sleep(INTERVAL_S)
        if watch and is_terminal(sys.stdout) and not as_json:
            print("\033[H\033[2J", end="")
        yield
        sys.stdout.flush()
        first = False
