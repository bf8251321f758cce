"""From job records to the numbers of a run, and how runs are found in the archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retz.model.job import Attempt, Job, Usage
from retz.model.resources import Resources
from retz.server.skylines.collecting import (
    MAX_POINTS,
    Found,
    archived_numbers,
    find_ended,
    find_runs,
    newest,
    numbers_of,
)
from retz.server.skylines.runs import RunKey
from retz.store.archive import Archive


def attempt(number: int, launched: float, started: float | None, ended: float | None, **fields: Any) -> Attempt:
    return Attempt(number=number, agent="a", launched=launched, started=started, ended=ended, **fields)


def job(number: int, *attempts: Attempt, run: str | None = "r", pipeline: str | None = "p", **fields: object) -> Job:
    base: dict[str, Any] = {"owner": "ann", "resources": Resources(0.5, 100), "ended": 10.0, **fields}
    return Job(
        id=number, command="x", submitted=1.0, state="FINISHED", attempts=attempts, pipeline=pipeline, run=run,
        environment={"run": "s"}, **base,
    )  # fmt: skip


def test_an_attempt_holds_its_resources_from_start_to_end() -> None:
    numbers = numbers_of([job(1, attempt(1, 1.0, 2.0, 4.5))], 1)
    assert numbers.spans == [(2000, 4500, {"memory": 100.0, "vcores": 0.5})]
    assert numbers.usages == []


def test_gpus_are_named_only_where_there_are_any() -> None:
    numbers = numbers_of([job(1, attempt(1, 1.0, 2.0, 4.5), resources=Resources(2, 10, gpus=3))], 1)
    assert numbers.spans[0][2] == {"memory": 10.0, "vcores": 2, "gpus": 3.0}


def test_all_attempts_count_but_those_that_held_nothing_for_certain() -> None:
    numbers = numbers_of(
        [
            job(
                1,
                attempt(1, 1.0, None, 2.0, reason="lost"),  # taken back in line
                attempt(2, 3.0, 4.0, 5.0, reason="lost"),  # its machine burnt
                attempt(3, 6.0, None, 8.0, reason="image"),  # it waited for its image
                attempt(4, 9.0, 9.5, 9.25),  # a clock was set back
                attempt(5, 10.0, 11.0, None),
            )
        ],
        1,
    )
    assert [span[:2] for span in numbers.spans] == [(4000, 5000), (6000, 8000), (9500, 9500)]


def test_measurements_begin_with_their_attempt() -> None:
    usage = Usage(interval_s=2.0, series=((150, 30), (5, 10)))
    numbers = numbers_of([job(1, attempt(1, 1.0, 2.0, 6.0, usage=usage))], 1)
    assert numbers.usages == [(2000, 2000.0, [(1.5, 30.0), (0.05, 10.0)], 6000)]


def test_what_was_too_short_for_a_series_used_its_sums_evenly() -> None:
    short = Usage(cpu_s=0.6, max_rss_mb=12.5, interval_s=2.0)
    tiny = Usage(cpu_s=0.01, max_rss_mb=3.0, interval_s=2.0)
    nobody_looked = Usage(interval_s=2.0)
    attempts = [
        attempt(number, 1.0, 2.0, ended, usage=usage)
        for number, (ended, usage) in enumerate([(2.4, short), (2.0, tiny), (2.4, nobody_looked)], 1)
    ]
    assert numbers_of([job(1, *attempts)], 1).usages == [
        (2000, 400.0, [(1.5, 12.5)], 2400),
        (2000, 100.0, [(0.1, 3.0)], 2000),
    ]


def test_measurements_of_many_long_jobs_are_merged() -> None:
    series = tuple((100 * (n % 2), n) for n in range(80))
    one = job(1, attempt(1, 1.0, 2.0, 82.0, usage=Usage(interval_s=1.0, series=series)))
    (usage,) = numbers_of([one], MAX_POINTS // 8).usages
    assert usage[:2] == (2000, 10_000.0)
    assert usage[2] == [(0.5, float(n)) for n in range(9, 80, 10)], "mean of processors, peak of memory"


@pytest.mark.parametrize("segment_records", [1000, 2])
def test_runs_are_found_in_the_archive(tmp_path: Path, segment_records: int) -> None:
    archive = Archive.open(tmp_path / "archive", segment_records=segment_records)
    strange = 'r"\\é\u2028'
    archive.append(
        [
            job(1, attempt(1, 1.0, 2.0, 4.0), ended=4.0),
            job(2, run="s", ended=5.0),
            job(3, owner="bob", ended=6.0),
            job(4, pipeline="q", ended=7.0),
            job(5, run=None, pipeline=None, ended=8.0),
            job(6, run=strange, ended=9.0),
            job(7, run=None, ended=9.5),  # before runs had names of their own
            job(8, attempt(1, 1.0, 3.0, 5.0), ended=10.0),
        ]
    )
    mine, odd = RunKey("ann", "p", "r"), RunKey("ann", "p", strange)
    found = find_runs(archive, {mine, odd, RunKey("eve", "p", "r")}, {("ann", "p"), ("eve", "p")})
    assert {key: each.ids for key, each in found.items()} == {mine: [1, 8], odd: [6]}
    assert (found[mine].earliest, found[mine].latest) == (4.0, 10.0)
    since = find_ended(archive, 7.0)
    assert {key: each.ids for key, each in since.items()} == {RunKey("ann", "q", "r"): [4], odd: [6], mine: [8]}
    numbers = archived_numbers(archive, [1, 8, 99], 3)
    assert [span[:2] for span in numbers.spans] == [(2000, 4000), (3000, 5000)]
    archive.close()


def test_of_each_pipeline_the_runs_that_ended_last_are_chosen_in_order() -> None:
    ends = {"p": [5.0, 9.0, 1.0, 9.0, 7.0], "q": [2.0]}
    found = {
        RunKey("ann", pipeline, f"r{number}"): Found([number], ended, ended)
        for pipeline, times in ends.items()
        for number, ended in enumerate(times)
    }
    chosen = newest(found, 3)
    assert [key.run for key, _ in chosen if key.pipeline == "p"] == ["r4", "r1", "r3"]
    assert [(key.run, run.ids) for key, run in chosen if key.pipeline == "q"] == [("r0", [0])]
    assert not found
