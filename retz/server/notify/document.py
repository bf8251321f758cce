"""What is told: one JSON document per notice, and the headers that prove who says so."""

from __future__ import annotations

import hashlib
import hmac

from msgspec import Struct
from msgspec.structs import replace

from retz import __version__
from retz.model.job import Job, OffPathKind
from retz.model.notice import EventKind

from ..http.responses import encode
from ..http.views import JobView, Time, job_of, time_of

LAST_ATTEMPTS = 10
"""Of a job that was tried more often, only so many attempts are told."""
KEY_LABEL = b"retz-webhook"


class Document(Struct, omit_defaults=True):
    """The body of a call. ``id`` is the same at every repetition, and never used for anything else.

    Attributes:
        kind: How the job left its path, of news of that.
    """

    event: EventKind
    id: str
    time: Time
    job: JobView
    kind: OffPathKind | None = None


def document(job: Job, event: EventKind, at: float, notice: str, kind: OffPathKind | None = None) -> bytes:
    """The document, as JSON.

    The job is shown as its owner sees it, but without its environment: that is where people keep secrets.

    Args:
        at: When there was something to tell.
        notice: Its id.
    """
    shown = job_of(replace(job, environment={}, attempts=job.attempts[-LAST_ATTEMPTS:]))
    return encode(Document(event, notice, time_of(at), shown, kind))


def key_of(secret: str) -> bytes:
    """The key that calls are signed with. Whoever has it cannot sign requests to the server with it."""
    return hmac.digest(secret.encode(), KEY_LABEL, "sha256")


def headers(secret: str, event: str, notice: str, body: bytes, now: float) -> dict[str, str]:
    """Headers of a call. The time is signed too, so that a receiver can refuse what was recorded and sent again."""
    stamp = str(int(now))
    signature = hmac.new(key_of(secret), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "User-Agent": f"retz/{__version__}",
        "Retz-Event": event,
        "Retz-Notice": notice,
        "Retz-Signature": f"t={stamp},v1={signature}",
    }
