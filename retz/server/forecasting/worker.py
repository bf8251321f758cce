"""The process that looks ahead: ``python -m retz.server.forecasting.worker``.

Reads requests from its standard input and writes answers to its standard output, one at a time, at the lowest
priority. It ends when its input does, and so with the server.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from typing import BinaryIO

from msgspec.structs import replace

from retz.scheduler.forecast import forecast, futures
from retz.scheduler.outlook import outlook
from retz.scheduler.situation import Situation
from retz.scheduler.spread import cooked

from ..frames import frame, read
from .wire import PORTION, End, Portion, Request, decode_request

LONGEST_S = 60
"""A request that takes longer ends the process, whoever waits for it or does not any more."""

GC_THRESHOLDS = (10_000, 20, 100)
"""Passes leave cycles behind, small ones and soon: looking at all that lives is seldom worth it."""


def main() -> None:
    """Answer until nobody asks any more."""
    os.nice(19)
    gc.set_threshold(*GC_THRESHOLDS)
    reading, writing = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints does not disturb the answers
    while (body := read(reading)) is not None:
        signal.alarm(LONGEST_S)  # the server kills earlier, if it lives
        _answer(decode_request(body), writing)
        writing.flush()
        signal.alarm(0)
        del body
        gc.collect()


def _answer(request: Request, writing: BinaryIO) -> None:
    began = time.monotonic()
    raw = request.situation
    situation: Situation = replace(raw, spreads=[cooked(past) for past in raw.spreads])
    runs = []
    for future in futures(situation, request.futures):
        runs.append(future)
        if time.monotonic() - began > request.seconds:
            break
    if situation.probe:
        writing.write(frame(End(futures=len(runs), outlook=outlook(situation, runs))))
        return
    found = forecast(situation, runs)
    jobs = list(found.jobs.items())
    for start in range(0, len(jobs), PORTION):
        writing.write(frame(Portion(jobs[start : start + PORTION])))
    writing.write(frame(End(rate=found.rate, until=found.until, futures=found.futures)))


if __name__ == "__main__":
    main()
