"""Who used what: sums over the archive are those of a plain look at every second."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retz.model.job import Attempt, Job, Sized, State, Usage
from retz.model.resources import Resources
from retz.store.archive import Archive
from retz.store.usage import Meter, Sums, UsageSum, add_archived

DAY = 100


@st.composite
def jobs(draw: st.DrawFn, number: int) -> Job:
    """An ended job with attempts one after the other."""
    now = submitted = draw(st.integers(0, DAY))
    attempts: list[Attempt] = []
    for attempt in range(1, draw(st.integers(0, 3)) + 1):
        start = now + draw(st.integers(0, 20))
        now = start + draw(st.integers(0, 40))
        use = draw(st.sampled_from([None, Usage(cpu_s=float(now - start), max_rss_mb=100.0)]))
        attempts.append(Attempt(number=attempt, agent="a", launched=start, ended=now, usage=use))
    states: list[State] = ["FINISHED", "FAILED", "KILLED"]
    small = draw(st.sampled_from([None, Sized(asked=Resources(1.0, 100), runs=3, mem=40, again_mem=100, outgrew=1)]))
    return Job(
        id=number,
        owner=draw(st.sampled_from(["ann", "bob"])),
        command="x",
        application=draw(st.sampled_from(["default", "b"])),
        resources=Resources(draw(st.sampled_from([1.0, 2.5])), 100, 0, draw(st.integers(0, 2))),
        submitted=submitted,
        state=draw(st.sampled_from(states)),
        ended=now + draw(st.integers(0, 5)),
        attempts=tuple(attempts),
        sized=small,
    )


many_jobs = st.integers(0, 12).flatmap(lambda count: st.tuples(*(jobs(number) for number in range(1, count + 1))))


def by_seconds(found: tuple[Job, ...], since: int, until: int, owner: str | None) -> Sums:
    """The same, second by second."""
    sums: Sums = {}
    for job in found:
        seconds = [
            (second, attempt)
            for attempt in job.attempts
            for second in range(int(attempt.launched), int(attempt.ended or 0))
            if since <= second < until
        ]
        over = since <= (job.ended or 0) < until
        if (owner is not None and job.owner != owner) or not (seconds or over):
            continue
        total = sums.setdefault((job.owner, job.application), UsageSum())
        name = job.state.lower() if over else "running"
        setattr(total, name, getattr(total, name) + 1)
        total.cpu_s += job.resources.cpus * len(seconds)
        total.gpu_s += job.resources.gpus * len(seconds)
        total.mem_mb_s += sum(job.given(attempt).mem for _, attempt in seconds)
        used = [attempt for _, attempt in seconds if attempt.usage is not None]
        total.cpu_used_s += len(used)
        total.mem_used_mb_s += 100 * len(used)
    return sums


@settings(max_examples=60, deadline=None)
@given(many_jobs, st.integers(0, DAY), st.integers(1, 2 * DAY), st.sampled_from([None, "ann", "nobody"]))
def test_sums_are_those_of_every_second(found: tuple[Job, ...], since: int, length: int, owner: str | None) -> None:
    with TemporaryDirectory() as directory:
        archive = Archive.open(Path(directory), segment_records=5)
        archive.append(found)
        meter = Meter(since, since + length)
        add_archived(meter, archive, owner, frozenset())
        archive.close()
    expected = by_seconds(found, since, since + length, owner)
    assert meter.sums.keys() == expected.keys()
    for key, total in expected.items():
        for name in UsageSum.__struct_fields__:
            assert getattr(meter.sums[key], name) == pytest.approx(getattr(total, name)), (key, name)


def test_what_was_counted_before_is_not_counted_again(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    attempt = Attempt(number=1, agent="a", launched=1.0, ended=2.0)
    archive.append(
        [
            Job(id=n, owner="ann", command="x", resources=Resources(1, 1), submitted=0.0, state="KILLED", ended=2.0,
                attempts=(attempt,))
            for n in (1, 2)
        ]
    )  # fmt: skip
    meter = Meter(0.0, 10.0)
    add_archived(meter, archive, None, {1})
    assert meter.sums["ann", "default"].killed == 1


def test_a_damaged_record_is_left_out(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    archive.append(
        [
            Job(id=n, owner="ann", command="x", resources=Resources(1, 1), submitted=0.0, state="KILLED", ended=2.0)
            for n in (1, 2)
        ]
    )
    (file,) = tmp_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes().replace(b'"id":1', b'"id":7'))
    meter = Meter(0.0, 10.0)
    add_archived(meter, archive, None, frozenset())
    assert meter.sums["ann", "default"].killed == 1
