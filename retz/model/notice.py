"""News of a job that somebody outside is told, and what became of telling it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from .job import OffPathKind

EventKind = Literal["ended", "off_path"]
"""What there is to tell of a job: that it is over, or that it left the path of its past runs."""

_NAMES = ("ended", "off_path/slower", "off_path/hungrier", "off_path")
"""What a job's notices are called; the last one is that of older servers, which told of one kind only."""

NoticeState = Literal["waiting", "delivered", "given-up"]


class Notice(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One piece of news for one URL. The URL itself is in the job's record: it may hold a secret.

    Attributes:
        id: ``<job>/<event>``, ``<job>/off_path/<kind>``. Never used again: by it a receiver knows what it was told
            before.
        event: What it tells of the job.
        kind: How it left its path, if it tells of that.
        owner: Access key of the job's user.
        receiver: Scheme, host and port of the URL.
        at: When there was something to tell.
        done: When it was delivered or given up.
        tries: Calls that it took, or that failed; counted from the server's last start.
        error: What was wrong with the last call, None if nothing.
    """

    id: str
    event: EventKind = "ended"
    kind: OffPathKind | None = None
    owner: str
    receiver: str
    at: float
    state: NoticeState = "waiting"
    done: float | None = None
    tries: int = 0
    error: str | None = None

    @property
    def job(self) -> int:
        """Which job it is about."""
        return int(self.id.partition("/")[0])


def notice_id(job_id: int, event: EventKind, kind: OffPathKind | None = None) -> str:
    """The id of this news of this job."""
    return f"{job_id}/{event}" if kind is None else f"{job_id}/{event}/{kind}"


def notice_ids(job_id: int) -> list[str]:
    """The ids of all that there may be to tell of a job."""
    return [f"{job_id}/{name}" for name in _NAMES]
