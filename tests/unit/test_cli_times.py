"""Times on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from retz.cli.times import parse_moment

NOW = datetime(2026, 11, 20, 6, 27, 17, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+2h", NOW + timedelta(hours=2)),
        ("+90s", NOW + timedelta(seconds=90)),
        ("+30", NOW + timedelta(minutes=30)),
        ("07:00", datetime(2026, 11, 20, 7, tzinfo=UTC)),
        ("7:00", datetime(2026, 11, 20, 7, tzinfo=UTC)),
        ("03:00", datetime(2026, 11, 21, 3, tzinfo=UTC)),
        ("tomorrow 03:00", datetime(2026, 11, 21, 3, tzinfo=UTC)),
        ("Tomorrow", datetime(2026, 11, 21, tzinfo=UTC)),
        ("today 23:59:30", datetime(2026, 11, 20, 23, 59, 30, tzinfo=UTC)),
        ("2026-12-01", datetime(2026, 12, 1, tzinfo=UTC)),
        ("2026-12-01T05:00+02:00", datetime(2026, 12, 1, 3, tzinfo=UTC)),
        ("1795000000", datetime.fromtimestamp(1795000000, UTC)),
    ],
)
def test_what_people_write(text: str, expected: datetime) -> None:
    assert parse_moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "soon", "+", "+x", "25:00", "tomorrow noon", "2026-13-01", "+999999999d", "12"])
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="not a time"):
        parse_moment(text, NOW)
