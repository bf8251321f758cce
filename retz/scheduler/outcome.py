"""Why a job ended, in one plain sentence that says what to do next: a table of reasons."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Sequence
from typing import NamedTuple

from retz.model.job import Attempt, Job, OffPath, Reason
from retz.model.units import fine_span, format_size

from .waits import span

LAST_RUNS = 10
"""Of so many runs of its step a sentence tells."""
_PLENTY = 0.5
"""Who used less than this part of the memory that was asked for could ask for less."""
_WORTH_MB = 256


class Past(NamedTuple):
    """What is known of the runs before of its pipeline's step, newest last.

    Attributes:
        peaks: MiB that each of them held at most.
        durations: Seconds that those which ended well took.
        limit_mb: What ``--predicted`` would give; None while too little is known.
    """

    pipeline: str
    peaks: Sequence[float] = ()
    durations: Sequence[float] = ()
    limit_mb: float | None = None


class _Facts(NamedTuple):
    job: Job
    past: Past | None
    most_mb: int | None

    @property
    def ran(self) -> str:
        """``after 12s``, or that it never ran."""
        job = self.job
        if job.started is None or job.ended is None:
            return "before it was started"
        return f"after {fine_span(job.ended - job.started)}"

    @property
    def given(self) -> int:
        attempt = self.job.attempt
        return (self.job.resources if attempt is None else self.job.given(attempt)).mem

    @property
    def peak(self) -> float:
        return max((a.usage.max_rss_mb for a in self.job.attempts if a.usage is not None), default=0.0)


def ended(job: Job, past: Past | None = None, most_mb: int | None = None) -> str:
    """The sentence; never empty.

    Args:
        job: One that has ended.
        past: Of its pipeline's step, without the job itself.
        most_mb: Memory of the largest machine.
    """
    facts = _Facts(job, past, most_mb)
    if job.state == "FINISHED":
        return _join("finished", _finished(facts))
    if job.reason is None:
        return _join("failed" if job.state == "FAILED" else "killed", [job.message or "why is not known"])
    return _join(_head(job), TABLE[job.reason](facts))


def strayed(job: Job) -> str:
    """How a job left the path of its step's past runs; empty if it did not."""
    return "; ".join(map(_strayed, job.off_path))


def _strayed(how: OffPath) -> str:
    if how.kind == "slower":
        return f"slower than usual: {fine_span(how.value)}, in 9 of 10 runs at most {fine_span(how.usual)}"
    if how.after_s is None:
        return f"hungrier than usual: {_size(how.value)}, in 9 of 10 runs at most {_size(how.usual)}"
    then = f"{_size(how.value)} after {span(how.after_s)}"
    return f"hungrier than usual: {then}, in 9 of 10 runs at most {_size(how.usual)} then"


def _join(head: str, parts: Sequence[str]) -> str:
    said = "; ".join(filter(None, parts))
    return f"{head}: {said}" if said else head


def _head(job: Job) -> str:
    if job.reason == "exit":
        detail = f"exit {job.exit_code}"
    elif job.reason == "signal":
        detail = _signal(job.signal)
    else:
        detail = str(job.reason)
    if job.state == "KILLED":
        return "killed" if job.reason == "user" else f"killed ({detail})"
    return f"failed ({detail})"


def _signal(number: int | None) -> str:
    try:
        return f"signal {number}, {signal.Signals(number or 0).name}"
    except ValueError:
        return f"signal {number}"


def _stderr(job: Job) -> str:
    return f"what it said last: 'retz get-file --path stderr {job.id}'"


# -- ended well ----------------------------------------------------------------------------------------------------


def _finished(facts: _Facts) -> list[str]:
    job, used = facts.job, _used(facts.job.attempt)
    if job.array is not None:
        return [f"all {job.array.size} tasks ended well"]
    parts = [" ".join(filter(None, (facts.ran.replace("after", "in"), used)))]
    asked, sized = job.resources.mem, job.sized
    if sized is not None and sized.mem is not None:  # --predicted need not be told of itself
        outgrown = (
            f"it outgrew the {format_size(sized.mem)} predicted for it and ran once more with {format_size(asked)}"
        )
        return [*parts, outgrown] if sized.outgrew is not None else parts
    if facts.peak and facts.peak < asked * _PLENTY and asked - facts.peak >= _WORTH_MB:
        if facts.past is not None and facts.past.limit_mb is not None:
            parts.append("--predicted would ask for what its runs need")
        else:
            parts.append(f"--mem {_option(facts.peak * 1.3)} would do")
    return parts


def _used(attempt: Attempt | None) -> str:
    usage = attempt.usage if attempt is not None else None
    if attempt is None or usage is None or attempt.started is None or attempt.ended is None:
        return ""
    ran = attempt.ended - attempt.started
    cpus = f"{usage.cpu_s / ran:.1f} cpus busy" if ran >= 1 and usage.cpu_s else ""
    mem = f"{format_size(math.ceil(usage.max_rss_mb))} memory at most" if usage.max_rss_mb else ""
    return ", ".join(filter(None, (f"with {cpus}" if cpus else "", mem if cpus else f"with {mem}" if mem else "")))


# -- reasons -------------------------------------------------------------------------------------------------------

_CODES = {
    126: "the shell could not execute what it names: is it executable?",
    127: "the shell did not find what it names: is it installed there, and on the PATH?",
}


def _exit(facts: _Facts) -> list[str]:
    job, code = facts.job, facts.job.exit_code or 0
    hint = _CODES.get(code, "")
    if 128 < code < 160:
        hint = f"that is how a shell tells of {_signal(code - 128)}"
        hint += ", which often means that memory ran out" if code == 137 else ""
    return [f"its command gave up {facts.ran}", hint, _stderr(job)]


def _by_signal(facts: _Facts) -> list[str]:
    job = facts.job
    hint = "often the machine ran out of memory" if job.signal == signal.SIGKILL else ""
    return [f"ended {facts.ran} by a signal that Retz did not send", job.message or "", hint, _stderr(job)]


def _oom(facts: _Facts) -> list[str]:
    given, peak, past = facts.given, facts.peak, facts.past
    used, asked = _apart(peak, given)
    what = "predicted for it" if _was_predicted(facts.job) else "it asked for"
    first = f"used {used} of the {asked} {what}" if peak > given else f"needed more than the {asked} {what}"
    return [first, _past_peaks(past, given) if past is not None else "", _more_memory(facts)]


def _was_predicted(job: Job) -> bool:
    return job.sized is not None and job.sized.mem is not None and job.sized.outgrew is None


def _past_peaks(past: Past, given: int) -> str:
    last = past.peaks[-LAST_RUNS:]
    if not last:
        return ""
    above = sum(peak > given for peak in last)
    runs = f"the last {len(last)} runs" if len(last) > 1 else "its last run"
    if above:
        return f"pipeline {past.pipeline} peaked at up to {_size(max(last))} in {above} of {runs}"
    return f"pipeline {past.pipeline} peaked at {_size(max(last))} at most in {runs}"


def _more_memory(facts: _Facts) -> str:
    given, past, most = facts.given, facts.past, facts.most_mb
    wanted = max(given * 1.25, facts.peak * 1.2)
    if past is not None:
        wanted = max(wanted, past.limit_mb or 0.0, *(peak * 1.05 for peak in past.peaks[-LAST_RUNS:]), 0.0)
    if most is not None and given >= most:
        return "no machine here has more: let it use less, or divide its work"
    return f"try --mem {_option(wanted if most is None else min(wanted, most), most)}"


def _disk(facts: _Facts) -> list[str]:
    asked = facts.job.resources.disk
    told = facts.job.message or f"wrote more than the {format_size(asked)} of disk it asked for"
    return [told, f"try --disk {_option(asked * 2)}" if asked else "try --disk SIZE, or let it write less"]


def _timeout(facts: _Facts) -> list[str]:
    limit, past = facts.job.timeout_s or 0.0, facts.past
    last = past.durations[-LAST_RUNS:] if past is not None else ()
    told = ""
    if past is not None and last:
        runs = f"{len(last)} runs" if len(last) > 1 else "one run"
        told = f"pipeline {past.pipeline} took up to {span(max(last))} in {runs} that ended well"
    wanted = max([2 * limit, *(1.5 * seconds for seconds in last)])
    return [f"ran into its time limit of {span(limit)}", told, f"try --timeout {math.ceil(wanted)}s, or give it less"]


def _start(facts: _Facts) -> list[str]:
    job = facts.job
    return [job.message or "its command could not be started", f"see its command with 'retz get-job {job.id}'"]


def _fetch(facts: _Facts) -> list[str]:
    job = facts.job
    told = job.message or "a file of its application could not be fetched"
    return [told, f"check 'retz get-app -A {job.application}', then 'retz resubmit {job.id}'"]


def _image(facts: _Facts) -> list[str]:
    job = facts.job
    told = job.message or "its container image could not be had"
    return [told, f"check 'retz get-app -A {job.application}', then 'retz resubmit {job.id}'"]


def _user(facts: _Facts) -> list[str]:
    job = facts.job
    told = (job.message or "by a user").removeprefix("killed ")
    return [f"{told} {facts.ran}", f"to have it again: 'retz resubmit {job.id}'"]


def _dependency(facts: _Facts) -> list[str]:
    job = facts.job
    awaited = ", ".join(map(str, job.after[:3])) or "those it waited for"
    told = job.message or "a job that it waited for did not end well: it was not started"
    return [told, f"see 'retz why {job.after[0]}'" if len(job.after) == 1 else f"see jobs {awaited}",
            f"then 'retz resubmit {job.id}'"]  # fmt: skip


def _max_fails(facts: _Facts) -> list[str]:
    job = facts.job
    told = job.message or "too many others of its group failed: it was not started"
    where = f"--group {job.group}" if job.group else f"--array {job.array_id or job.id}"
    return [told, f"see 'retz list --state FAILED {where}'"]


def _tasks(facts: _Facts) -> list[str]:
    job = facts.job
    return [job.message or "some of its tasks did not end well", f"see 'retz list --state FAILED --array {job.id}'"]


def _lost(facts: _Facts) -> list[str]:
    job = facts.job
    told = job.message or f"its machine was lost {job.losses} times"
    return [told, f"more often than --retries {job.max_retries} bears", f"to have it again: 'retz resubmit {job.id}'"]


TABLE: dict[Reason, Callable[[_Facts], list[str]]] = {
    "exit": _exit,
    "signal": _by_signal,
    "oom": _oom,
    "disk": _disk,
    "timeout": _timeout,
    "start": _start,
    "fetch": _fetch,
    "image": _image,
    "user": _user,
    "dependency": _dependency,
    "max_fails": _max_fails,
    "tasks": _tasks,
    "lost": _lost,
}


# -- amounts -------------------------------------------------------------------------------------------------------


def _size(mib: float) -> str:
    return format_size(max(1, round(mib)))


def _apart(used: float, asked: int) -> tuple[str, str]:
    """Both as texts that differ, if the amounts do."""
    texts = _size(used), format_size(asked)
    return texts if texts[0] != texts[1] or used <= asked else (f"{math.ceil(used)}M", f"{asked}M")


def _option(mib: float, most: int | None = None) -> str:
    """An amount as one would type it, rounded up: ``2600m``, ``12g``; not above ``most``."""
    step = 1 if mib < 100 else 100 if mib < 10_000 else 1024
    whole = math.ceil(mib / step) * step
    if most is not None and whole > most:
        return f"{most}m"
    return f"{whole // 1024}g" if whole % 1024 == 0 else f"{whole}m"
