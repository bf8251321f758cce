"""Constraints on agents, as people write them: ``rack=r1,level>=10,ssd``. All clauses must hold.

=============  ====================================================================================
clause         holds when
=============  ====================================================================================
``ssd``        the agent has the attribute
``!ssd``       it has not
``rack=r1``    it has it with that value
``rack!=r1``   it has it with another value, or not at all
``level>=10``  it has it, and it compares so; likewise ``>``, ``<``, ``<=``
=============  ====================================================================================

Two numbers compare as numbers, two texts as texts. A text and a number are never equal, and no order holds
between them. An attribute that is merely present (True) equals ``true``; one that is False counts as absent.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from retz.model.agent import AttributeValue

_CLAUSE = re.compile(r"(?P<no>!?)\s*(?P<name>[^\s!=<>,]+)\s*(?:(?P<op>!=|>=|<=|=|>|<)\s*(?P<value>.*))?", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_HELP = "write clauses such as rack=r1, level>=10, ssd or !ssd, with commas between them"


class ConstraintError(ValueError):
    """A constraint cannot be understood; the text says what is wrong, where, and how to write it."""


class Clause:
    """One condition on one attribute. ``op`` is empty for mere presence and ``!`` for absence."""

    __slots__ = ("name", "op", "text", "value")

    def __init__(self, name: str, op: str, value: str | float) -> None:
        self.name = name
        self.op = op
        self.value = value
        self.text = f"!{name}" if op == "!" else f"{name}{op}{_show(value) if op else ''}"

    def holds(self, attributes: Mapping[str, AttributeValue]) -> bool:
        """Whether an agent with these attributes satisfies it."""
        found = _normal(attributes.get(self.name, False))
        if self.op == "":
            return found is not None
        if self.op == "!":
            return found is None
        if self.op == "=":
            return found == self.value
        if self.op == "!=":
            return found != self.value
        if found is None or isinstance(found, str) != isinstance(self.value, str):
            return False
        return _ORDERINGS[self.op](found, self.value)

    def explain(self, attributes: Mapping[str, AttributeValue]) -> str:
        """The clause with what the agent has instead: ``level>=10 (is 7)``."""
        found = _normal(attributes.get(self.name, False))
        return f"{self.text} ({'absent' if found is None else f'is {_show(found)}'})"


class Constraint:
    """Clauses that must all hold. Made by :func:`parse`."""

    __slots__ = ("clauses", "text")

    def __init__(self, text: str, clauses: tuple[Clause, ...]) -> None:
        self.text = text
        self.clauses = clauses

    def __bool__(self) -> bool:
        """False for the empty constraint, which every agent satisfies."""
        return bool(self.clauses)

    def matches(self, attributes: Mapping[str, AttributeValue]) -> bool:
        """Whether all clauses hold for an agent with these attributes."""
        for clause in self.clauses:  # noqa: SIM110 (most are empty, and a generator costs four times as much)
            if not clause.holds(attributes):
                return False
        return True

    def first_failing(self, attributes: Mapping[str, AttributeValue]) -> Clause | None:
        """The first clause that does not hold, None if all do."""
        return next((clause for clause in self.clauses if not clause.holds(attributes)), None)

    def failing(self, attributes: Mapping[str, AttributeValue]) -> str | None:
        """The first clause that does not hold, with the agent's value: ``level>=10 (is 7)``."""
        clause = self.first_failing(attributes)
        return None if clause is None else clause.explain(attributes)


@lru_cache(maxsize=4096)
def parse(text: str) -> Constraint:
    """Return the constraint that ``text`` writes; empty text is no constraint.

    Raises:
        ConstraintError: with a sentence for the user.
    """
    if not text.strip():
        return Constraint(text, ())
    return Constraint(text, tuple(_clause(number, part) for number, part in enumerate(text.split(","), 1)))


def _clause(number: int, part: str) -> Clause:
    where = f"clause {number} of the attributes"
    part = part.strip()
    if not part:
        raise ConstraintError(f"{where} is empty: {_HELP}")
    match = _CLAUSE.fullmatch(part)
    if match is None:
        raise ConstraintError(f"{where} cannot be understood: {part!r}; {_HELP}")
    name, op, value = match["name"], match["op"], match["value"]
    if op is None:
        return Clause(name, "!" if match["no"] else "", "")
    if match["no"]:
        raise ConstraintError(f"{where} says '!' and compares: {part!r}; write {name}!={value} or !{name}")
    if not value:
        raise ConstraintError(f"{where} has no value after {op!r}: {part!r}; {_HELP}")
    if value[0] in "=<>!":
        raise ConstraintError(f"{where} has an unknown comparison: {part!r}; use = != > >= < or <=")
    return Clause(name, op, _value(value))


def _value(text: str) -> str | float:
    if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def _normal(found: AttributeValue) -> str | float | None:
    if found is True:
        return "true"
    return None if found is False else found


def _show(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return str(int(value)) if value == int(value) else str(value)
