"""Conditions on jobs beyond equality: ``gpus>0``, ``wait>=10m``, ``!user=ann``, ``name~sweep``. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Literal, cast

from msgspec import Struct

from retz.model.job import STATES, Job
from retz.model.units import parse_duration, parse_size

MAX_CONDITIONS = 32
MAX_LENGTH = 200
AGES = ("wait", "run")
"""Fields whose value depends on when one asks."""

Operator = Literal["<", "<=", "=", "!=", ">=", ">", "~"]

_TERM = re.compile(r"(!?)([a-z]+)(<=|>=|!=|<|>|=|~)(.*)", re.DOTALL)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}

Check = Callable[[Job], bool]
"""Whether a job is wanted."""


class Condition(Struct, frozen=True):
    """One condition.

    Attributes:
        inverted: Wanted are the jobs that do not fulfil it.
    """

    field: str
    operator: Operator
    value: str | float
    inverted: bool = False


def parse_condition(text: str) -> Condition:
    """``!FIELD OPERATOR VALUE`` without spaces between.

    Raises:
        ValueError: what is wrong and what would be right.
    """
    match = _TERM.fullmatch(text)
    if match is None or len(text) > MAX_LENGTH:
        raise ValueError(f"{text[:40]!r} is no condition; say FIELD<VALUE, with one of < <= = != >= > ~ between")
    bang, field, sign, value = cast("tuple[str, str, Operator, str]", match.groups())
    if field in _NUMBERS:
        if sign == "~":
            raise ValueError(f"{field} is a number: compare it with < <= = != >= >")
        return Condition(field, sign, _number(field, value), bool(bang))
    if field not in _TEXTS:
        raise ValueError(f"there is no field {field[:40]!r}; say one of {', '.join((*_NUMBERS, *_TEXTS))}")
    if sign not in ("=", "!=", "~"):
        raise ValueError(f"{field} is a text: compare it with = (is), != (is not) or ~ (contains)")
    if field == "state":
        value = _state(value, sign)
    return Condition(field, sign, value.lower() if sign == "~" else value, bool(bang))


def _state(text: str, sign: str) -> str:
    if sign != "~" and text.upper() not in STATES:
        raise ValueError(f"there is no state {text[:40]!r}; say one of {', '.join(STATES)}")
    return text.upper()


def _number(field: str, text: str) -> float:
    parse = _UNITS.get(field, float)
    try:
        number = parse(text)
    except ValueError:
        number = float("nan")
    if number != number:
        example = {"mem": "8g", "disk": "8g", "wait": "10m", "run": "10m"}.get(field, "4")
        raise ValueError(f"{text[:40]!r} is no amount of {field}; say {example}, for instance")
    return number


def _seconds(text: str) -> float:
    return parse_duration(text, bare_unit="s")


_UNITS: dict[str, Callable[[str], float]] = {"mem": parse_size, "disk": parse_size, "wait": _seconds, "run": _seconds}


def _wait(job: Job, now: float) -> float:
    started = job.started
    return (started if started is not None else now if job.ended is None else job.ended) - job.submitted


def _run(job: Job, now: float) -> float | None:
    started = job.started
    return None if started is None else (now if job.ended is None else job.ended) - started


def _array(job: Job) -> tuple[str, ...]:
    """The array that it is, or is a task of."""
    number = job.array_id if job.array is None else job.id
    return () if number is None else (str(number),)


def _command(job: Job) -> str:
    return job.command if isinstance(job.command, str) else " ".join(job.command)


_AMOUNTS = {
    "cpus": "resources.cpus",
    "mem": "resources.mem",
    "disk": "resources.disk",
    "gpus": "resources.gpus",
    "ports": "resources.ports",
    "priority": "priority",
}
"""Numbers that every job has, by where they stand in its record."""
_MAYBE: dict[str, Callable[[Job, float], float | None]] = {
    "exit": lambda job, now: job.exit_code,
    "wait": _wait,
    "run": _run,
}
"""Numbers that a job may not have yet, or that depend on the time."""
_NUMBERS = (*_AMOUNTS, *_MAYBE)
_TEXTS: dict[str, Callable[[Job], tuple[str, ...]]] = {
    "state": lambda job: (job.shown_state,),
    "user": lambda job: (job.owner,),
    "application": lambda job: (job.application,),
    "name": lambda job: (job.name,),
    "pipeline": lambda job: (job.pipeline or "",),
    "tag": lambda job: job.tags,
    "group": lambda job: (job.group,),
    "array": lambda job: _array(job),
    "kind": lambda job: ("array" if job.array is not None else "job" if job.array_id is None else "task",),
    "command": lambda job: (_command(job),),
    "text": lambda job: (job.name, _command(job)),
    "agent": lambda job: (job.attempts[-1].agent,) if job.attempts else (),
}
"""Each field's texts; a condition holds if it holds for one of them, ``!=`` if ``=`` does not."""


def check_of(condition: Condition, now: float) -> Check:
    """The function that says whether a job fulfils the condition at a time. It is asked of 100 000 jobs at a go."""
    if condition.field in _AMOUNTS:
        plain = _amount_check(condition)
    elif condition.field in _MAYBE:
        plain = _maybe_check(condition, now)
    else:
        plain = _text_check(condition)
    return (lambda job: not plain(job)) if condition.inverted else plain


def _amount_check(condition: Condition) -> Check:
    amount, compare, wanted = attrgetter(_AMOUNTS[condition.field]), _COMPARE[condition.operator], condition.value
    return lambda job: compare(amount(job), wanted)


def _maybe_check(condition: Condition, now: float) -> Check:
    amount, compare, wanted = _MAYBE[condition.field], _COMPARE[condition.operator], condition.value

    def check(job: Job) -> bool:
        have = amount(job, now)
        return have is not None and compare(have, wanted)

    return check


def _text_check(condition: Condition) -> Check:
    texts, wanted = _TEXTS[condition.field], str(condition.value)
    if condition.operator == "~":
        wanted = wanted.lower()
        return lambda job: any(wanted in text.lower() for text in texts(job))
    equal = condition.operator == "="
    return lambda job: (wanted in texts(job)) is equal
