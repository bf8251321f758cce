"""Which runs have live jobs, which wait to be written, and when their turn comes."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from retz.model.job import Job, State
from retz.model.resources import Resources
from retz.server.skylines import runs as runs_module
from retz.server.skylines.runs import (
    LATEST_S,
    QUIET_S,
    REMEMBERED_IDS,
    REST_S,
    RUN_WEIGHT,
    Run,
    RunKey,
    Runs,
    fresh_run,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def job(number: int, run: str | None = "r", *, pipeline: str | None = "p", owner: str = "ann", **fields: object) -> Job:
    made = Job(
        id=number, owner=owner, command="x", resources=Resources(1, 1), submitted=5.0, pipeline=pipeline, run=run
    )
    return replace(made, **fields)


def ended(one: Job, at: float = 10.0, state: State = "FINISHED") -> Job:
    return replace(one, state=state, ended=at)


def made() -> tuple[Runs, Clock]:
    clock = Clock()
    return Runs(clock), clock


def popped(runs: Runs) -> Run:
    run = runs.pop()
    assert run is not None
    return run


def test_a_run_waits_when_its_last_job_has_ended() -> None:
    runs, clock = made()
    for number in (1, 2):
        runs.entered(job(number))
    runs.left(ended(job(1)))
    clock.now += 100
    assert runs.pop() is None and runs.waiting == 0
    runs.left(ended(job(2)))
    assert runs.waiting == 1 and runs.pop() is None, "it may go on at once"
    assert runs.next_due() == clock.now + QUIET_S
    clock.now += QUIET_S
    run = popped(runs)
    assert run.key == RunKey("ann", "p", "r") and list(run.ids) == [1, 2]
    assert runs.pop() is None


def test_jobs_one_after_the_other_put_it_off_but_not_for_ever() -> None:
    runs, clock = made()
    began = clock.now
    number = 0
    while clock.now < began + LATEST_S:
        number += 1
        runs.entered(job(number))
        runs.left(ended(job(number)))
        assert runs.pop() is None
        clock.now += QUIET_S / 2
    assert list(popped(runs).ids) == list(range(1, number + 1))


def test_a_run_that_goes_on_when_its_turn_comes_waits_for_its_end() -> None:
    runs, clock = made()
    runs.entered(job(1))
    runs.left(ended(job(1)))
    runs.entered(job(2))
    clock.now += LATEST_S
    assert runs.pop() is None
    runs.left(ended(job(2)))
    assert list(popped(runs).ids) == [1, 2], "it has waited long enough already"


def test_a_run_of_many_jobs_is_not_written_again_at_once() -> None:
    runs, clock = made()
    count = 10_000
    for number in range(1, count + 1):
        runs.entered(job(number))
    for number in range(1, count + 1):
        runs.left(ended(job(number)))
    clock.now += QUIET_S
    run = popped(runs)
    runs.written(run, run.version)
    runs.entered(job(count + 1))
    runs.left(ended(job(count + 1)))
    clock.now += count * REST_S - 0.1
    assert runs.pop() is None
    clock.now += 0.2
    assert popped(runs) is run


def test_what_ends_while_a_run_is_written_brings_it_again() -> None:
    runs, clock = made()
    runs.entered(job(1))
    runs.left(ended(job(1)))
    clock.now += QUIET_S
    run = popped(runs)
    version = run.version
    runs.entered(job(2))
    runs.left(ended(job(2), at=20.0))
    runs.written(run, version)
    assert run.unwritten
    clock.now += QUIET_S
    assert popped(runs) is run


def test_a_failure_puts_it_off() -> None:
    runs, clock = made()
    runs.entered(job(1))
    runs.left(ended(job(1)))
    clock.now += QUIET_S
    run = popped(runs)
    runs.failed(run, 5.0)
    assert runs.pop() is None and run.failures == 1
    clock.now += 5.0
    assert popped(runs) is run


def test_who_asks_does_not_wait_for_quiet() -> None:
    runs, _ = made()
    for name in ("a", "b"):
        runs.entered(job(ord(name), name, pipeline=name))
        runs.left(ended(job(ord(name), name, pipeline=name)))
    assert not runs.hurry("ann", "c", 1.0)
    assert runs.hurry("ann", "b", 1.0)
    assert popped(runs).key.pipeline == "b"
    assert runs.pop() is None
    assert (runs.waiting_of("ann", "a"), runs.waiting_of("ann", "b"), runs.waiting_of("ann", None)) == (1, 0, 1)
    runs.failed(popped_all(runs), 60.0)
    assert not runs.hurry("ann", None, 1.0), "it is not to be tried again so soon"


def popped_all(runs: Runs) -> Run:
    """The one run that waits, hurried."""
    assert runs.hurry("ann", None, 0.0)
    return popped(runs)


def test_runs_are_told_apart_by_owner_pipeline_and_name() -> None:
    runs, clock = made()
    different = [job(1), job(2, owner="bob"), job(3, "s"), job(4, pipeline="q")]
    for one in different:
        runs.entered(one)
        runs.left(ended(one))
    runs.entered(job(5, None))
    runs.entered(job(6, pipeline=None))
    clock.now += QUIET_S
    assert [list(popped(runs).ids) for _ in different] == [[1], [2], [3], [4]]
    assert runs.pop() is None


def test_only_a_run_that_began_here_is_known_as_a_whole() -> None:
    runs, clock = made()
    fresh = job(7, fresh_run(5.0, 7))
    later = job(9, fresh_run(5.0, 8))
    for one in (fresh, later, job(10, "mine")):
        runs.entered(one)
        runs.left(ended(one))
    clock.now += QUIET_S
    assert [popped(runs).whole for _ in range(3)] == [True, False, False]


def test_after_a_start_other_jobs_of_a_run_may_be_in_the_archive_already() -> None:
    """Also of one whose first job still lives: they would be missing in what is written at its end."""
    runs, clock = made()
    fresh = job(7, fresh_run(5.0, 7))
    runs.load([fresh])
    runs.left(ended(fresh))
    clock.now += QUIET_S
    assert not popped(runs).whole


def test_names_of_fresh_runs_are_readable() -> None:
    assert fresh_run(1_795_166_697.9, 17) == "20261120-092457-17"


def test_at_the_start_runs_with_ended_jobs_are_to_be_written() -> None:
    runs, clock = made()
    runs.load([job(1), ended(job(2)), ended(job(3, "s"), at=7.0), job(4, None, pipeline=None)])
    assert runs.waiting == 1, "the run of jobs 1 and 2 is still going on"
    assert runs.earliest_unwritten() == 7.0
    clock.now += QUIET_S
    assert popped(runs).key.run == "s"
    runs.left(ended(job(1)))
    clock.now += LATEST_S
    assert sorted(popped(runs).ids) == [1, 2]
    assert runs.earliest_unwritten() == inf


def test_every_unwritten_end_is_told() -> None:
    runs, _ = made()
    told: list[float] = []
    runs.on_late = told.append
    runs.entered(job(1))
    runs.left(ended(job(1), at=3.5))
    assert told == [3.5]


def test_what_is_remembered_of_runs_that_are_over_is_bounded() -> None:
    runs, clock = made()
    for number in range(1, 2 * REMEMBERED_IDS // RUN_WEIGHT):
        one = job(number, fresh_run(5.0, number))
        runs.entered(one)
        runs.left(ended(one))
        clock.now += QUIET_S
        run = popped(runs)
        runs.written(run, run.version)
    assert len(runs._runs) <= REMEMBERED_IDS // (RUN_WEIGHT + 1)
    assert run.key in runs._runs, "the newest is remembered"


def test_the_archive_adds_what_it_knows() -> None:
    runs, clock = made()
    runs.entered(job(5))
    runs.left(ended(job(5)))
    clock.now += QUIET_S
    run = popped(runs)
    assert not run.whole
    assert runs.found(run.key, [3, 5, 4], whole=True) is run
    assert list(run.ids) == [5, 3, 4] and run.whole


steps = st.tuples(
    st.sampled_from(["enter", "leave", "write", "fail", "wait"]), st.integers(0, 4), st.floats(1.0, 99.0, width=16)
)


@given(st.lists(steps, max_size=60), st.sampled_from([0, 1_000]))
def test_the_earliest_unwritten_end_is_that_of_the_runs_that_wait(
    taken: list[tuple[str, int, float]], most_stale: int
) -> None:
    runs, clock = made()
    live: list[list[int]] = [[] for _ in range(5)]
    waiting: dict[RunKey, Run] = {}
    runs_pushed = runs.push

    def push(run: Run) -> None:
        waiting[run.key] = run
        runs_pushed(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_module, "MOST_STALE", most_stale)
        patch.setattr(runs, "push", push)
        for number, (step, which, at) in enumerate(taken, 1):
            if step == "enter":
                live[which].append(number)
                runs.entered(job(number, f"r{which}"))
            elif step == "leave" and live[which]:
                runs.left(ended(job(live[which].pop(), f"r{which}"), at))
            elif step == "wait":
                clock.now += at
            elif step in ("write", "fail") and (run := runs.pop()) is not None:
                if step == "write":
                    runs.written(run, run.version)
                else:
                    runs.failed(run, at)
            ends = [run.earliest for run in waiting.values() if run.queued and not run.live]
            assert runs.earliest_unwritten() == min(ends, default=inf)
