"""The process in which a planner of a user's own runs: ``python -m retz.server.planners.worker NAME PARENT``.

It reads situations from its standard input and writes plans to its standard output, one at a time. What the planner
prints goes to the server's log. It ends with the server.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import BinaryIO

from retz.engine.local.system import end_with
from retz.planner_loading import load
from retz.scheduler.plugin import Choice, OwnPlanner, Situation

from ..frames import frame, read
from .wire import Answer, decode_situation


def main(name: str, parent: int) -> None:
    """Load the planner, say so, and plan until the server goes."""
    end_with(parent)
    reading, writing = _take_pipes()
    try:
        planner = load(name)
    except Exception as error:  # noqa: BLE001  (anything may go wrong in somebody else's module)
        _send(writing, _fault("load", error))
        return
    _send(writing, Answer())
    while (body := read(reading)) is not None:
        _send(writing, _plan(planner, decode_situation(body)))


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The wire, out of reach of ``print`` and ``input``."""
    reading, writing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return reading, writing


def _plan(planner: OwnPlanner, situation: Situation) -> Answer:
    try:
        return Answer(_choices(planner, situation))
    except Exception as error:  # noqa: BLE001  (see above)
        return _fault("raised", error)


def _choices(planner: OwnPlanner, situation: Situation) -> list[Choice]:
    """As many as can be used: the rest is not even waited for."""
    choices: list[Choice] = []
    jobs = 0
    for each in planner.plan(situation):
        choice = Choice(*each)
        choices.append(choice)
        jobs += choice.jobs
        if jobs >= situation.limit:
            break
    return choices


def _fault(kind: str, error: Exception) -> Answer:
    text = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    return Answer([], kind, text[:500], traceback.format_exc()[-4000:])


def _send(writing: BinaryIO, answer: Answer) -> None:
    try:
        data = frame(answer)
    except (TypeError, OverflowError) as error:  # choices of things that are no numbers and texts
        data = frame(_fault("raised", error))
    writing.write(data)
    writing.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
