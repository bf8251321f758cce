"""Plain counts since the server's start, for metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counters:
    """Only ever incremented, on the event loop's thread."""

    submitted: int = 0
    launched: int = 0
    finished: int = 0
    failed: int = 0
    killed: int = 0
    lost: int = 0
    retried: int = 0
    archived: int = 0
