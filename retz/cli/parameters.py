"""Parameter types and options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from retz.model.units import parse_duration, parse_size

MAX_IDS = 100_000
_RANGE = re.compile(r"([0-9]{1,15})(?:-([0-9]{1,15}))?")

_TASK = re.compile(r"([0-9]{1,15})(?:_([0-9]{1,10})|\[([0-9]{1,10})\])")

Id = int | str
F = TypeVar("F", bound=Callable[..., Any])


def parse_ids(text: str) -> list[Id]:
    """Return job ids of ``12``, ``3-9``, ``1,4-6``, ``last``, or ``17_3`` (task 3 of array 17; ``17[3]`` too).

    Raises:
        ValueError: with a sentence for the user.
    """
    found: list[Id] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if part.strip() == "last":
            found.append("last")
            continue
        task = _TASK.fullmatch(part.strip())
        if task is not None:
            found.append(f"{task[1]}_{task[2] or task[3]}")
            continue
        if match is None:
            raise ValueError(f"not a job id: {part!r}; write 12, 3-9, 1,4-6, last, or 17_3 for a task of an array")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise ValueError(f"a range counts upwards: {part!r}")
        if last - first + len(found) >= MAX_IDS:
            raise ValueError(f"more than {MAX_IDS} ids at once: split {text!r}")
        found.extend(range(first, last + 1))
    return found


class Ids(click.ParamType):  # type: ignore[type-arg]  # generic in recent versions of click only
    """Job ids; the value is a list."""

    name = "ids"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Id]:
        """Parse."""
        if isinstance(value, list):
            return value
        try:
            return parse_ids(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Ids of live jobs that begin so."""
        from .completion import complete_ids

        return complete_ids(ctx, incomplete)


class Size(click.ParamType):  # type: ignore[type-arg]  # generic in recent versions of click only
    """A size; the value is MiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse."""
        try:
            return parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in recent versions of click only
    """A duration; the value is seconds. ``bare_unit`` is what a number alone counts."""

    name = "duration"

    def __init__(self, bare_unit: str = "m") -> None:
        self._bare_unit = bare_unit

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration(value, bare_unit=self._bare_unit)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic in recent versions of click only
    """A time; the value is an ISO-8601 text in UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Parse."""
        from .times import parse_moment

        try:
            return parse_moment(value, datetime.now().astimezone()).astimezone(UTC).isoformat()
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Cpus(click.ParamType):  # type: ignore[type-arg]  # generic in recent versions of click only
    """A number of processors, possibly fractional, above zero."""

    name = "cpus"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse."""
        try:
            cpus = float(value)
        except ValueError:
            cpus = 0.0
        if not 0 < cpus < 1e6:
            self.fail(f"not a number of processors: {value!r}; write 2 or 0.5", param, ctx)
        return cpus


def json_option(function: F) -> F:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/cli.md has the schema).")(function)


def watch_option(function: F) -> F:
    """``--watch``."""
    return click.option("--watch", is_flag=True, help="Refresh until interrupted.")(function)


def ids_option(function: F) -> F:
    """Ids as words, or as Retz's ``-i``; the command gets both and calls :func:`ids_of`."""
    function = click.option("-i", "--id", "-id", "id_option", type=Ids(), help="The same, as Retz writes it.")(function)
    return click.argument("ids", nargs=-1, type=Ids())(function)


def ids_of(words: tuple[list[Id], ...], option: list[Id] | None) -> tuple[Id, ...]:
    """Return all ids given.

    Raises:
        click.UsageError: none was.
    """
    found = [number for group in (*words, option or []) for number in group]
    if not found:
        raise click.UsageError("which job? give an id: 12, 3-9, 1,4-6 or last")
    return tuple(found)


def one_id(words: tuple[list[Id], ...], option: list[Id] | None) -> Id:
    """Return the one id given."""
    found = ids_of(words, option)
    if len(found) != 1:
        raise click.UsageError("one job at a time here, please")
    return found[0]
