"""Messages between server and worker, in :mod:`retz.server.frames`."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from retz.scheduler.plugin import Choice, Situation

MAX_ANSWER = 256 << 10
"""A plan is a few hundred choices of 30 bytes; what is longer is no plan, and would hold the server's loop."""


class Answer(Struct, array_like=True):
    """What the worker says: that it is ready (nothing), a plan, or what went wrong.

    Attributes:
        fault: Kind of fault: ``load`` or ``raised``; empty if all is well.
        text: What went wrong, in a line.
        trace: Where in the planner's code.
    """

    choices: list[Choice] = []
    fault: str = ""
    text: str = ""
    trace: str = ""


decode_answer = msgspec.msgpack.Decoder(Answer).decode
decode_situation = msgspec.msgpack.Decoder(Situation).decode
