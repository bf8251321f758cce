"""The filter line: ``state:queued user:ann gpu>0 !sweep`` becomes what the server's list understands."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from retz.model.units import parse_duration, parse_size

STATES = ("QUEUED", "STARTING", "STARTED", "FINISHED", "FAILED", "KILLED")
STATE_WORDS = (*STATES, "LIVE", "ENDED", "ALL")

WORDS = {
    "state": "state", "s": "state", "user": "user", "u": "user", "tag": "tag", "t": "tag", "app": "application",
    "application": "application", "pipeline": "pipeline", "name": "name", "n": "name", "command": "command",
    "cmd": "command", "agent": "agent", "id": "ids", "ids": "ids",
}  # fmt: skip
NUMBERS = {
    "cpu": "cpus", "cpus": "cpus", "mem": "mem", "memory": "mem", "disk": "disk", "gpu": "gpus", "gpus": "gpus",
    "ports": "ports", "pri": "priority", "prio": "priority", "priority": "priority", "exit": "exit", "wait": "wait",
    "waiting": "wait", "run": "run", "running": "run",
}  # fmt: skip
EXAMPLE = {"mem": "mem>8g", "disk": "disk>8g", "wait": "wait>10m", "run": "run>1h"}
HINTS = (
    "state:queued user:ann tag:x gpu>0 wait>10m !not",
    "text  state:queued user:ann tag:x app: name: pipeline:  gpu>0 mem>8g wait>10m  held  !not",
    "text  state:queued user:ann tag:x app: name: command: pipeline: id:12-19  "
    "cpu>1 gpu>0 mem>=8g pri<0 exit>0 wait>10m run>1h  held  !not",
)
"""What can be typed: as much as there is room for."""

_TERM = re.compile(r'(!?)(?:([A-Za-z]+)(<=|>=|!=|<|>|=|:))?("[^"]*"?|\S*)')


class FilterError(ValueError):
    """A term means nothing; the text says what would."""


class Filter(NamedTuple):
    """What a line means.

    Attributes:
        text: The line.
        parameters: For the list: the names of docs/api.md; ``tag`` and ``where`` are lists.
    """

    text: str = ""
    parameters: dict[str, Any] = {}  # noqa: RUF012 (never changed)

    def __bool__(self) -> bool:
        return bool(self.parameters)

    @property
    def bulk(self) -> dict[str, Any]:
        """For actions on many jobs, where states are a list."""
        changed = dict(self.parameters)
        if "state" in changed:
            changed["state"] = changed["state"].split(",")
        return changed


def parse(line: str) -> Filter:
    """What a line means.

    Raises:
        FilterError: naming the term.
    """
    parameters: dict[str, Any] = {}
    for match in _TERM.finditer(line.strip()):
        if match[0]:
            _add(parameters, *match.groups(default=""))
    return Filter(line.strip(), parameters)


def _add(parameters: dict[str, Any], bang: str, word: str, sign: str, raw: str) -> None:
    value = raw.strip('"')
    name = word.lower()
    if name in NUMBERS and sign != ":":
        _where(parameters, bang, f"{NUMBERS[name]}{sign}{_checked(NUMBERS[name], word, sign, value)}")
    elif name in NUMBERS:
        raise FilterError(f"{word} is a number: say {EXAMPLE.get(NUMBERS[name], f'{name}>0')}")
    elif name in WORDS and sign in (":", "=", "!="):
        if value:
            _add_word(parameters, "!" if (bang == "!") is not (sign == "!=") else "", WORDS[name], value)
    elif not word and value.lower() in ("held", "released"):
        parameters["held"] = (value.lower() == "held") is not (bang == "!")
    elif word + sign + value:
        _add_text(parameters, bang, word + sign + value)


def _add_word(parameters: dict[str, Any], bang: str, field: str, value: str) -> None:
    if field == "state":
        _add_states(parameters, bang, value)
    elif field == "ids":
        if bang or not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", value):
            raise FilterError("ids are numbers and ranges: id:12,20-29")
        parameters["ids"] = value
    elif field in ("name", "command", "agent"):
        _where(parameters, bang, f"{field}{'=' if field == 'agent' else '~'}{value}")
    elif bang or (field in parameters and field != "tag"):
        _where(parameters, bang, f"{field}={value}")
    elif field == "tag":
        parameters["tag"] = [*parameters.get("tag", ()), value]
    else:
        parameters[field] = value


def _add_states(parameters: dict[str, Any], bang: str, value: str) -> None:
    states = [_state(word) for word in value.split(",") if word]
    if not bang:
        parameters["state"] = ",".join(states)
        return
    for state in states:
        if state not in STATES:
            raise FilterError(f"say which state it shall not be: one of {', '.join(STATES).lower()}")
        _where(parameters, "!", f"state={state}")


def _state(word: str) -> str:
    found = [state for state in STATE_WORDS if state.startswith(word.upper())]
    exact = [state for state in found if state == word.upper()]
    if len(exact or found) != 1:
        raise FilterError(f"state:{word}? there are {', '.join(found or STATE_WORDS).lower()}")
    return (exact or found)[0]


def _checked(field: str, word: str, sign: str, value: str) -> str:
    try:
        if field in ("mem", "disk"):
            parse_size(value)
        elif field in ("wait", "run"):
            parse_duration(value, bare_unit="s")
        else:
            float(value)
    except ValueError:
        raise FilterError(f"{word}{sign}{value}? say for instance {EXAMPLE.get(field, f'{word}{sign}4')}") from None
    return value


def _add_text(parameters: dict[str, Any], bang: str, text: str) -> None:
    if bang or "text" in parameters:
        _where(parameters, bang, f"text~{text}")
    else:
        parameters["text"] = text


def _where(parameters: dict[str, Any], bang: str, condition: str) -> None:
    parameters.setdefault("where", []).append(bang + condition)
