"""What became of a job, in sentences that say what to do next."""

from __future__ import annotations

import signal
from datetime import datetime
from typing import Literal

from retz.client.types import Job, OffPath, Series, Sizes, StepSize, Why

from .columns import seconds
from .text import amount, duration, memory, printable


def sentence(job: Job, why: Why | None, used: Series | None, now: float) -> str:
    """Why a job waits, how it goes, or why it ended."""
    if job.over:
        # What to ask for next time, the server knows from its past runs.
        return _told(why) if why is not None and job.reason in ("oom", "timeout") else ended(job)
    if job.kill_requested is not None:
        asked = duration(now - job.kill_requested.timestamp())
        return f"It was told to end {asked} ago; what runs {amount(job.kill_grace_s)} s after that is ended by force."
    if job.state == "QUEUED":
        return waiting(job, why, now)
    if job.state == "STARTING":
        return (
            f"On its way to {printable(job.agent or 'its machine')}: its files are fetched and its command is started."
        )
    return running(job, used, now)


def _told(why: Why) -> str:
    """The server's own sentence."""
    return printable(f"{why.summary[:1].upper()}{why.summary[1:]}.")


def off_path(job: Job) -> str:
    """How it left the path of its pipeline's past runs; empty if it did not."""
    return " ".join(map(_off_path, job.off_path))


def _off_path(how: OffPath) -> str:
    if how.kind == "slower":
        return f"It is slower than usual: {duration(how.value)}, in 9 of 10 runs at most {duration(how.usual)}."
    after, then = ("", "") if how.after_s is None else (f" after {duration(how.after_s)}", " then")
    return f"It is hungrier than usual: {memory(how.value)}{after}, in 9 of 10 runs at most {memory(how.usual)}{then}."


_STEPS_TOLD = 3


def given(sizes: Sizes | None) -> str:
    """What the next jobs of a pipeline would be given by its past; empty if nothing is known."""
    known = [step for step in sizes.steps if step.given is not None] if sizes is not None else []
    if not known:
        return ""
    more = f", and {len(known) - _STEPS_TOLD} more" if len(known) > _STEPS_TOLD else ""
    return f"With --predicted the next get: {', '.join(map(_given, known[:_STEPS_TOLD]))}{more}."


def _given(step: StepSize) -> str:
    size, asked = memory(step.given.mem if step.given is not None else 0), memory(step.asked.mem)
    return printable(f"{step.step or 'jobs'} {size}{' as asked' if size == asked else f' instead of {asked}'}")


def waiting(job: Job, why: Why | None, now: float) -> str:
    """Why it is not running."""
    if job.held:
        return "It is held: it does not start before it is released (u)."
    text = (why.summary if why is not None else job.why) or "It waits for its turn."
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    if why is not None and why.ahead:
        ids = ", ".join(map(str, why.ahead_ids[:5]))
        text += f" Ahead of it: {ids}{' and others' if why.ahead > min(5, len(why.ahead_ids)) else ''}."
    if job.losses:
        text += f" It was lost {_times(job.losses)} before{_because(job)}."
    if job.sized is not None and job.sized.outgrew is not None:
        text += f" It needed more than the {memory(job.sized.mem or 0)} that past runs did: it gets what it asked for."
    return printable(text + foreseen(job, "start", now))


def foreseen(job: Job, word: Literal["start", "end"], now: float) -> str:
    """When it starts or ends, as a sentence with a blank before it; empty if nothing is known. Today needs no name."""
    moment = None if job.eta is None else getattr(job.eta, word)
    if moment is None:
        return ""
    local = [when.astimezone() for when in (moment.p50, moment.p90)]
    today = datetime.fromtimestamp(now).date()
    half, most = (when.strftime("%H:%M" if when.date() == today else "%a %H:%M") for when in local)
    return f" It will {word} about {half}" + (f" (by {most} in 9 of 10)." if most != half else ".")


def running(job: Job, used: Series | None, now: float) -> str:
    """How it goes."""
    parts = []
    if job.losses:
        parts.append(f"It was lost {_times(job.losses)} before; {_times(job.max_retries)} are borne.")
    if job.off_path:
        parts.append(off_path(job))
    if used is not None and used.series:
        (cpus, mem), asked = used.series[-1], job.resources
        parts.append(
            f"It uses {amount(cpus)} of {amount(asked.cpus)} cpus and {memory(mem)} of {memory(asked.mem)} memory,"
            f" at most {memory(max(used.max_rss_mb, mem))} so far."
        )
    text = " ".join(parts) or "It runs; what it uses has not been measured yet."
    return text + foreseen(job, "end", now)


def ended(job: Job) -> str:
    """Why it ended, and what one can do."""
    ran = _ran(job)
    if job.state == "FINISHED":
        return f"It ended well{ran}{_peak(job)}."
    told = printable(job.message or "")
    match job.reason:
        case "exit":
            return f"Its command gave up{ran} with exit code {job.exit_code}: its stderr may say why (o)."
        case "signal":
            return f"{_signal(job.signal)} ended it{ran}; it was not sent by Retz. {told}".rstrip()
        case "oom":
            return f"It used more memory than the {memory(job.resources.mem)} it asked for{ran}: submit it with more."
        case "disk":
            return (
                f"It wrote more than the {memory(job.resources.disk)} of disk it asked for{ran}: submit it with more."
            )
        case "timeout":
            limit = duration(job.timeout_s or 0)
            return f"It ran into its time limit of {limit}: submit it with a longer one, or with less to do."
        case "start":
            return f"Its command could not be started: {told or 'look at its stderr'}."
        case "fetch" | "image":
            return f"What it needs could not be fetched: {told or 'look at its stderr'}. Then submit it again."
        case "user":
            return f"It was {told or 'killed by a user'}{ran}."
        case "lost":
            return f"It was lost {_times(job.losses)}, more often than it may be tried again{_because(job)}."
    return told or "It ended."


def _ran(job: Job) -> str:
    begun, over = seconds(job.started), seconds(job.ended)
    return f" after {duration(over - begun)}" if begun is not None and over is not None else " before it was started"


def _peak(job: Job) -> str:
    if job.usage is None or not job.usage.max_rss_mb:
        return ""
    return f", with {memory(job.usage.max_rss_mb)} of its {memory(job.resources.mem)} memory used at most"


def _because(job: Job) -> str:
    last = next((a.message for a in reversed(job.attempts) if a.reason == "lost" and a.message), job.message)
    return f" ({printable(last)})" if last else ""


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _signal(number: int | None) -> str:
    try:
        return f"Signal {number} ({signal.Signals(number or 0).name})"
    except ValueError:
        return f"Signal {number}"
