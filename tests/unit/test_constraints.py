"""Constraints: what holds, what does not, and what people are told when they write one wrongly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retz.model.agent import AttributeValue
from retz.scheduler.constraints import ConstraintError, parse

AGENT: dict[str, AttributeValue] = {
    "rack": "r1",
    "level": 7.0,
    "ssd": True,
    "hdd": False,
    "release": "jammy",
    "version": "10",
    "share": 0.5,
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "ssd",
        "rack",
        "!tape",
        "!hdd",
        "rack=r1",
        " rack = r1 , level >= 7 ",
        "rack!=r2",
        "tape!=yes",
        "hdd!=true",
        "level=7",
        "level=7.0",
        "level=+7e0",
        "level!=8",
        "level!=high",
        "level>6.5",
        "level>=7",
        "level<8",
        "level<=7",
        "share<1",
        "ssd=true",
        "release>=focal",
        "release<noble",
        "rack=r1,level>=7,ssd,!hdd",
    ],
)
def test_holds(text: str) -> None:
    assert parse(text).matches(AGENT)
    assert parse(text).failing(AGENT) is None


@pytest.mark.parametrize(
    ("text", "failing"),
    [
        ("tape", "tape (absent)"),
        ("hdd", "hdd (absent)"),
        ("!ssd", "!ssd (is true)"),
        ("!rack", "!rack (is r1)"),
        ("rack=r2", "rack=r2 (is r1)"),
        ("rack!=r1", "rack!=r1 (is r1)"),
        ("level>=10", "level>=10 (is 7)"),
        ("level>7", "level>7 (is 7)"),
        ("level<7", "level<7 (is 7)"),
        ("level<=6.5", "level<=6.5 (is 7)"),
        ("share>=1", "share>=1 (is 0.5)"),
        ("tape>=1", "tape>=1 (absent)"),
        ("level=high", "level=high (is 7)"),
        ("ssd=yes", "ssd=yes (is true)"),
        # A text and a number: neither equal nor in order, whatever the text looks like.
        ("version>=9", "version>=9 (is 10)"),
        ("version<11", "version<11 (is 10)"),
        ("level>=high", "level>=high (is 7)"),
        ("ssd,rack=r1,level>=10,tape", "level>=10 (is 7)"),
    ],
)
def test_fails_at_the_first_clause(text: str, failing: str) -> None:
    assert not parse(text).matches(AGENT)
    assert parse(text).failing(AGENT) == failing


@pytest.mark.parametrize(
    ("text", "clause", "part"),
    [
        ("rack=r1,,ssd", 2, "empty"),
        (",", 1, "empty"),
        ("rack=", 1, "no value"),
        ("ssd,level>=", 2, "no value"),
        ("=r1", 1, "cannot be understood"),
        ("!", 1, "cannot be understood"),
        ("two words", 1, "cannot be understood"),
        ("rack==r1", 1, "unknown comparison"),
        ("level=>7", 1, "unknown comparison"),
        ("level<>7", 1, "unknown comparison"),
        ("!rack=r1", 1, "rack!=r1"),
    ],
)
def test_errors_name_the_clause_and_the_way_out(text: str, clause: int, part: str) -> None:
    with pytest.raises(ConstraintError) as caught:
        parse(text)
    assert f"clause {clause} " in str(caught.value)
    assert part in str(caught.value)


def test_infinite_and_odd_numbers_are_text() -> None:
    assert parse("x=1e999").matches({"x": "1e999"})
    assert parse("x=nan").matches({"x": "nan"})
    assert not parse("x<inf").matches({"x": 1.0})
    assert parse("x=١").matches({"x": "١"})


def test_the_same_text_is_parsed_once() -> None:
    assert parse("rack=r9,level>=3") is parse("rack=r9,level>=3")


def test_only_the_empty_constraint_is_false() -> None:
    assert not parse("")
    assert parse("ssd")


names = st.text("abcxyz_.-09", min_size=1, max_size=5)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
values = st.one_of(st.booleans(), numbers, names)


@given(st.dictionaries(names, values), names, numbers)
def test_comparisons_are_those_of_numbers(agent: dict[str, AttributeValue], name: str, number: float) -> None:
    found = agent.get(name)
    other = found if isinstance(found, float) else None
    for op, expected in (
        ("<", other is not None and other < number),
        (">=", other is not None and other >= number),
        ("=", other == number),
        ("!=", other != number),
    ):
        assert parse(f"{name}{op}{number!r}").matches(agent) is expected


@given(st.text(max_size=30))
def test_any_text_parses_or_is_refused_in_words(text: str) -> None:
    try:
        constraint = parse(text)
    except ConstraintError as error:
        assert len(str(error)) > 20
    else:
        assert constraint.matches({}) is (constraint.failing({}) is None)


@given(st.lists(st.sampled_from(["ssd", "!ssd", "a=1", "a>0", "a<9", "b=x"])), st.dictionaries(names, values))
def test_all_clauses_must_hold(clauses: list[str], agent: dict[str, AttributeValue]) -> None:
    together = parse(",".join(clauses))
    assert together.matches(agent) is all(parse(clause).matches(agent) for clause in clauses)
