"""The life cycle: its whole table, and what no sequence of events may ever break."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from retz.lifecycle import (
    Drop,
    Effect,
    Ended,
    Event,
    Hold,
    Kill,
    Launch,
    Lost,
    NotStarted,
    Release,
    Reprioritise,
    Started,
    advance,
)
from retz.model.job import ENDED_STATES, RUNNING_STATES, STATES, Attempt, Job, Reason, Sized, State, Usage
from retz.model.resources import Resources


def queued(**more: Any) -> Job:
    return Job(id=7, owner="ann", command="true", resources=Resources(cpus=1), submitted=1.0, **more)


def after(job: Job, *events: Event) -> Job:
    for event in events:
        job, _ = advance(job, event)
    return job


STARTING = after(queued(), Launch(2.0, "a"))
STARTED = after(STARTING, Started(3.0, 1))
JOBS: dict[State, Job] = {
    "CREATED": queued(state="CREATED"),
    "QUEUED": queued(),
    "STARTING": STARTING,
    "STARTED": STARTED,
    "FINISHED": after(STARTED, Ended(at=4.0, attempt=1, exit_code=0)),
    "FAILED": after(STARTED, Ended(at=4.0, attempt=1, exit_code=3)),
    "KILLED": after(STARTED, Kill(3.5), Ended(at=4.0, attempt=1, signal=15)),
}
EVENTS: list[Event] = [
    Launch(9.0, "b"),
    Started(9.0, 1),
    NotStarted(9.0, 1, "claimed back"),
    Ended(at=9.0, attempt=1, exit_code=0),
    Lost(9.0, 1, "agent gone"),
    Kill(9.0),
    Hold(9.0),
    Release(9.0),
    Reprioritise(9.0, -3),
    Drop(9.0, "dependency", "it waited for job 3"),
]
TABLE: dict[tuple[State, type], tuple[State, tuple[Effect, ...]]] = {
    ("QUEUED", Launch): ("STARTING", ("dequeue", "launch")),
    ("QUEUED", Kill): ("KILLED", ("dequeue", "end")),
    ("QUEUED", Hold): ("QUEUED", ("dequeue",)),
    ("QUEUED", Drop): ("FAILED", ("dequeue", "end")),
    ("QUEUED", Reprioritise): ("QUEUED", ("dequeue", "enqueue")),
    ("STARTING", Started): ("STARTED", ()),
    ("STARTING", NotStarted): ("QUEUED", ("enqueue",)),
    ("STARTED", NotStarted): ("QUEUED", ("enqueue",)),
    ("STARTING", Ended): ("FINISHED", ("end",)),
    ("STARTED", Ended): ("FINISHED", ("end",)),
    ("STARTING", Lost): ("QUEUED", ("enqueue",)),
    ("STARTED", Lost): ("QUEUED", ("enqueue",)),
    ("STARTING", Kill): ("STARTING", ("kill",)),
    ("STARTED", Kill): ("STARTED", ("kill",)),
}
"""Every pair that changes something, for a job that is neither held nor being killed."""


def test_the_examples_are_in_their_states() -> None:
    assert {state: job.state for state, job in JOBS.items()} == {state: state for state in STATES}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("state", STATES)
def test_every_pair_of_state_and_event(state: State, event: Event) -> None:
    before = JOBS[state]
    job, effects = advance(before, event)
    expected = TABLE.get((state, type(event)))
    if expected is None:
        assert job is before
        assert effects == ()
    else:
        assert job is not before
        assert (job.state, effects) == expected


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kill_first", [False, True])
def test_an_event_twice_is_an_event_once(state: State, event: Event, kill_first: bool) -> None:
    job = after(JOBS[state], Kill(8.0)) if kill_first else JOBS[state]
    once = after(job, event)
    if isinstance(event, Drop | Kill | Hold | Release | Reprioritise | Launch) or once.attempts:
        assert after(once, event) is once


@pytest.mark.parametrize("state", RUNNING_STATES)
@pytest.mark.parametrize("number", [0, 2, 99])
def test_news_about_other_attempts_changes_nothing(state: State, number: int) -> None:
    job = JOBS[state]
    for event in (
        Started(9.0, number),
        NotStarted(9.0, number),
        Ended(at=9.0, attempt=number, exit_code=0),
        Lost(9.0, number),
    ):
        assert advance(job, event) == (job, ())


def test_old_news_about_a_lost_attempt_does_not_end_its_successor() -> None:
    job = after(STARTED, Lost(4.0, 1, "agent gone"), Launch(5.0, "b"), Started(6.0, 2))
    for event in (Ended(at=7.0, attempt=1, exit_code=0), Lost(7.0, 1), Started(7.0, 1)):
        assert advance(job, event) == (job, ())
    assert job.task_id == "7.2"


class TestEnded:
    @pytest.mark.parametrize(
        ("result", "state", "reason"),
        [
            ({"exit_code": 0}, "FINISHED", None),
            ({"exit_code": 3}, "FAILED", "exit"),
            ({"signal": 11}, "FAILED", "signal"),
            ({"signal": 9, "reason": "oom"}, "FAILED", "oom"),
            ({"signal": 15, "reason": "timeout"}, "FAILED", "timeout"),
            ({"exit_code": 0, "reason": "timeout"}, "FAILED", "timeout"),
            ({"exit_code": 127, "reason": "start"}, "FAILED", "start"),
        ],
    )
    def test_the_true_result_is_kept(self, result: dict[str, Any], state: State, reason: Reason | None) -> None:
        usage = Usage(cpu_s=1.5, max_rss_mb=20.0)
        job, effects = advance(STARTED, Ended(at=9.0, attempt=1, message="m", usage=usage, **result))
        assert (job.state, job.reason, job.ended, job.message) == (state, reason, 9.0, "m")
        assert (job.exit_code, job.signal) == (result.get("exit_code"), result.get("signal"))
        attempt = job.attempts[-1]
        assert (attempt.exit_code, attempt.signal) == (job.exit_code, job.signal)
        assert (attempt.reason, attempt.ended, attempt.usage) == (reason, 9.0, usage)
        assert effects == ("end",)

    def test_a_start_that_was_missed_is_made_up_for(self) -> None:
        job = after(STARTING, Ended(at=9.0, attempt=1, exit_code=0, started=2.5))
        assert job.started == 2.5
        job = after(STARTED, Ended(at=9.0, attempt=1, exit_code=0, started=2.5))
        assert job.started == 3.0

    @pytest.mark.parametrize("result", [{"exit_code": 0}, {"exit_code": 3}, {"signal": 15}, {"reason": "oom"}])
    def test_after_a_kill_it_is_killed_however_it_ended(self, result: dict[str, Any]) -> None:
        job = after(STARTED, Kill(4.0, "by ann"), Ended(at=9.0, attempt=1, message="m", **result))
        assert (job.state, job.reason, job.message, job.kill_requested) == ("KILLED", "user", "by ann", 4.0)
        assert job.exit_code == result.get("exit_code")


class TestLost:
    def test_retries_up_to_the_jobs_own_limit(self) -> None:
        job = queued(max_retries=2)
        for number in (1, 2, 3):
            assert job.state == "QUEUED"
            job = after(job, Launch(2.0, "a"), Lost(3.0, number, "agent gone"))
        assert (job.state, job.reason, job.losses) == ("FAILED", "lost", 3)
        assert job.message == "lost 3 times, last: agent gone"
        assert [attempt.reason for attempt in job.attempts] == ["lost"] * 3

    def test_no_retries(self) -> None:
        job, effects = advance(after(queued(max_retries=0), Launch(2.0, "a")), Lost(3.0, 1, "agent gone"))
        assert (job.state, job.reason, job.message, job.ended) == ("FAILED", "lost", "lost: agent gone", 3.0)
        assert effects == ("end",)

    def test_back_in_the_queue_it_says_why_until_it_starts_again(self) -> None:
        job = after(STARTED, Lost(4.0, 1, "agent gone"))
        assert (job.state, job.reason, job.message) == ("QUEUED", "lost", "agent gone")
        job = after(job, Launch(5.0, "b"))
        assert (job.reason, job.message) == (None, None)

    def test_what_never_started_is_no_loss(self) -> None:
        job = queued(max_retries=0)
        for number in range(1, 5):
            job = after(job, Launch(2.0, "a"), NotStarted(3.0, number))
        assert (job.state, job.losses, len(job.attempts)) == ("QUEUED", 0, 4)

    def test_what_did_start_is_lost_when_its_claim_is_gone(self) -> None:
        job = after(STARTED, NotStarted(4.0, 1, "the launcher never got it"))
        assert (job.state, job.reason, job.losses) == ("QUEUED", "lost", 1)
        job = after(STARTED, Kill(4.0), NotStarted(5.0, 1))
        assert (job.state, job.reason) == ("KILLED", "user")

    def test_a_thousand_launches_taken_back_do_not_swell_the_record(self) -> None:
        job = after(queued(), Launch(1.0, "a"), Started(2.0, 1), Lost(3.0, 1))
        for number in range(2, 1000):
            job = after(job, Launch(4.0, "a"), NotStarted(5.0, number))
        job = after(job, Launch(6.0, "a"))
        assert [attempt.number for attempt in job.attempts] == [1, *range(980, 1001)]
        assert len({attempt.number for attempt in job.attempts}) == len(job.attempts)


class TestKill:
    @pytest.mark.parametrize("event", [Lost(9.0, 1, "gone"), NotStarted(9.0, 1, "claimed back")])
    def test_nothing_puts_it_back_in_the_queue(self, event: Event) -> None:
        job, effects = advance(after(STARTING, Kill(8.0)), event)
        assert (job.state, job.reason, job.ended) == ("KILLED", "user", 9.0)
        assert effects == ("end",)

    def test_asking_again_asks_the_engine_again(self) -> None:
        job = after(STARTED, Kill(8.0))
        assert advance(job, Kill(9.0)) == (job, ("kill",))

    def test_a_held_job_is_killed_and_no_longer_held(self) -> None:
        job = after(queued(), Hold(2.0), Kill(3.0, "by ann"))
        assert (job.state, job.held, job.message, job.kill_requested) == ("KILLED", False, "by ann", 3.0)


class TestHeld:
    HELD = after(queued(), Hold(2.0))

    def test_it_is_not_launched(self) -> None:
        assert advance(self.HELD, Launch(3.0, "a")) == (self.HELD, ())

    def test_release_queues_it(self) -> None:
        job, effects = advance(self.HELD, Release(3.0))
        assert (job.held, effects) == (False, ("enqueue",))

    def test_holding_twice_and_releasing_what_is_not_held(self) -> None:
        assert advance(self.HELD, Hold(3.0)) == (self.HELD, ())
        job = queued()
        assert advance(job, Release(3.0)) == (job, ())

    def test_its_priority_may_change_without_queueing_it(self) -> None:
        job, effects = advance(self.HELD, Reprioritise(3.0, 5))
        assert (job.priority, job.held, effects) == (5, True, ())

    def test_the_same_priority_is_no_change(self) -> None:
        job = queued(priority=5)
        assert advance(job, Reprioritise(3.0, 5)) == (job, ())


def test_an_attempt_keeps_what_it_was_given() -> None:
    job = after(queued(), Launch(2.0, "a", gpus=("GPU-1",), ports=(31000,)))
    assert job.attempts == (Attempt(number=1, agent="a", launched=2.0, gpus=("GPU-1",), ports=(31000,)),)


def sized(mem: int = 100, again_mem: int = 400) -> Sized:
    return Sized(asked=Resources(cpus=1, mem=400), runs=5, mem=mem, again_mem=again_mem)


class TestOutgrown:
    JOB = queued(sized=sized(), max_retries=0)
    OOM = Ended(at=9.0, attempt=1, signal=9, reason="oom")

    def test_once_more_with_what_was_asked_for(self) -> None:
        job, effects = advance(after(self.JOB, Launch(2.0, "a"), Started(3.0, 1)), self.OOM)
        assert (job.state, job.reason, effects) == ("QUEUED", "oom", ("enqueue",))
        assert (job.resources.mem, job.losses, job.ended) == (400, 0, None)
        assert job.message == "outgrew the 100 MiB predicted for it: once more with 400 MiB"
        assert [job.given(attempt).mem for attempt in job.attempts] == [100]
        job = after(job, Launch(10.0, "a"), Started(11.0, 2))
        assert [job.given(attempt).mem for attempt in job.attempts] == [100, 400]
        job, effects = advance(job, replace(self.OOM, attempt=2))
        assert (job.state, job.reason, effects) == ("FAILED", "oom", ("end",))

    def test_a_lost_machine_in_between_changes_nothing_about_that(self) -> None:
        job = after(replace(self.JOB, max_retries=1), Launch(2.0, "a"), Lost(3.0, 1), Launch(4.0, "a"), Started(5.0, 2))
        job = after(job, replace(self.OOM, attempt=2))
        assert (job.state, job.losses, job.resources.mem) == ("QUEUED", 1, 400)
        job = after(job, Launch(10.0, "a"))
        assert [job.given(attempt).mem for attempt in job.attempts] == [100, 100, 400]

    @pytest.mark.parametrize(
        ("result", "said"),
        [
            ({"exit_code": 1}, sized()),
            ({"signal": 9, "reason": "timeout"}, sized()),
            ({"signal": 9, "reason": "oom"}, sized(again_mem=0)),
            ({"signal": 9, "reason": "oom"}, Sized(asked=Resources(cpus=1, mem=400), runs=1)),
            ({"signal": 9, "reason": "oom"}, None),
        ],
    )
    def test_nothing_else_is_tried_again(self, result: dict[str, Any], said: Sized | None) -> None:
        job = after(queued(sized=said), Launch(2.0, "a"), Started(3.0, 1), Ended(at=9.0, attempt=1, **result))
        assert job.state == "FAILED"

    def test_who_killed_it_meant_it(self) -> None:
        job = after(self.JOB, Launch(2.0, "a"), Started(3.0, 1), Kill(4.0), self.OOM)
        assert job.state == "KILLED"


times = st.floats(1, 1e9)
numbers = st.integers(0, 4)
results: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{"exit_code": 0}, {"exit_code": 1}, {"signal": 9}, {"signal": 9, "reason": "oom"}]
)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Launch, times, st.sampled_from(["a", "b"])),
    st.builds(Launch, times, st.sampled_from(["a", "b"])),
    st.builds(Started, times, numbers),
    st.builds(NotStarted, times, numbers),
    st.builds(lambda at, number, result: Ended(at=at, attempt=number, **result), times, numbers, results),
    st.builds(Lost, times, numbers, st.just("gone")),
    st.builds(Lost, times, numbers, st.just("gone")),
    st.builds(Kill, times),
    st.builds(Hold, times),
    st.builds(Release, times),
    st.builds(Reprioritise, times, st.integers(-20, 19)),
)


@given(st.lists(events, max_size=40), st.integers(0, 3), st.sampled_from([None, sized(), sized(again_mem=0)]))
@settings(max_examples=500, deadline=None)
def test_invariants_of_every_sequence(sequence: list[Event], max_retries: int, said: Sized | None) -> None:
    job = queued(max_retries=max_retries, sized=said)
    waits = True  # in the queue, according to the effects
    for event in sequence:
        before = job
        job, effects = advance(before, event)
        for effect in effects:
            if effect == "enqueue":
                assert not waits
                waits = True
            elif effect == "dequeue":
                waits = False
        assert waits is (job.state == "QUEUED" and not job.held)
        assert ("launch" in effects) is (len(job.attempts) > len(before.attempts))
        assert ("end" in effects) is (job.state in ENDED_STATES and before.state not in ENDED_STATES)
        _check_step(before, job)
        _check_record(job)
        if not isinstance(event, Kill):
            assert advance(job, event)[0] is job or isinstance(event, Launch)


def _check_step(before: Job, job: Job) -> None:
    if before.state in ENDED_STATES:
        assert job is before, "ended is final"
    if before.kill_requested is not None:
        assert job.kill_requested == before.kill_requested
        assert (
            job.state == "KILLED" or job.state == before.state or (before.state, job.state) == ("STARTING", "STARTED")
        )
    assert len(before.attempts) <= len(job.attempts) <= len(before.attempts) + 1
    assert job.attempts[: len(before.attempts) - 1] == before.attempts[:-1], "history does not change"
    assert before.losses <= job.losses <= before.losses + 1
    unchanged = {"state", "held", "reason", "message", "exit_code", "signal", "losses", "kill_requested"}
    same = {name: getattr(before, name) for name in (*unchanged, "ended", "attempts", "priority")}
    if job.sized != before.sized:
        _check_outgrown(before, job)
        same |= {"sized": before.sized, "resources": before.resources}
    assert replace(job, **same) == before, "what was asked for does not change"


def _check_outgrown(before: Job, job: Job) -> None:
    assert before.sized is not None and job.sized is not None
    assert before.sized.outgrew is None and before.kill_requested is None, "it happens once"
    assert job.attempts[-1].reason == job.reason == "oom"
    assert (job.state, job.losses) == ("QUEUED", before.losses)
    assert job.sized == replace(before.sized, outgrew=job.attempts[-1].number)
    assert job.resources == replace(before.resources, mem=before.sized.again_mem)


def _check_record(job: Job) -> None:
    assert [attempt.number for attempt in job.attempts] == list(range(1, len(job.attempts) + 1))
    alive = [attempt.number for attempt in job.attempts if attempt.ended is None]
    assert alive == ([len(job.attempts)] if job.state in RUNNING_STATES else [])
    assert (job.ended is not None) is (job.state in ENDED_STATES)
    assert job.losses <= job.max_retries + 1
    assert job.losses <= sum(attempt.reason == "lost" for attempt in job.attempts)
    assert not (job.held and job.state != "QUEUED")
    assert (job.state == "STARTED") <= (job.attempts != () and job.attempts[-1].started is not None)
    if job.state == "FINISHED":
        assert (job.reason, job.exit_code, job.kill_requested) == (None, 0, None)
    if job.state == "FAILED":
        assert job.reason is not None
        assert job.kill_requested is None
    if job.state == "KILLED":
        assert job.kill_requested is not None
        assert job.reason == "user"
