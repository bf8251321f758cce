"""Arrays: their text, their places, and a life of theirs in which anything may happen to any task."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from retz import array_life
from retz.lifecycle import Drop, Ended, Event, Kill, Launch, Lost, Started, advance
from retz.model.array import Array, parse_array, parse_task
from retz.model.job import ENDED_STATES, Job, State
from retz.model.resources import Resources


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(1, 50), st.integers(0, 50))
def test_text_and_places_round_trip(first: int, more: int, step: int, limit: int) -> None:
    array = parse_array(f"{first}-{first + more}:{step}" + (f"%{limit}" if limit else ""))
    assert parse_array(array.text) == array
    indices = range(first, first + more + 1, step)
    assert array.size == len(indices)
    for place in (0, array.size // 2, array.size - 1):
        assert array.index_of(place) == indices[place]
        assert array.place_of(indices[place]) == place
    assert array.place_of(first - 1) is array.place_of(indices[-1] + 1) is None


def test_limit_and_step_in_either_order() -> None:
    assert parse_array("1-9%2:4") == parse_array(" 1-9:4%2 ") == Array(1, 9, 4, 2)


@pytest.mark.parametrize("text", ["", "5", "1-", "-1", "3-1", "1-3:0", "1-3%0", "1-3%1%2", "1-1000001", "1-9:x", "²-³"])
def test_what_is_no_array(text: str) -> None:
    with pytest.raises(ValueError, match=r"array|counts|must|index|tasks"):
        parse_array(text)


def test_names_of_tasks() -> None:
    assert parse_task("17_3") == parse_task("17[3]") == (17, 3)
    for text in ("17", "17_", "_3", "17[3", "17_3_4", "17[3]x", "last"):
        with pytest.raises(ValueError, match="17_3"):
            parse_task(text)


class Model:
    """An array with the records of its tasks, as the server keeps them."""

    def __init__(self, size: int, max_fails: int) -> None:
        self.array = Job(
            id=100, owner="ann", command="true", resources=Resources(1), submitted=0.0, max_retries=1,
            array=Array(1, size), max_fails=max_fails,
        )  # fmt: skip
        self.records: dict[int, Job] = {}

    def task(self, place: int) -> Job:
        return self.records.get(place) or array_life.task_at(self.array, place)

    def launch(self, place: int) -> None:
        """As the dispatcher does: of a task that is queued, with a record or without."""
        task = self.task(place)
        after, _ = advance(task, Launch(1.0, "a"))
        if after is task:
            return
        if place not in self.records:
            self.array, skipped = array_life.with_records(self.array, [place])
            self.records |= {other: array_life.task_at(self.array, other) for other in skipped}
        self.records[place] = after

    def happen(self, place: int, event: Event) -> None:
        task = self.task(place)
        after, _ = advance(task, event)
        if after is task:
            return
        if place not in self.records:
            self.array = array_life.with_apart(self.array, place)
        self.records[place] = after
        if after.state in ENDED_STATES:
            self.array = array_life.with_end(self.array, after.state)
            if array_life.too_many_failed(self.array):
                self.stop(Drop(2.0, "max_fails", "too many"))

    def stop(self, event: Kill | Drop) -> None:
        self.array = array_life.cut(self.array, event)
        for place, task in list(self.records.items()):
            if isinstance(event, Kill) or task.state == "QUEUED":
                self.happen(place, event)

    def check(self) -> None:
        array = array_life.array_of(self.array)
        states: list[State] = [task.state for task in self.records.values()]
        assert array.next + len(array.apart) == len(self.records)
        assert set(self.records) == {*range(array.next), *array.apart}
        assert all(place >= array.next for place in array.apart)
        assert (array.finished, array.failed, array.killed) == tuple(
            states.count(state) for state in ("FINISHED", "FAILED", "KILLED")
        )
        assert array.active == sum(state not in ENDED_STATES for state in states)
        assert array.waiting + array.dropped + len(self.records) == array.size
        ended = array_life.settled(self.array, 9.0)
        assert (ended.state in ENDED_STATES) == (array.active == array.waiting == 0)
        assert array_life.settled(ended, 10.0) is ended
        if array.cut is not None:
            assert array.waiting == 0


STEPS = st.tuples(
    st.sampled_from(["launch", "start", "end", "fail", "lose", "kill one", "kill", "drop"]), st.integers(0, 11)
)


@given(st.integers(1, 12), st.sampled_from([0, 0, 1, 3]), st.lists(STEPS, max_size=60))
def test_counts_and_ends_are_those_of_the_tasks(size: int, max_fails: int, steps: list[tuple[str, int]]) -> None:
    model = Model(size, max_fails)
    for step, place in steps:
        place %= size
        task = model.task(place)
        number = task.attempts[-1].number if task.attempts else 0
        if step == "launch":
            model.launch(place)
        elif step == "start":
            model.happen(place, Started(2.0, number))
        elif step in ("end", "fail"):
            model.happen(place, Ended(at=3.0, attempt=number, exit_code=int(step == "fail")))
        elif step == "lose":
            model.happen(place, Lost(3.0, number))
        elif step == "kill one":
            model.happen(place, Kill(3.0))
        else:
            model.stop(Kill(3.0) if step == "kill" else Drop(3.0, "max_fails", "too many"))
        model.check()


def test_the_end_says_how_it_was() -> None:
    base = Job(id=1, owner="ann", command="true", resources=Resources(1), submitted=0.0, array=Array(1, 3, next=3))

    def end(job: Job, finished: int, failed: int, killed: int) -> tuple[State, str | None]:
        counts = replace(array_life.array_of(job), finished=finished, failed=failed, killed=killed)
        after = array_life.settled(replace(job, array=counts), 5.0)
        return after.state, after.reason

    assert end(base, 3, 0, 0) == ("FINISHED", None)
    assert end(base, 2, 1, 0) == ("FAILED", "tasks")
    assert end(base, 2, 0, 1) == ("KILLED", "tasks")
    assert end(base, 2, 0, 0) == ("QUEUED", None)
    assert end(array_life.cut(base, Kill(2.0)), 1, 0, 2) == ("KILLED", "user")
    assert end(array_life.cut(base, Drop(2.0, "max_fails", "m")), 1, 2, 0) == ("FAILED", "max_fails")
