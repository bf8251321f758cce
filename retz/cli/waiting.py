"""Waiting for jobs, and what their ends mean as an exit code."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from retz.client import calls
from retz.client.retry import Backoff

from .app import App
from .errors import RUN_FAILED
from .output import is_terminal

ENDED = ("FINISHED", "FAILED", "KILLED")
_CODES = {
    "timeout": 124,
    "oom": 137,
    "disk": 137,
    "start": 127,
    "lost": RUN_FAILED,
    "fetch": RUN_FAILED,
    "image": RUN_FAILED,
    "dependency": RUN_FAILED,
    "max_fails": RUN_FAILED,
    "tasks": 1,
}
_LONG_POLL_S = 30.0
_REDRAW_S = 0.2


def exit_code_of(job: dict[str, Any]) -> int:
    """Return the exit code that stands for a job's end (docs/cli.md, "Exit codes")."""
    if job["state"] == "FINISHED":
        return 0
    if job.get("reason") in _CODES:
        return _CODES[job["reason"]]
    if job.get("signal"):
        return 128 + int(job["signal"])
    return int(job.get("exit_code") or 0) or 130


def wait_for(app: App, ids: list[int]) -> tuple[list[dict[str, Any]], int]:
    """Wait until all have ended, with a progress line on a terminal; return the jobs and the worst exit code.

    Survives restarts of the server.
    """
    jobs, code = [], 0
    with Progress("jobs", len(ids)) as progress:
        for number in ids:
            job = _wait(app, number)
            jobs.append(job)
            code = max(code, exit_code_of(job))
            progress.advance(1)
    return jobs, code


def _wait(app: App, number: int) -> dict[str, Any]:
    while True:
        backoff = Backoff(app.config.server_retry, refused_limit_s=None)
        job: dict[str, Any] = app.transport.call(calls.wait(number, _LONG_POLL_S), backoff)
        if job["state"] in ENDED:
            return job


class Progress:
    """A line on stderr that says how far something is; silent where nobody looks.

    Args:
        unit: ``jobs`` or ``bytes``.
        total: 0 if it is not known.
    """

    def __init__(self, unit: str, total: int, stream: TextIO | None = None) -> None:
        self._unit = unit
        self._total = total
        self._stream = stream or sys.stderr
        self._done = 0
        self._drawn = 0.0
        self._began = time.monotonic()
        self._shown = is_terminal(self._stream) and (unit == "bytes" or total > 1)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._draw()
            print(file=self._stream)

    def advance(self, count: int) -> None:
        """So much more is done."""
        self._done += count
        if self._shown and time.monotonic() - self._drawn > _REDRAW_S:
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        share = self._done / self._total if self._total else 0.0
        filled = round(share * 30)
        bar = "▓" * filled + "·" * (30 - filled) + f" {share:4.0%}  " if self._total else ""
        print(f"\r{bar}{self._text()}\033[K", end="", file=self._stream, flush=True)

    def _text(self) -> str:
        if self._unit != "bytes":
            return f"{self._done} of {self._total} {self._unit} ended"
        rate = self._done / max(self._drawn - self._began, 0.001)
        return f"{self._amount(self._done)}  {self._amount(rate)}/s"

    def _amount(self, value: float) -> str:
        for unit in ("B", "kB", "MB", "GB"):
            if value < 1000:
                return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
            value /= 1000
        return f"{value:.1f} TB"
