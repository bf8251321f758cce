"""Numbers of the cluster as layers, rows and words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from retz.client.types import Aggregates, Event, Job, Point
from retz.model.resources import Resources
from tui.cluster_series import MOST_LAYERS, OTHERS, calm, rows_of, stack_of, step_of, told, users_of
from tui.columns import id_of, title_of
from tui.screens.cluster import moment_of
from tui.screens.users import uses_of

pytestmark = pytest.mark.usefixtures("utc")

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def point(minute: int, used: float, **users: float) -> Point:
    by_user = {user: Resources(cpus=cpus, mem=int(cpus * 1024)) for user, cpus in users.items()}
    return Point(time=NOON + timedelta(minutes=minute), queued=3.4, running=2, started=4, ended=6, failed=1,
                 wait_p50_s=61.0, wait_p90_s=None, total=Resources(cpus=16, mem=65536, gpus=2),
                 used=Resources(cpus=used, mem=int(used * 1024)), by_user=by_user)  # fmt: skip


def test_layers_are_users_most_first_and_the_rest_together() -> None:
    users = {f"u{number}": float(number) for number in range(1, 9)}
    found = Aggregates(60.0, (point(0, 36.0, **users), point(1, 8.0, u8=8.0)))
    assert users_of(found.points, "cpus")[:3] == ["u8", "u7", "u6"]
    stack = stack_of(found, "cpus")
    assert [layer.name for layer in stack.layers] == ["u8", "u7", "u6", "u5", OTHERS]
    assert len(stack.layers) == MOST_LAYERS
    assert stack.layers[-1].values == [10.0, 0.0]
    assert stack.total == [16.0, 16.0]
    assert stack.index(NOON.timestamp() + 61) == 1 and stack.index(NOON.timestamp() + 120) is None


def test_what_other_users_hold_is_a_layer_although_they_are_not_named() -> None:
    stack = stack_of(Aggregates(60.0, (point(0, 10.0, me=4.0),)), "mem")
    assert [(layer.name, layer.values) for layer in stack.layers] == [("me", [4096.0]), (OTHERS, [6144.0])]
    assert stack_of(Aggregates(60.0, ()), "cpus").layers == []


def test_the_rows_tell_the_numbers_of_one_point() -> None:
    rows = rows_of(Aggregates(60.0, (point(0, 1.0),)), 0)
    assert [(row.name, row.text) for row in rows] == [
        ("queued", "3"), ("running", "2"), ("waited", "p50    01:01"), ("", "p90        –"), ("ended", "360/h"),
        ("failed", "60/h"),
    ]  # fmt: skip
    assert {row.text for row in rows_of(Aggregates(60.0, (point(0, 1.0),)), None)} == {
        "–",
        "p50        –",
        "p90        –",
    }


def test_points_are_whole_minutes_about_two_for_a_column() -> None:
    assert step_of(3600, 100) == 60
    assert step_of(86_400, 100) == 420
    assert step_of(30 * 86_400, 1) == 30 * 43_200


def test_events_in_words_cannot_steer_the_terminal() -> None:
    job = Job(id=7, state="STARTED", owner="an\x1b[2Jn", name="j\x07b", agent="n1", submitted=NOON)
    text, style = told(Event(kind="job", job=job)) or ("", "")
    assert "\x1b" not in text and "\x07" not in text
    assert text.startswith("● started") and text.endswith("on n1") and style == "started"
    assert told(Event(kind="queue", data={"mode": "paused"})) == ("‖ queue   is paused", "held")
    gone = told(Event(kind="application", data={"name": "a\x1b", "owner": "x", "deleted": True}))
    assert gone == ("◇ application a␛ was removed", "dim")
    assert told(Event(kind="reset")) is None and told(Event(kind="hello", data=[1])) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("09:41", datetime(2026, 11, 20, 9, 41, tzinfo=UTC)),
        ("12:00:00", NOON),
        ("12:01", datetime(2026, 11, 19, 12, 1, tzinfo=UTC)),
        ("2026-11-18 06:30", datetime(2026, 11, 18, 6, 30, tzinfo=UTC)),
        ("2026-11-18T06:30:00Z", datetime(2026, 11, 18, 6, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_can_be_typed(text: str, expected: datetime) -> None:
    assert moment_of(text, NOON.timestamp()) == expected.timestamp()


@pytest.mark.parametrize("text", ["", "yesterday", "25:00", "9"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        moment_of(text, NOON.timestamp())


def test_use_over_the_day_and_now() -> None:
    found = Aggregates(300.0, (point(0, 12.0, ann=12.0), point(5, 16.0, ann=4.0, bo=12.0)))
    ann, bo = uses_of(found, NOON.timestamp() + 400)
    assert (ann.user, ann.now.cpus, bo.now.cpus) == ("ann", 4.0, 12.0)
    assert ann.cpu_h == pytest.approx(16 / 12) and ann.share == pytest.approx(16 / 28)
    assert ann.mem_gib_h == pytest.approx(16 / 12)
    later = uses_of(found, NOON.timestamp() + 7200)
    assert [use.now.cpus for use in later] == [0, 0]  # nobody observed what is held now
    assert uses_of(Aggregates(300.0, ()), 0.0) == []


def test_calm_numbers() -> None:
    assert [calm(value) for value in (0.04, 3.14159, 99.96, 363.55)] == [0.0, 3.1, 100.0, 364.0]


def test_a_task_of_an_array_goes_by_its_name() -> None:
    job = Job(id=20, state="STARTED", name="sweep", submitted=NOON)
    assert (id_of(job), title_of(job)) == ("20", "sweep")
    task = replace(job, array_id=17, array_index=3)
    assert (id_of(task), title_of(task)) == ("17_3", "sweep")
