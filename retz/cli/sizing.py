"""What past runs say about the size of a pipeline's jobs, in words."""

from __future__ import annotations

import shlex
from typing import Any

from retz.model.units import fine_span, format_size

from .output import plural, printable

MOST_STEPS = 8
_SURPRISE = 1.125
"""Who needs so many times what was foretold is followed at once."""


def sized_text(sized: dict[str, Any] | None) -> str:
    """What past runs made of what a job asked for; empty for one that is not sized by them."""
    if sized is None:
        return ""
    asked, runs = _amounts(sized["asked"]), plural(sized["runs"], "past run")
    if sized["mem"] is None:
        return f"not yet, by {runs}: it gets what it asked for, {asked}"
    if sized["outgrew"] is not None:
        return (
            f"{format_size(sized['mem'])} by {runs}, which attempt {sized['outgrew']} outgrew; asked for were {asked}"
        )
    return f"by {runs}; asked for were {asked}"


def submitted_text(job: dict[str, Any]) -> str:
    """What a job that has just been submitted with ``--predicted`` got."""
    return f"job {job['id']} gets {_amounts(job['resources'])}: predicted {sized_text(job.get('sized'))}"


def size_lines(pipeline: str, sizes: dict[str, Any]) -> list[str]:
    """A few lines for each step: what is asked for, what would be, why, and how sure that is."""
    steps = sizes["steps"]
    lines: list[str] = []
    for step in steps[:MOST_STEPS]:
        lines += ["", f"{printable(step['step'] or 'jobs')}: {_change(step)}"]
        if step["given"] is not None:
            lines += [f"  why: {_why(step)}", f"  how sure: {_sure(step)}"]
    if len(steps) > MOST_STEPS:
        lines += ["", f"... and {plural(len(steps) - MOST_STEPS, 'more step')}: --json lists them"]
    if any(step["given"] is not None for step in steps):
        lines += ["", f"ask for it: retz run --pipeline {printable(shlex.quote(pipeline))} --predicted ..."]
        lines.append("A job that is killed for memory under such a size runs once more with what it asked for.")
    return lines


def _change(step: dict[str, Any]) -> str:
    asked, given = step["asked"], step["given"]
    if given is None:
        runs = f"{plural(step['measured'], 'run')} measured so far, {step['needed']} are needed"
        return f"{runs}: --predicted gives what is asked for ({_amounts(asked)})"
    return f"asks for {_amounts(asked)}; --predicted gives {_amounts(given)}{_saved(step)}"


def _amounts(amounts: dict[str, Any]) -> str:
    return f"{format_size(amounts['mem'])}, {amounts['cpus']:g} cpu{'s' * (amounts['cpus'] != 1)}"


def _saved(step: dict[str, Any]) -> str:
    less = step["asked"]["mem"] - step["given"]["mem"]
    if less <= 0:
        return f": {format_size(-less)} more, because it needs that" if less else ""
    seconds = step["duration_s"] or 0.0
    during = f" for {fine_span(seconds)} of each run" if seconds >= 0.1 else ""
    return f": {format_size(less)} free for others{during}"


def _why(step: dict[str, Any]) -> str:
    """How the limit came about."""
    held = f"by {plural(step['measured'], 'run')} the next should peak at about {_size(step['expected_mb'])}"
    reasons = [f"runs stray by {step['spread']:.0%}"] if step["spread"] >= 0.005 else []
    if abs(step["growth"]) >= 0.001:
        reasons.append(f"they {'grow' if step['growth'] > 0 else 'shrink'} by {abs(step['growth']):.1%} each")
    period, often = step.get("period", 0), step.get("covered", 0)
    if period:
        reasons.append(f"peaks recur every {period} runs")
    last = (step["past"][-1:] or [{}])[0].get("peak_mb") or 0.0
    if last > step["expected_mb"] * _SURPRISE and not period:
        reasons.append(f"but the last needed {_size(last)}")
    if step["stage"] < step["measured"]:
        reasons.append(f"a new level began {plural(step['stage'], 'run')} ago")
    if step["outliers"]:
        many = step["outliers"] > 1
        reasons.append(f"{plural(step['outliers'], 'run')} far above it {'are' if many else 'is'} not covered")
    if often:
        reasons.append(
            f"{plural(often, 'run')} far above it, which may come again, {'are' if often > 1 else 'is'} covered"
        )
    if step["busy_cpus"] is not None:
        reasons.append(_busy(step["busy_cpus"]))
    return "; ".join([held, *reasons])


def _busy(cpus: float) -> str:
    if not cpus:
        return "hardly a cpu was busy"
    return f"at most {cpus:g} {'cpu was' if cpus == 1 else 'cpus were'} busy"


def _sure(step: dict[str, Any]) -> str:
    """How earlier limits would have done."""
    tested = [past for past in step["past"] if past["limit_mb"] is not None and past["peak_mb"]]
    if not tested:
        return "nobody knows yet: no run came after enough others"
    killed = sum(past["peak_mb"] > past["limit_mb"] for past in tested)
    above = [past["limit_mb"] / past["peak_mb"] - 1 for past in tested if past["peak_mb"] <= past["limit_mb"]]
    if len(tested) == 1:
        return (
            "it would have killed the last run"
            if killed
            else f"it would have given the last run {above[0]:.0%} more than it held"
        )
    text = f"of the last {len(tested)} runs it would have killed {killed or 'none'}"
    if above:
        others = "the others" if killed else "them"
        text += f", and given {others} {sum(above) / len(above):.0%} more than they held"
    return text


def _size(mb: float) -> str:
    return format_size(round(mb)) if mb >= 1 else f"{mb:.2g} MiB"
