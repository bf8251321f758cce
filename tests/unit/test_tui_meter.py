"""Bars of three tones, their numbers, and histories in one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.text import width_of
from tui.widgets.meter import KINDS, WORDS, Level, bar, bytes_pair, cells, counted, in_words, meter, percent
from tui.widgets.sparks import Histories, spark
from tui.widgets.table import Cell

amounts = st.integers(0, 10**9).map(lambda thousandths: thousandths / 1000)
levels = st.builds(Level, amounts, amounts, st.none() | amounts, st.just(0.0) | amounts)


def text(parts: list[Cell]) -> str:
    return "".join(part for part, _ in parts)


@given(st.integers(0, 80), levels)
def test_a_bar_is_as_wide_as_it_should_be(width: int, level: Level) -> None:
    used, held, free = cells(width, level)
    assert used + held + free == width == len(text(bar(width, level)))
    assert min(used, held, free) >= 0


@given(st.integers(2, 80), levels.filter(lambda level: level.total > 0))
def test_what_is_held_shows_and_only_all_of_it_looks_full(width: int, level: Level) -> None:
    used, held, free = cells(width, level)
    assert (used + held > 0) == (level.held > 0)
    assert (free == 0) == (level.held >= level.total)


def test_the_tones() -> None:
    assert bar(8, Level(16, 8, 4)) == [("▓▓", "used"), ("▒▒", "allocated"), ("····", "free")]
    assert text(bar(8, Level(16, 8))) == "▒▒▒▒····"
    assert text(bar(8, Level(16, 8, 12.0))) == "▓▓▓▓····", "more than was asked for is not more than all"
    assert text(bar(4, Level(0))) == "····"
    assert text(bar(8, Level(16, 8, 4, others=4))) == "▓▓▒▒░░··"
    assert text(bar(8, Level(16, 8, others=16))) == "▒▒▒▒░░░░", "for a moment sums may not agree"


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 60), levels)
def test_a_meter_is_exactly_as_wide_as_its_column(kind: str, width: int, level: Level) -> None:
    assert sum(width_of(part) for part, _ in meter(width, KINDS[kind], level)) == width


@pytest.mark.parametrize(
    ("kind", "width", "level", "shown"),
    [
        ("cpus", 18, Level(16, 12), "▒▒▒▒▒▒··     12/16"),
        ("gpus", 5, Level(8, 3), "  3/8"),
        ("mem", 16, Level(524_288, 66_048, 1024), "▒····  64.5/512G"),
        ("disk", 6, Level(0), "     –"),
    ],
)
def test_meters(kind: str, width: int, level: Level, shown: str) -> None:
    assert text(meter(width, KINDS[kind], level)) == shown


@given(amounts)
def test_two_amounts_of_memory_fit_their_column(total: float) -> None:
    for held in (0.0, total / 3, total):
        assert len(bytes_pair(held, total)) <= KINDS["mem"].number


def test_two_amounts_share_the_unit_of_the_second() -> None:
    assert bytes_pair(66_048, 524_288) == "64.5/512G"
    assert bytes_pair(512, 1024) == "0.5/1G"
    assert bytes_pair(0, 100) == "0/100M"
    assert bytes_pair(1 << 20, 3 << 20) == "1/3T"


def test_words_fit_beside_the_bar() -> None:
    assert in_words(KINDS["cpus"], Level(16, 12, 7.1)) == "    12 of     16 held      4 free    7.1 used"
    assert len(in_words(KINDS["mem"], Level(1e6, 1e5, 1e3))) <= WORDS
    assert in_words(KINDS["gpus"], Level(0, 2)) == "     2 held"
    assert in_words(KINDS["gpus"], Level(8, 2, None, 1)).endswith("     5 free      1 others'")


def test_shares_and_counts() -> None:
    assert (percent(3, 4), percent(1, 0), percent(1, 1)) == (" 75%", "   –", "100%")
    assert (counted(1, "agent"), counted(1204, "agent"), counted(0, "process", "processes")) == (
        "1 agent",
        "1 204 agents",
        "0 processes",
    )


def test_a_history_in_one_line() -> None:
    assert spark([0, 50, 100, 140, -3], 5) == "▁▅██▁"
    assert spark([10, None, 100], 6) == "   ▁ █"
    assert spark([1, 2, 3], 2, top=3) == "▆█"
    assert spark([], 3) == "   "
    assert spark([5], 0) == ""


def test_histories_are_bounded() -> None:
    histories = Histories[str](length=3, most=2)
    for value in range(5):
        histories.add("a", float(value))
    histories.add("b", None)
    histories.add("a", 9.0)
    histories.add("c", 1.0)
    assert (histories.of("a"), histories.of("b"), histories.of("c")) == ((3.0, 4.0, 9.0), (), (1.0,))
