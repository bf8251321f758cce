"""Sizes and durations as people type them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retz.model.units import MAX_SIZE_MIB, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("512", 512),
        (512, 512),
        (1.5, 2),
        ("512m", 512),
        ("512M", 512),
        ("16g", 16384),
        ("1.5g", 1536),
        (".5g", 512),
        ("2t", 2 * 1024**2),
        ("1p", 1024**3),
        ("1024k", 1),
        ("1k", 1),
        ("0", 0),
        ("16GiB", 16384),
        ("16gb", 16384),
        (" 16 g ", 16384),
        ("0.1g", 103),
    ],
)
def test_sizes(text: str | int | float, mib: int) -> None:
    assert parse_size(text) == mib


@pytest.mark.parametrize(
    "text",
    [
        *("", "g", "-1", "1e3", "1,5g", "16 gigs", "nan", "inf", "0x10", "1..5", "9p9p", "99999999999p"),
        *(-1, float("nan"), float("inf"), True, 1e30),
    ],
)
def test_bad_sizes_are_refused_in_words(text: str | int | float) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@given(st.floats(0, 2.0**40))
def test_a_size_is_never_less_than_asked(mib: float) -> None:
    assert mib - 1e-6 <= parse_size(mib) < mib + 1
    assert parse_size(f"{mib:.6f}") >= math.floor(mib)


@pytest.mark.parametrize(
    ("mib", "text"),
    [
        (0, "0M"),
        (512, "512M"),
        (1023, "1023M"),
        (1024, "1G"),
        (1536, "1.5G"),
        (1024**2 - 1, "1T"),
        (1024**2, "1T"),
        (2 * 1024**2, "2T"),
    ],
)
def test_sizes_are_shown_short(mib: int, text: str) -> None:
    assert format_size(mib) == text


@given(st.integers(0, MAX_SIZE_MIB))
def test_a_shown_size_is_close_to_the_true_one(mib: int) -> None:
    shown = parse_size(format_size(mib))
    assert abs(shown - mib) <= max(0, mib) * 0.05 + 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800.0),
        ("0.5", 30.0),
        ("90s", 90.0),
        ("2h", 7200.0),
        ("1h30m", 5400.0),
        ("1h 30m 5s", 5405.0),
        ("1.5d", 129600.0),
        ("1w", 604800.0),
        ("2H", 7200.0),
        (" 5m ", 300.0),
        ("0s", 0.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


def test_the_unit_of_a_bare_number_is_the_callers() -> None:
    assert parse_duration("30", bare_unit="s") == 30.0


@pytest.mark.parametrize("text", ["", "soon", "-5", "5 minutes", "1h-30m", "nan", "inf", "1e3", "h", "9999w"])
def test_bad_durations_are_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0, "0s"),
        (12.9, "12s"),
        (59, "59s"),
        (60, "01:00"),
        (230, "03:50"),
        (3600, "1:00:00"),
        (4329, "1:12:09"),
        (86399, "23:59:59"),
        (183600, "2d 03:00:00"),
    ],
)
def test_durations_are_shown_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
