"""The book of past runs: each run counted once, rightly, and none of it large."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from retz.model.job import Attempt, Job, Reason, Sized, Usage
from retz.model.resources import Resources
from retz.server.learning import past as book
from retz.server.learning.curves import NO_CURVE, most_between
from retz.server.learning.past import SIMILAR, Past, PastRun, run_of, step_of


def used(peak: float, cpu_s: float = 5.0) -> Usage:
    return Usage(cpu_s=cpu_s, max_rss_mb=peak, interval_s=5.0)


def attempt(
    number: int = 1, started: float = 10.0, ended: float = 20.0, reason: Reason | None = None, peak: float = 100.0
) -> Attempt:
    return Attempt(
        number=number, agent="a", launched=started, started=started, ended=ended, reason=reason, usage=used(peak)
    )


def job(number: int = 1, *attempts: Attempt, **fields: Any) -> Job:
    attempts = attempts or (attempt(),)
    base: dict[str, Any] = {
        "owner": "ann",
        "name": "train",
        "pipeline": "etl",
        "run": f"r{number}",
        "state": "FINISHED",
    }
    base |= {"resources": Resources(2, 1000), "ended": attempts[-1].ended, "reason": attempts[-1].reason}
    return Job(id=number, command="x", submitted=1.0, attempts=attempts, **{**base, **fields})


def runs(*jobs: Job) -> list[PastRun]:
    past = Past()
    for each in jobs:
        past.add(each)
    return list(past.runs("ann", "etl", "train"))


def test_a_job_that_ended_well_is_a_run() -> None:
    run = PastRun("r7", 7, 20.0, 10.0, 100.0, 1000, 1000, 2, 5.0, "finished", given_cpus=2, longest_s=10.0)
    assert runs(job(7)) == [run]


def drawn(*memory: int, ended: float = 20.0, reason: Reason | None = None) -> Attempt:
    """An attempt of which a series is known."""
    usage = Usage(max_rss_mb=max(memory), interval_s=5.0, series=tuple((100, mib) for mib in memory))
    return replace(attempt(ended=ended, reason=reason), usage=usage)


def test_a_run_has_the_curve_of_what_ended_well() -> None:
    (run,) = runs(job(1, drawn(30, 60)))
    assert [most_between(run.curve, 60, at, at) for at in (0.2, 0.8)] == [pytest.approx(30, 0.01), 60]
    (run,) = runs(job(1, drawn(900, reason="exit"), drawn(30, 60)))
    assert run.peak_mb == 900 and most_between(run.curve, 900, 0, 1) == pytest.approx(60, 0.05)
    assert runs(job(1, drawn(30, 60, reason="exit"), state="FAILED"))[0].curve == NO_CURVE


def test_jobs_of_one_run_have_the_highest_curve_over_the_longest_time() -> None:
    (run,) = runs(job(1, drawn(30, 60)), job(2, drawn(90, 10, 10, 10, ended=30.0), run="r1"))
    assert (run.duration_s, run.longest_s, run.jobs) == (15.0, 20.0, 2)
    firsts = [most_between(run.curve, 90, at, at) for at in (0.1, 0.3, 0.6, 0.9)]
    assert firsts == [90, pytest.approx(60, 0.02), pytest.approx(10, 0.05), pytest.approx(10, 0.05)]
    (run,) = runs(job(1, drawn(900, reason="exit"), state="FAILED"), job(2, drawn(30, 60), resubmit_of=1))
    assert run.peak_mb == 900 and most_between(run.curve, 900, 0, 0.4) == pytest.approx(30, 0.1)


@pytest.mark.parametrize(
    ("command", "step"),
    [
        ("make all", "make"),
        ("A=1 B=2 /usr/bin/sort x", "sort"),
        ("python -u train.py --fast", "python train.py"),
        (("/opt/bin/python3", "/srv/load.py", "5"), "python3 load.py"),
        ("A=1", ""),
        (("/",), "/"),
        ("bash", "bash"),
    ],
)
def test_a_job_without_a_name_is_known_by_its_program(command: str | tuple[str, ...], step: str) -> None:
    assert step_of(replace(job(), name="", command=command)) == step


@pytest.mark.parametrize("reason", ["user", "lost", "dependency", "max_fails"])
def test_what_people_and_machines_ended_is_no_run(reason: Reason) -> None:
    assert run_of(job(1, attempt(reason=reason), state="FAILED", reason=reason)) is None
    assert run_of(job(1, attempt(reason="user"), state="KILLED", reason="user")) is None


def test_a_job_that_never_started_is_no_run() -> None:
    never = replace(attempt(reason="image"), started=None)
    assert run_of(job(1, never, state="FAILED", reason="image")) is None
    assert run_of(replace(job(1), attempts=())) is None


def test_attempts_count_once_and_the_highest_peak_counts() -> None:
    lost = attempt(1, 1.0, 5.0, "lost", peak=300.0)
    [run] = runs(job(1, lost, attempt(2, 10.0, 14.0, peak=200.0)))
    assert (run.peak_mb, run.duration_s, run.jobs, run.partial) == (300.0, 4.0, 1, False)


def test_one_killed_for_memory_wanted_at_least_what_it_was_given() -> None:
    [run] = runs(job(1, attempt(reason="oom", peak=400.0), state="FAILED"))
    assert (run.peak_mb, run.outcome, run.partial) == (1000.0, "oom", True)


def test_one_that_outgrew_its_size_is_told_apart_from_what_was_asked() -> None:
    sized = Sized(asked=Resources(4, 2000), runs=9, mem=500, again_mem=2000, outgrew=1)
    [run] = runs(
        job(1, attempt(1, reason="oom", peak=490.0), attempt(2, peak=700.0), sized=sized, resources=Resources(1, 2000))
    )
    assert (run.peak_mb, run.asked_mb, run.given_mb, run.cpus_asked) == (700.0, 2000, 2000, 4)
    [only] = runs(job(1, attempt(1, reason="oom", peak=490.0), sized=sized, resources=Resources(1, 2000)))
    assert only.peak_mb == 500.0


def test_nobody_measured() -> None:
    [run] = runs(job(1, replace(attempt(), usage=None)))
    assert (run.peak_mb, run.cpu_s) == (None, None)


def test_a_clock_that_was_set_back_gives_no_negative_time() -> None:
    assert runs(job(1, attempt(started=50.0, ended=20.0)))[0].duration_s == 0.0


def test_jobs_of_one_run_are_one_record() -> None:
    many = [job(n, attempt(ended=10.0 + n, peak=100.0 * n), run="r", array_id=1, array_index=n) for n in (1, 2, 3)]
    [run] = runs(*many, job(4, attempt(ended=99.0, reason="exit", peak=50.0), run="r", state="FAILED"))
    assert (run.jobs, run.duration_s, run.peak_mb, run.outcome, run.partial) == (3, 2.0, 300.0, "finished", False)


def test_a_resubmission_replaces_the_run_that_failed_but_not_one_that_went_well() -> None:
    failed = job(1, attempt(reason="oom", peak=900.0), state="FAILED")
    [run] = runs(failed, job(2, attempt(peak=1500.0), resubmit_of=1))
    assert (run.run, run.job, run.outcome, run.peak_mb, run.partial) == ("r2", 2, "finished", 1500.0, False)
    assert len(runs(job(1), job(2, resubmit_of=1))) == 2


def test_only_the_last_runs_are_kept() -> None:
    kept = runs(*(job(n, attempt(ended=100.0 + n)) for n in range(1, book.KEPT + 11)))
    assert [run.run for run in kept] == [f"r{n}" for n in range(11, book.KEPT + 11)]
    assert [run.job for run in kept] == list(range(11, book.KEPT + 11))


def test_pipelines_of_others_and_other_steps_are_apart() -> None:
    past = Past()
    for each in (job(1), job(2, owner="bob"), job(3, name="load"), job(4, pipeline=None, run=None)):
        past.add(each)
    assert [run.job for run in past.runs("ann", "etl", "train")] == [1]
    assert past.runs("bob", "etl", "load") == ()
    assert past.steps("ann", "etl") == ["train", "load"]
    past.forget("ann", "etl")
    assert (past.steps("ann", "etl"), past.runs("ann", "etl", "train"), len(past)) == ([], (), 1)


def test_similar_jobs_are_known_by_the_last_of_them() -> None:
    past = Past()
    for number in range(SIMILAR + 2):
        past.add(job(number, attempt(ended=10.0 + number), pipeline=None, run=None))
    past.add(job(4, attempt(ended=99.0, reason="exit"), pipeline=None, run=None, state="FAILED"))
    lasted = past.similar("ann", job(9))
    assert [each.seconds for each in lasted] == [float(number) for number in range(2, SIMILAR + 2)]
    assert (lasted[0].submitted, lasted[0].ended) == (1.0, 12.0)
    assert past.similar("bob", job(9)) == []
    assert past.durations(job(9)) == [each.seconds for each in lasted]  # nothing of the pipeline yet
    past.add(job(5, attempt(ended=15.0)))
    assert past.durations(job(9)) == [5.0]


def test_the_book_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "MOST_STEPS", 3)
    monkeypatch.setattr(book, "MOST_SIMILAR", 3)
    past = Past()
    for number in range(1, 6):
        past.add(job(number, name=f"s{number}"))
        past.add(job(1, name="s1"))
    assert len(past) == 3
    assert past.steps("ann", "etl") == ["s1", "s4", "s5"]


@pytest.mark.parametrize("peak", [0.001, 1e-9, 1e12])
def test_tiny_and_huge_amounts(peak: float) -> None:
    [run] = runs(job(1, attempt(ended=10.0 + 1e9, peak=peak), resources=Resources(0.001, 10**12)))
    assert run.peak_mb == pytest.approx(peak)
    assert run.duration_s == pytest.approx(1e9)
    assert run.asked_mb == pytest.approx(1e12)
