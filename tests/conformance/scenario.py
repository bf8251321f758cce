"""What the replay of a recording is told: the cluster it asks, what happens beside the requests, what may differ."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.conformance import wire
from tests.conformance.recording import Entry, Kind

if TYPE_CHECKING:
    from tests.conformance.replay import Replay


class NotPossible(Exception):
    """A step asks for something this cluster cannot be made to do; the text says what."""


class Target(Protocol):
    """The cluster that is asked.

    Attributes:
        scale: What a recorded second lasts here.
        work_dir: The work directory of agent 1.
    """

    scale: float
    work_dir: str

    def address(self, port: int) -> wire.Address:
        """Where the server listens that was recorded on a port.

        Raises:
            NotPossible: There is none.
        """

    async def leave(self, frameworks: set[str]) -> None:
        """Leave the cluster as it was found: these frameworks end."""


Action = Callable[["Replay"], Awaitable[None]]
"""A step; it gets the replay."""


@dataclass(frozen=True)
class Scenario:
    """What a recording needs beside its requests.

    Attributes:
        steps: What is done before the entry whose text (time, stream, kind, title) matches; each once, in order.
        edits: What is replaced in requests (patterns), so that tasks take the time they took then.
        patience: The longest idle time that is kept, in recorded seconds.
        free_offers: What is free at a moment is chance: only offers that a request names are looked for.
        missing: What the double has not, so that only a real cluster can be asked.
        skip: Entries whose text matches are left out.
        shaped: Answers to requests whose title matches are compared in their shape only, not value by value.
        history: The recorded cluster had run other things before: what tells all of it is compared in its shape.
        growing: The file that these requests read grows; only as much is compared as was there both times.
        unordered: Events of different kinds may come in any order.
    """

    steps: tuple[tuple[str, Action], ...] = ()
    edits: tuple[tuple[str, str], ...] = ()
    patience: float = 3.0
    free_offers: bool = False
    missing: str | None = None
    skip: str | None = None
    shaped: str | None = None
    history: bool = False
    growing: str | None = None
    unordered: bool = False


def duplicates_first(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Updates that came twice within milliseconds are acknowledged when both are there."""
    found = list(entries)
    for request in entries:
        uuid = re.search(rb'"uuid": ?"([^"]+)"', request.raw) if request.kind is Kind.REQUEST else None
        if uuid is not None:
            place = found.index(request)
            twins = [e for e in found[place:] if _is_twin(e, uuid[1], request.at + 0.05)]
            rest = [e for e in found[place:] if e not in twins]
            found[place:] = [*twins, *rest]
    return tuple(found)


def _is_twin(entry: Entry, uuid: bytes, until: float) -> bool:
    return entry.kind is Kind.CHUNK and entry.at <= until and uuid in entry.raw


def matches(pattern: str | None, entry: Entry) -> bool:
    """Whether the pattern, if there is one, is in the entry's title."""
    return pattern is not None and re.search(pattern, entry.title) is not None


def caption(entry: Entry) -> str:
    """What steps and exceptions recognise an entry by: time, stream, kind, title."""
    return " ".join([f"{entry.at:.3f}", *([entry.stream] if entry.stream else []), entry.kind.value, entry.title])
