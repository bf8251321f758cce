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
OFF_PATH = Look("▲", "started", "warn")


def look_of(job: Job) -> Look:
    """How the job's state is shown."""
    if job.state == "QUEUED" and job.held:
        return HELD
    if job.kill_requested is not None and not job.over:
        return ENDING
    if job.state == "STARTED" and job.off_path:
        return OFF_PATH
    return LOOKS[job.state]


def agent_state(state: str) -> tuple[str, str]:
    """Glyph and style of an agent's state."""
    return AGENTS.get(state, ("◌", "warn"))


def state_text(job: Job) -> str:
    """Glyph and word, for a failed job why (``✘ failed oom``), for one off its path how (``▲ started slow``)."""
    look = look_of(job)
    detail = ""
    if job.state == "FAILED":
        detail = str(job.exit_code) if job.reason == "exit" else (job.reason or "")
    elif look is OFF_PATH:
        detail = {"slower": "slow", "hungrier": "big"}.get(job.off_path[0].kind, "") if len(job.off_path) < 2 else "off"
    return f"{look.glyph} {look.word} {detail}".rstrip()
