"""The book from the archive: enough of it, whatever the archive holds."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retz.model.job import Attempt, Job, Usage
from retz.model.resources import Resources
from retz.server.learning import loading
from retz.server.learning.loading import load
from retz.server.learning.past import KEPT, SIMILAR, Past
from retz.store.archive import Archive


def job(number: int, **fields: Any) -> Job:
    attempt = Attempt(
        number=1, agent="a", launched=1.0, started=2.0, ended=3.0,
        usage=Usage(cpu_s=1.0, max_rss_mb=float(number), interval_s=1.0, series=((100, number // 2), (50, number))),
    )  # fmt: skip
    base: dict[str, Any] = {
        "owner": "ann",
        "name": "train",
        "pipeline": "etl",
        "run": f"r{number}",
        "state": "FINISHED",
    }
    base |= {"submitted": float(number), "ended": float(number), "attempts": (attempt,)}
    return Job(id=number, command="x", resources=Resources(2, 1000), **{**base, **fields})


@pytest.fixture
def archive(tmp_path: Path) -> Any:
    with_few = Archive.open(tmp_path / "archive", segment_records=20)
    yield with_few
    with_few.close()


def numbers(past: Past, pipeline: str = "etl", step: str = "train") -> list[int]:
    return [run.job for run in past.runs("ann", pipeline, step)]


def test_an_empty_archive_is_an_empty_book(archive: Archive) -> None:
    assert len(load(archive, {}).past) == 0


def test_the_newest_runs_over_many_segments(archive: Archive) -> None:
    archive.append([job(number) for number in range(1, KEPT * 5)])
    found = load(archive, {})
    assert numbers(found.past) == list(range(KEPT * 4, KEPT * 5))
    assert len(found.seen) <= KEPT * 4, "what does not fit in the book is not read"


def test_a_run_of_many_jobs_takes_the_place_of_no_other(archive: Archive) -> None:
    archive.append([job(number) for number in range(1, 4)])
    archive.append([job(number, run="array", submitted=4.0) for number in range(4, 400)])
    past = load(archive, {}).past
    assert [run.run for run in past.runs("ann", "etl", "train")] == ["r1", "r2", "r3", "array"]
    assert past.runs("ann", "etl", "train")[-1].jobs == loading.MOST_OF_A_RUN


def test_jobs_without_a_pipeline_leave_their_durations(archive: Archive) -> None:
    archive.append([job(number, pipeline=None, run=None) for number in range(1, 200)])
    found = load(archive, {})
    assert [each.seconds for each in found.past.similar("ann", job(1))] == [1.0] * SIMILAR
    assert len(found.seen) <= 4 * SIMILAR


def test_damaged_records_are_left_out(archive: Archive, tmp_path: Path) -> None:
    archive.append([job(number) for number in range(1, 11)])
    (path,) = (tmp_path / "archive").glob("segment-*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"train", b"brain")
    lines[7] = b"x" * (len(lines[7]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))
    assert numbers(load(archive, {}).past) == [1, 2, 3, 5, 6, 7, 9, 10]


def test_what_is_forgotten_stays_so_and_what_came_later_counts(archive: Archive) -> None:
    archive.append([job(number) for number in range(1, 11)])
    archive.append([job(number, pipeline="other") for number in range(11, 14)])
    past = load(archive, {("ann", "etl", ""): 8.0, ("ann", "other", "r12"): 99.0, ("bob", "other", ""): 99.0}).past
    assert (numbers(past), numbers(past, "other")) == ([9, 10], [11, 13])


def test_there_is_an_end_to_reading(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MOST_ROWS", 25)
    archive.append([job(number, pipeline=f"p{number}") for number in range(1, 101)])
    assert load(archive, {}).seen == set(range(76, 101))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(1, 6), st.sampled_from(["FINISHED", "FAILED", "KILLED"])),
        max_size=60,
    ),
    st.integers(1, 7),
)  # fmt: skip
def test_the_book_from_the_archive_is_the_book_kept_all_along(
    tmp_path_factory: pytest.TempPathFactory, ended: list[tuple[str, int, Any]], segment: int
) -> None:
    jobs = [
        job(number, name=name, run=f"r{run}", state=state, reason=None if state == "FINISHED" else "exit")
        for number, (name, run, state) in enumerate(ended, 1)
    ]
    archive = Archive.open(tmp_path_factory.mktemp("archive"), segment_records=segment)
    archive.append(jobs)
    found = load(archive, {})
    archive.close()
    live = Past()
    for each in jobs:
        live.add(each)
    for step in "ab":
        assert found.past.runs("ann", "etl", step) == live.runs("ann", "etl", step)
    counted = sum(run.jobs for step in "ab" for run in live.runs("ann", "etl", step) if run.outcome == "finished")
    assert counted == sum(each.state == "FINISHED" for each in jobs) or len(jobs) > KEPT


def test_ten_thousand_pipelines_are_small() -> None:
    past = Past()
    tracemalloc.start()
    for number in range(1, 20_001):
        past.add(job(number, pipeline=f"pipeline-{number % 10_000}", run=f"20261120-092457-{number}"))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(past) == 10_000
    assert size < 20 << 20
