"""What kept jobs waiting: sums are right, and nothing is made up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retz.lifecycle import Ended, Launch, Lost, advance
from retz.model.array import Array
from retz.model.job import Job
from retz.model.resources import Resources
from retz.scheduler.waits import MAX_GAP_S, MOST_OWN, MOST_PIECES, Timeline, Waits, history, key_of, shown, since_of


def job(job_id: int = 1, **more: Any) -> Job:
    fields: dict[str, Any] = {"owner": "ann", "command": "x", "resources": Resources(1.0, 100), "submitted": 1000.0}
    return Job(id=job_id, **{**fields, **more})


def parts(waits: Waits, one: Job, now: float, since: float | None = None) -> dict[str, float]:
    return dict(waits.of(one, since_of(one) if since is None else since, now))


def watched(*sights: tuple[str, float], begin: float = 1000.0) -> Waits:
    waits = Waits()
    waits.looked(begin)
    for cause, at in sights:
        waits.saw(key_of(job()), cause, at)
        waits.looked(at)
    return waits


def test_each_cause_has_its_time() -> None:
    waits = watched(("room:mem", 1005.0), ("room:mem", 1010.0), ("paused", 1015.0), ("room:mem", 1020.0))
    assert parts(waits, job(), 1020.0) == {"room:mem": 15.0, "paused": 5.0}
    assert parts(waits, job(submitted=1007.0), 1020.0) == {"room:mem": 8.0, "paused": 5.0}


def test_what_was_seen_last_holds_until_the_next_look_and_no_longer() -> None:
    waits = watched(("room", 1005.0))
    assert parts(waits, job(), 1008.0) == {"room": 8.0}
    assert parts(waits, job(), 1005.0 + MAX_GAP_S + 1) == {"room": 5.0}


def test_a_job_that_came_after_the_last_sight_of_its_shape_was_not_seen() -> None:
    waits = watched(("room", 1005.0))
    waits.looked(1010.0)
    assert parts(waits, job(submitted=1011.0), 1014.0) == {}


def test_short_waits_are_not_told() -> None:
    assert parts(watched(("room", 1005.0)), job(submitted=1004.0), 1005.0) == {}


def test_time_before_the_first_look_is_not_known() -> None:
    waits = watched(("order", 5005.0), begin=5000.0)
    told = history(job(), waits.of(job(), 1000.0, 5005.0), 5005.0)
    assert told.shares == [("order", 5.0)]
    assert (told.total_s, told.unknown_s) == (4005.0, 4000.0)


def test_a_clock_that_is_set_back_or_leaps_makes_nothing_up() -> None:
    waits = watched(("room", 1005.0), ("room", 900.0), ("room", 1006.0), ("room", 90_000.0))
    found = parts(waits, job(), 90_000.0)
    assert found["room"] <= 6.0 + MAX_GAP_S
    assert parts(waits, job(submitted=2000.0), 1500.0) == {}


def test_what_is_a_jobs_own_comes_before_its_shape() -> None:
    waits = watched(("room:cpus", 1010.0))
    waits.kept_back(1, "held", 1002.0)
    waits.in_line(1, 1006.0)
    assert parts(waits, job(), 1010.0) == {"room:cpus": 6.0, "held": 4.0}
    waits.forget(1)
    assert parts(waits, job(), 1010.0) == {"room:cpus": 10.0}


def test_a_job_held_a_hundred_times_costs_little_and_is_honest() -> None:
    waits = watched(("room", 1000.0 + 2 * 100))
    for turn in range(100):
        waits.kept_back(1, "held", 1000.0 + 2 * turn)
        waits.in_line(1, 1001.0 + 2 * turn)
    found = parts(waits, job(), 1200.0)
    assert sum(found.values()) <= 200.0
    assert found["held"] >= MOST_OWN / 2 - 1


def test_a_start_time_is_known_from_the_record_after_a_restart_too() -> None:
    waits = watched(("room", 1705.0), begin=1700.0)
    assert parts(waits, job(start_at=1600.0), 1705.0) == {"room": 5.0, "time": 600.0}


def test_tasks_of_an_array_wait_for_each_other() -> None:
    task = job(7, array_id=5, array_index=1, submitted=1010.0)
    waits = watched(("room", 1005.0))
    assert parts(waits, task, 1020.0) == {"array": 10.0}
    waits.kept_back(5, "held", 1010.0)
    waits.in_line(5, 1014.0)
    assert parts(waits, task, 1020.0)["held"] == 4.0


def test_an_array_of_which_as_many_run_as_may_waits_for_its_tasks_and_not_for_room() -> None:
    waits, whole = watched(("room", 1005.0)), job(5, array=Array(1, 9, limit=2))
    waits.looked(1010.0)  # its first tasks run: none is in line
    waits.looked(1015.0)
    assert parts(waits, whole, 1018.0) == {"room": 5.0, "array": 13.0}
    waits.looked(1020.0)
    waits.saw(key_of(job()), "room", 1025.0)
    waits.looked(1025.0)
    assert parts(waits, whole, 1025.0) == {"room": 10.0, "array": 15.0}
    assert parts(waits, job(7, array_id=5, array_index=1), 1025.0) == {"room": 10.0, "array": 15.0}


def test_a_look_at_some_shapes_says_nothing_of_the_others() -> None:
    waits = watched(("room", 1005.0))
    waits.looked(1010.0, at_all=False)
    assert parts(waits, job(), 1012.0) == {"room": 12.0}


def test_the_record_keeps_it_for_each_attempt() -> None:
    one, _ = advance(job(), Launch(1010.0, "a", waited=(("room:mem", 9.0),)))
    one, _ = advance(one, Lost(1100.0, 1))
    one, _ = advance(one, Launch(1130.0, "a", waited=(("paused", 30.0),)))
    told = history(one, [], 1131.0)
    assert told.shares == [("paused", 30.0), ("room:mem", 9.0)]
    assert (told.total_s, told.unknown_s) == (40.0, 0.0)
    ended, _ = advance(one, Ended(at=1200.0, attempt=2, exit_code=0))
    assert history(ended, [], 9999.0) == told


def test_what_would_be_told_as_no_time_is_not_told() -> None:
    one, _ = advance(job(), Launch(1010.0, "a", waited=(("room:cpus", 9.6), ("paused", 0.4))))
    told = history(one, [], 1011.0)
    assert (told.shares, told.unknown_s) == ([("room:cpus", 9.6)], 0.0)


def test_it_is_shown_in_words() -> None:
    (mem, held) = shown([*Waits().of(job(), 0.0, 1.0), *history(job_with("room:mem", 312.0), [], 0.0).shares,
                         *history(job_with("held", 40.0), [], 0.0).shares])  # fmt: skip
    assert (mem.cause, mem.resource, mem.text) == ("room", "mem", "5m12s for free memory")
    assert (held.cause, held.resource, held.text) == ("held", None, "40s held")


def job_with(cause: str, seconds: float) -> Job:
    return advance(job(), Launch(1400.0, "a", waited=((cause, seconds),)))[0]


CAUSES = st.sampled_from(["room:mem", "room:cpus", "order", "paused", ""])


@given(st.lists(st.tuples(CAUSES, st.integers(1, 50)), min_size=1, max_size=300), st.data())
def test_sums_are_right_however_many_pieces(sights: list[tuple[str, int]], data: st.DataObject) -> None:
    line, true, seconds = Timeline(0.0), dict[str, float](), 0.0
    for cause, seconds in sights:
        line.saw(cause, line.end + seconds)
        true[cause] = true.get(cause, 0.0) + seconds
    assert len(line) <= MOST_PIECES
    assert line.between(0.0, line.end) == pytest.approx(true)
    cut = data.draw(st.floats(0.0, line.end))
    both = [line.between(0.0, cut), line.between(cut, line.end)]
    for cause, seconds in true.items():
        assert sum(part.get(cause, 0.0) for part in both) == pytest.approx(seconds)
