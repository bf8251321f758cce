"""How states are shown: glyph, word and style, so that nothing hangs on colour alone."""

from __future__ import annotations

from typing import NamedTuple

from retz.client.types import Job


class Look(NamedTuple):
    """Glyph, word, and the name of the style (see ``retz.tcss``)."""

    glyph: str
    word: str
    style: str


LOOKS = {
    "CREATED": Look("◌", "created", "queued"),
    "QUEUED": Look("◌", "queued", "queued"),
    "STARTING": Look("◔", "starting", "starting"),
    "STARTED": Look("●", "started", "started"),
    "FINISHED": Look("✔", "finished", "finished"),
    "FAILED": Look("✘", "failed", "failed"),
    "KILLED": Look("■", "killed", "killed"),
}
AGENTS = {
    "active": ("●", "started"),
    "unreachable": ("✘", "failed"),
    "draining": ("◍", "warn"),
    "deactivated": ("⊘", "warn"),
    "gone": ("·", "dim"),
}
HELD = Look("‖", "held", "held")
ENDING = Look("◍", "ending", "killed")


def look_of(job: Job) -> Look:
    """How the job's state is shown."""
    if job.state == "QUEUED" and job.held:
        return HELD
    if job.kill_requested is not None and not job.over:
        return ENDING
    return LOOKS[job.state]


def agent_state(state: str) -> tuple[str, str]:
    """Glyph and style of an agent's state."""
    return AGENTS.get(state, ("◌", "warn"))


def state_text(job: Job) -> str:
    """Glyph and word, and for a failed job why: ``✘ failed oom``, ``✘ failed 3``."""
    look = look_of(job)
    detail = ""
    if job.state == "FAILED":
        detail = str(job.exit_code) if job.reason == "exit" else (job.reason or "")
    return f"{look.glyph} {look.word} {detail}".rstrip()
