"""Why jobs ended: for every reason a sentence that says what to do next."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retz.model.array import Array
from retz.model.job import Attempt, Job, OffPath, Reason, Sized, Usage
from retz.model.resources import Resources
from retz.scheduler.outcome import TABLE, Past, ended, strayed

RAN = Attempt(number=1, agent="a", launched=100.0, started=100.0, ended=160.0)


def job(**more: Any) -> Job:
    fields: dict[str, Any] = {
        "owner": "ann", "command": "x", "resources": Resources(2.0, 2048, 100), "submitted": 50.0, "state": "FAILED",
        "attempts": (RAN,), "ended": 160.0,
    }  # fmt: skip
    return Job(id=12, **{**fields, **more})


def used(mb: float, cpu_s: float = 30.0, **more: Any) -> tuple[Attempt, ...]:
    usage = Usage(cpu_s=cpu_s, max_rss_mb=mb)
    return (Attempt(number=1, agent="a", launched=100.0, started=100.0, ended=160.0, usage=usage, **more),)


ETL = Past("etl", peaks=[1900, 2355, 1800, 2200, 1700, 2100, 1900, 1650, 1500], durations=[30.0, 45.0], limit_mb=2570.0)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            job(reason="oom", attempts=used(2150)),
            "failed (oom): used 2.1G of the 2G it asked for; pipeline etl peaked at up to 2.3G in 3 of the last 9 "
            "runs; try --mem 2600m",
        ),
        (
            job(reason="oom", attempts=used(2052), sized=Sized(asked=Resources(1.0, 4000), runs=9, mem=2048)),
            "failed (oom): used 2052M of the 2048M predicted for it; pipeline etl peaked at up to 2.3G in 3 of the "
            "last 9 runs; try --mem 2600m",
        ),
        (
            job(reason="timeout", timeout_s=60.0),
            "failed (timeout): ran into its time limit of 1m00s; pipeline etl took up to 45s in 2 runs that ended "
            "well; try --timeout 120s, or give it less",
        ),
    ],
)
def test_with_a_past(asked: Job, sentence: str) -> None:
    assert ended(asked, ETL, 64_000) == sentence


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            job(reason="exit", exit_code=3),
            "failed (exit 3): its command gave up after 1m00s; what it said last: 'retz get-file --path stderr 12'",
        ),
        (
            job(reason="exit", exit_code=127, attempts=()),
            "failed (exit 127): its command gave up before it was started; the shell did not find what it names: is it "
            "installed there, and on the PATH?; what it said last: 'retz get-file --path stderr 12'",
        ),
        (
            job(reason="signal", signal=11),
            "failed (signal 11, SIGSEGV): ended after 1m00s by a signal that Retz did not send; what it said last: "
            "'retz get-file --path stderr 12'",
        ),
        (job(reason="oom"), "failed (oom): needed more than the 2G it asked for; try --mem 2600m"),
        (
            job(reason="disk", message="wrote 200M of 100M"),
            "failed (disk): wrote 200M of 100M; try --disk 200m",
        ),
        (
            job(reason="timeout", timeout_s=7200.0),
            "failed (timeout): ran into its time limit of 2h00m; try --timeout 14400s, or give it less",
        ),
        (
            job(reason="start", message="no such program: trian.py"),
            "failed (start): no such program: trian.py; see its command with 'retz get-job 12'",
        ),
        (
            job(reason="fetch", message="a.tgz: 404", application="ml"),
            "failed (fetch): a.tgz: 404; check 'retz get-app -A ml', then 'retz resubmit 12'",
        ),
        (
            job(reason="image"),
            "failed (image): its container image could not be had; check 'retz get-app -A default', then "
            "'retz resubmit 12'",
        ),
        (
            job(state="KILLED", reason="user", message="killed by its owner"),
            "killed: by its owner after 1m00s; to have it again: 'retz resubmit 12'",
        ),
        (
            job(reason="dependency", after=(7,), attempts=(), message="it waited for job 7, which did not end well"),
            "failed (dependency): it waited for job 7, which did not end well; see 'retz why 7'; "
            "then 'retz resubmit 12'",
        ),
        (
            job(state="KILLED", reason="max_fails", group="nightly", message="3 of group nightly failed"),
            "killed (max_fails): 3 of group nightly failed; see 'retz list --state FAILED --group nightly'",
        ),
        (
            job(reason="tasks", message="2 failed", array=Array(1, 3)),
            "failed (tasks): 2 failed; see 'retz list --state FAILED --array 12'",
        ),
        (
            job(reason="lost", losses=6, message="lost 6 times, last: agent a is gone"),
            "failed (lost): lost 6 times, last: agent a is gone; more often than --retries 5 bears; to have it again: "
            "'retz resubmit 12'",
        ),
        (
            job(state="FINISHED", attempts=used(300.0)),
            "finished: in 1m00s with 0.5 cpus busy, 300M memory at most; --mem 400m would do",
        ),
        (
            job(state="FINISHED", attempts=used(300.0), sized=Sized(asked=Resources(2.0, 2048), runs=9, mem=2048)),
            "finished: in 1m00s with 0.5 cpus busy, 300M memory at most",
        ),
        (
            job(
                state="FINISHED",
                attempts=used(300.0),
                sized=Sized(asked=Resources(2.0, 2048), runs=9, mem=200, again_mem=2048, outgrew=1),
            ),
            "finished: in 1m00s with 0.5 cpus busy, 300M memory at most; it outgrew the 200M predicted for it and ran"
            " once more with 2G",
        ),
        (job(state="FINISHED", attempts=used(0.0, 0.0)), "finished: in 1m00s"),
        (job(), "failed: why is not known"),
    ],
)
def test_every_reason_has_a_sentence_with_the_next_step(asked: Job, sentence: str) -> None:
    assert ended(asked, None, None) == sentence


def test_the_table_has_every_reason() -> None:
    assert set(TABLE) == set(get_args(Reason))


def test_nobody_is_told_to_ask_for_more_than_there_is() -> None:
    assert ended(job(reason="oom", attempts=used(2100)), None, 2300).endswith("try --mem 2300m")
    assert "no machine here has more" in ended(job(reason="oom"), None, 2048)


FLOATS = st.floats(0, 1e15)


@given(
    st.builds(
        job,
        state=st.sampled_from(["FINISHED", "FAILED", "KILLED"]),
        reason=st.none() | st.sampled_from(get_args(Reason)),
        message=st.none() | st.text("ab", max_size=5),
        exit_code=st.none() | st.integers(-3, 300),
        signal=st.none() | st.integers(-3, 300),
        timeout_s=st.none() | FLOATS,
        ended=st.none() | FLOATS,
        resources=st.builds(
            Resources, st.floats(0.001, 1e6), st.integers(1, 1 << 43), st.integers(0, 1 << 43), st.just(0), st.just(0)
        ),
        attempts=st.lists(
            st.builds(
                Attempt,
                number=st.just(1),
                agent=st.just("a"),
                launched=FLOATS,
                started=st.none() | FLOATS,
                ended=st.none() | FLOATS,
                usage=st.none() | st.builds(Usage, cpu_s=FLOATS, max_rss_mb=FLOATS),
            ),
            max_size=2,
        ).map(tuple),
        array=st.none() | st.just(Array(1, 3)),
        after=st.lists(st.integers(1, 9), max_size=3).map(tuple),
    ),
    st.none()
    | st.builds(
        Past,
        st.just("etl"),
        st.lists(FLOATS, max_size=3),
        st.lists(FLOATS, max_size=3),
        st.none() | FLOATS,
    ),
    st.none() | st.integers(1, 1 << 43),
)
def test_every_record_gets_a_sentence(asked: Job, past: Past | None, most: int | None) -> None:
    said = ended(asked, past, most)
    assert said.startswith(("finished", "failed", "killed"))
    assert not said.endswith((":", ";", " "))
    assert "; ;" not in said
    if asked.reason == "oom" and asked.state != "FINISHED":
        assert "--mem" in said or "no machine here" in said


def test_how_a_running_job_left_its_path() -> None:
    slow = OffPath("slower", 1.0, 1, 720.0, 480.0, 9)
    peak, then = OffPath("hungrier", 1.0, 1, 2150.0, 1024.0, 9), OffPath("hungrier", 1.0, 1, 800.0, 120.0, 9, 750.0)
    assert strayed(job(off_path=(slow, peak))) == (
        "slower than usual: 12m00s, in 9 of 10 runs at most 8m00s; "
        "hungrier than usual: 2.1G, in 9 of 10 runs at most 1G"
    )
    assert strayed(job(off_path=(then,))) == "hungrier than usual: 800M after 12m30s, in 9 of 10 runs at most 120M then"
    brief = OffPath("slower", 1.0, 1, 9.0, 0.3, 9)
    assert strayed(job(off_path=(brief,))) == "slower than usual: 9.0s, in 9 of 10 runs at most 0.3s"
    assert strayed(job()) == ""
