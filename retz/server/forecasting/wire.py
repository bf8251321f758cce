"""Messages between server and forecast worker, in :mod:`retz.server.frames`.

A request is one frame. The answer to one is some frames of foreseen jobs, so that reading them never holds the server's
loop, and a last one with the rest.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from retz.scheduler.forecast import Foreseen
from retz.scheduler.outlook import Outlook
from retz.scheduler.situation import Situation

PORTION = 1000
"""Foreseen jobs in one frame: half a millisecond to decode."""

MAX_FRAME = 16 << 20


class Request(Struct, array_like=True):
    """What is asked.

    Attributes:
        futures: At most so many.
        seconds: No further future is begun after so long.
    """

    situation: Situation
    futures: int
    seconds: float


class Portion(Struct, tag="jobs", array_like=True):
    """Some of the answer."""

    jobs: list[tuple[int, Foreseen]]


class End(Struct, tag="end", array_like=True):
    """The rest of it; see :class:`retz.scheduler.forecast.Forecast`.

    Attributes:
        outlook: Of the probe, if there was one.
        fault: What went wrong, in a line.
    """

    rate: float = 0.0
    until: float | None = None
    futures: int = 0
    outlook: Outlook | None = None
    fault: str = ""


decode_request = msgspec.msgpack.Decoder(Request).decode
decode_answer = msgspec.msgpack.Decoder(Portion | End).decode
