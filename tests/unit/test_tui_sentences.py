"""What the window says of a job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from retz.client.types import (
    Ask,
    Attempt,
    Foreseen,
    Job,
    Moment,
    OffPath,
    Series,
    Sized,
    Sizes,
    StepSize,
    Usage,
    Waited,
    Why,
)  # fmt: skip
from retz.model.resources import Resources
from tui.facts import facts_of
from tui.sentences import given as given_text
from tui.sentences import sentence
from tui.states import look_of, state_text

T0 = 1_800_000_000.0


def at(after_s: float) -> datetime:
    """A moment of the test."""
    return datetime.fromtimestamp(T0 + after_s, UTC)


def job(**fields: Any) -> Job:
    """A job that was submitted at zero."""
    return Job(**{"id": 7, "state": "QUEUED", "submitted": at(0), "resources": Resources(2, 2048), **fields})


def ended(reason: str | None = None, **fields: Any) -> Job:
    """A job that ran from 10 to 75."""
    state = "FINISHED" if reason is None else "KILLED" if reason == "user" else "FAILED"
    return job(state=state, reason=reason, started=at(10), ended=at(75), **fields)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (ended(), "It ended well after 01:05."),
        (ended(usage=Usage(max_rss_mb=512)),
         "It ended well after 01:05, with 512M of its 2.0G memory used at most."),
        (ended("exit", exit_code=3), "Its command gave up after 01:05 with exit code 3: its stderr may say why (o)."),
        (ended("signal", signal=11), "Signal 11 (SIGSEGV) ended it after 01:05; it was not sent by Retz."),
        (ended("signal", signal=99), "Signal 99 ended it after 01:05; it was not sent by Retz."),
        (ended("oom"), "It used more memory than the 2.0G it asked for after 01:05: submit it with more."),
        (ended("disk", resources=Resources(2, 2048, disk=1024)),
         "It wrote more than the 1.0G of disk it asked for after 01:05: submit it with more."),
        (ended("timeout", timeout_s=60),
         "It ran into its time limit of 01:00: submit it with a longer one, or with less to do."),
        (ended("start", message="no such file: x\x1b"), "Its command could not be started: no such file: x␛."),
        (ended("image", message="no such image"),
         "What it needs could not be fetched: no such image. Then submit it again."),
        (ended("user", message="killed by an admin"), "It was killed by an admin after 01:05."),
        (ended("lost", losses=6, message="the machine burnt"),
         "It was lost 6 times, more often than it may be tried again (the machine burnt)."),
        (job(state="KILLED", reason="user", ended=at(5)), "It was killed by a user before it was started."),
        (job(held=True), "It is held: it does not start before it is released (u)."),
        (job(state="STARTING", agent="n1"), "On its way to n1: its files are fetched and its command is started."),
        (job(state="STARTED", kill_requested=at(80)),
         "It was told to end 00:20 ago; what runs 0 s after that is ended by force."),
        (job(why="no room"), "no room."),
        (job(), "It waits for its turn."),
        (job(state="STARTED", started=at(1)), "It runs; what it uses has not been measured yet."),
    ],
)  # fmt: skip
def test_sentences(given: Job, text: str) -> None:
    assert sentence(given, None, None, T0 + 100) == text


def test_who_is_ahead() -> None:
    why = Why(id=7, state="QUEUED", summary="All cpus are taken.", ahead=9, ahead_ids=(1, 2, 3, 4, 5, 6))
    assert sentence(job(), why, None, T0) == "All cpus are taken. Ahead of it: 1, 2, 3, 4, 5 and others."
    few = Why(id=7, state="QUEUED", summary="All cpus are taken.", ahead=1, ahead_ids=(3,))
    assert sentence(job(), few, None, T0) == "All cpus are taken. Ahead of it: 3."


def test_what_it_uses_and_that_it_was_lost() -> None:
    running = job(state="STARTED", started=at(50), losses=2, max_retries=5,
                  attempts=(Attempt(number=1, reason="lost", message="burnt"),))  # fmt: skip
    used = Series(interval_s=1, max_rss_mb=1536, series=((1.5, 1024.0),))
    assert sentence(running, None, used, T0 + 60) == (
        "It was lost twice before; 5 times are borne. "
        "It uses 1.5 of 2 cpus and 1.0G of 2.0G memory, at most 1.5G so far."
    )
    waiting = job(losses=1, attempts=running.attempts)
    assert sentence(waiting, None, None, T0) == "It waits for its turn. It was lost once before (burnt)."


def test_facts_leave_out_what_says_nothing() -> None:
    facts = dict(facts_of(job(command=("a", "b c"), environment={"B": "2", "A": "1"}, timeout_s=90, gpus=("GPU-1",))))
    assert facts["command"] == "a 'b c'"
    assert facts["asks"] == "2 cpus  2.0G" and facts["time limit"] == "01:30"
    assert facts["environment"] == "A=1" and facts["holds"] == "GPU-1"
    assert not {"tags", "pipeline", "priority", "repeats", "used"} & facts.keys()


def test_what_past_runs_made_of_a_request() -> None:
    sized = Sized(asked=Resources(4, 4096), runs=12, mem=2048)
    assert dict(facts_of(job(sized=sized)))["predicted"] == "by 12 past runs; asked for were 4 cpus  4.0G"
    few = Sized(asked=Resources(4, 4096), runs=1)
    assert dict(facts_of(job(sized=few)))["predicted"] == "not yet, by 1 past run: it gets what it asked for"
    outgrown = Sized(asked=Resources(4, 4096), runs=12, mem=1024, outgrew=1)
    said = dict(facts_of(job(sized=outgrown)))["predicted"]
    assert said == "1.0G by 12 past runs, too little for attempt 1; asked for were 4 cpus  4.0G"
    assert sentence(job(sized=outgrown), None, None, T0) == (
        "It waits for its turn. It needed more than the 1.0G that past runs did: it gets what it asked for."
    )


def off(*kinds: str) -> Job:
    values = {"slower": (720.0, 480.0), "hungrier": (2150.0, 1024.0)}
    ways = tuple(
        OffPath(kind=kind, at=datetime(2026, 11, 20, tzinfo=UTC), attempt=1, value=values[kind][0],
                usual=values[kind][1], runs=9)
        for kind in kinds
    )  # fmt: skip
    return job(state="STARTED", off_path=ways)


def test_a_job_off_its_path_is_marked_and_the_sentence_says_how() -> None:
    assert [state_text(each) for each in (off("slower"), off("hungrier"), off("slower", "hungrier"))] == [
        "▲ started slow", "▲ started big", "▲ started off",
    ]  # fmt: skip
    assert look_of(off("slower")).style == "warn"
    said = sentence(off("slower", "hungrier"), None, None, T0)
    assert "It is slower than usual: 12:00, in 9 of 10 runs at most 08:00." in said
    assert "It is hungrier than usual: 2.1G, in 9 of 10 runs at most 1.0G." in said
    then = off("hungrier")
    then = replace(then, off_path=(replace(then.off_path[0], after_s=750.0),))
    said = sentence(then, None, None, T0)
    assert "It is hungrier than usual: 2.1G after 12:30, in 9 of 10 runs at most 1.0G then." in said


def test_when_it_will_start_or_end_is_told_with_the_day_if_that_is_not_today() -> None:
    noon = datetime(2026, 11, 20, 12).timestamp()  # a Friday, in this time zone

    def eta(half_h: float, most_h: float) -> Foreseen:
        half, most = (datetime.fromtimestamp(noon + 3600 * hours, UTC) for hours in (half_h, most_h))
        return Foreseen(start=Moment(p50=half, p90=most), end=Moment(p50=half, p90=most))

    assert sentence(job(eta=eta(1, 2)), None, None, noon).endswith("It will start about 13:00 (by 14:00 in 9 of 10).")
    assert sentence(job(eta=eta(1, 14)), None, None, noon).endswith("about 13:00 (by Sat 02:00 in 9 of 10).")
    assert sentence(job(state="STARTED", eta=eta(1, 1)), None, None, noon).endswith("It will end about 13:00.")


def test_what_it_waited_for_and_what_to_ask_for_next_time_come_from_the_server() -> None:
    parts = (Waited(cause="room", resource="mem", seconds=312.0, text="5m12s for free memory"),)
    why = Why(id=7, state="FAILED", summary="failed (oom): used 2.1G of 2G; try --mem 2600m", waited=parts)
    assert dict(facts_of(ended("oom"), why))["waited"] == "5m12s for free memory"
    assert sentence(ended("oom"), why, None, T0) == "Failed (oom): used 2.1G of 2G; try --mem 2600m."


def test_what_the_next_jobs_are_given() -> None:
    def step(name: str, given: Ask | None = None) -> StepSize:
        return StepSize(step=name, asked=Ask(mem=1024, cpus=2), given=given)

    few = Sizes("p", (step("load", Ask(mem=300, cpus=1)), step("new"), step("\x1b", Ask(mem=1024, cpus=1))))
    assert given_text(few) == "With --predicted the next get: load 300M instead of 1.0G, ␛ 1.0G as asked."
    many = Sizes("p", tuple(step(str(number), Ask(mem=300, cpus=1)) for number in range(5)))
    assert given_text(many).endswith("2 300M instead of 1.0G, and 2 more.")
    assert given_text(None) == given_text(Sizes("p", (step("new"),))) == ""
