"""A job's record cut back in time against the record as it really was then."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retz.lifecycle import Ended, Event, Hold, Kill, Launch, Lost, NotStarted, Release, Started, advance
from retz.model.job import LIVE_STATES, Attempt, Job, Usage
from retz.model.resources import Resources
from retz.store.past import as_of

Make = Callable[[float, int], Event]
EVENTS: tuple[Make, ...] = (
    lambda at, n: Launch(at, "here", ("GPU-1",), (4000,)),
    lambda at, n: Launch(at, "there"),
    lambda at, n: Started(at, n),
    lambda at, n: Ended(at=at, attempt=n, exit_code=0, usage=Usage(cpu_s=1.0)),
    lambda at, n: Ended(at=at, attempt=n, exit_code=3, message="boom"),
    lambda at, n: Lost(at, n, "machine gone"),
    lambda at, n: Lost(at, n, "machine gone again"),
    lambda at, n: Kill(at),
    lambda at, n: Hold(at),
    lambda at, n: Release(at),
)
TAKEN_BACK: Make = lambda at, n: NotStarted(at, n, "taken back")  # noqa: E731

NEW = Job(id=1, owner="ann", command="true", resources=Resources(cpus=1), submitted=0.0, max_retries=3)


def live(events: list[tuple[int, Make]]) -> list[tuple[float, Job]]:
    """(time, record from then on), with the attempt number that is current at each event."""
    history, now = [(0.0, NEW)], 0.0
    for wait, make in events:
        now += wait
        job = history[-1][1]
        after, _ = advance(job, make(now, job.attempts[-1].number if job.attempts else 0))
        history.append((now, after))
    return history


def at_time(history: list[tuple[float, Job]], at: float) -> Job:
    return [job for time, job in history if time <= at][-1]


STEPS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(EVENTS)), max_size=14)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(0, 40))
def test_record_cut_back_equals_the_record_of_that_time(events: list[tuple[int, Make]], at: int) -> None:
    history = live(events)
    was, now = at_time(history, at), history[-1][1]
    past = as_of(now, float(at))
    if was.state not in LIVE_STATES:
        assert past is None
        return
    assert past is not None
    remembered = [name for name in Job.__struct_fields__ if name not in ("held",)]
    assert {name: getattr(past, name) for name in remembered} == {name: getattr(was, name) for name in remembered}
    assert as_of(past, float(at)) == past


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from((*EVENTS, TAKEN_BACK))), max_size=14), st.integers(0, 40))
def test_launches_taken_back_leave_state_and_attempts_true(events: list[tuple[int, Make]], at: int) -> None:
    """Losses and the reason for waiting again may be overstated then: the record does not tell one from the other."""
    history = live(events)
    was, past = at_time(history, at), as_of(history[-1][1], float(at))
    assert (past is not None) == (was.state in LIVE_STATES)
    if past is not None:
        assert (past.state, past.attempts, past.kill_requested) == (was.state, was.attempts, was.kill_requested)
        assert past.losses >= was.losses


def test_before_submission_and_from_the_end_on_there_was_no_such_job() -> None:
    job = Job(id=1, owner="ann", command="true", resources=Resources(), submitted=5.0, state="KILLED", ended=9.0)
    assert [as_of(job, at) is not None for at in (4.9, 5.0, 8.9, 9.0)] == [False, True, True, False]


@pytest.mark.parametrize(("at", "held"), [(3.0, True), (1.5, False)])
def test_held_is_kept_only_where_the_job_still_stands(at: float, held: bool) -> None:
    lost = Attempt(number=1, agent="here", launched=1.0, started=1.2, ended=2.0, reason="lost", message="gone")
    job = Job(
        id=1, owner="ann", command="true", resources=Resources(), submitted=0.0, held=True, losses=1, attempts=(lost,)
    )
    past = as_of(job, at)
    assert past is not None
    assert past.held is held
