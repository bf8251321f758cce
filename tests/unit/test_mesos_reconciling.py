"""How fast the master is asked about tasks."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from retz.engine.mesos.reconciling import AGAIN_MOST_S, AGAIN_S, BATCH, BATCH_WAIT_S, IMPLICIT_EVERY_S, Reconciler
from retz.engine.mesos.wire import TaskRef


def tasks(number: int, first: int = 0) -> list[TaskRef]:
    """So many tasks."""
    return [TaskRef(f"{n}.1", "S1") for n in range(first, first + number)]


def answer(reconciler: Reconciler, asked: list[TaskRef] | None) -> None:
    """The master answers all these."""
    assert asked
    for task in asked:
        reconciler.answered(task.task)


def waits(reconciler: Reconciler) -> bool:
    """Whether more may be due any moment."""
    return reconciler.open


def test_nothing_is_asked_before_a_subscription() -> None:
    reconciler = Reconciler()
    assert reconciler.due(1e9) is None and not waits(reconciler)


def test_few_tasks_are_asked_at_once_then_all_implicitly() -> None:
    reconciler = Reconciler()
    reconciler.start(tasks(3), 0.0)
    assert waits(reconciler)
    asked = reconciler.due(0.0)
    assert asked == tasks(3)
    assert reconciler.due(0.1) is None and waits(reconciler)
    answer(reconciler, asked)
    assert not waits(reconciler)
    assert reconciler.due(0.2) == []
    assert reconciler.due(0.2) is None


def test_without_tasks_only_the_implicit_question_is_asked() -> None:
    reconciler = Reconciler()
    reconciler.start([], 0.0)
    assert reconciler.due(0.0) == []


def test_all_tasks_are_asked_for_again_now_and_then() -> None:
    """What the master has forgotten is in no answer to an implicit question."""
    reconciler = Reconciler(everything=lambda: tasks(2))
    reconciler.start([], 0.0)
    assert reconciler.due(0.0) == [] and reconciler.due(1.0) is None
    later = IMPLICIT_EVERY_S + 1.0
    assert reconciler.due(later) == []
    assert reconciler.due(later) == tasks(2)
    reconciler.stop()
    reconciler.start([], later)
    assert reconciler.due(later + 10.0) == []
    assert reconciler.due(later + 10.0) is None, "a subscription has asked for all just now"


def test_implicit_questions_come_again_with_jitter() -> None:
    jitter = iter((7.0, 3.0, 0.0))
    reconciler = Reconciler(lambda: next(jitter))
    reconciler.start([], 0.0)
    assert reconciler.due(0.0) == []
    assert reconciler.due(IMPLICIT_EVERY_S + 6.9) is None
    assert reconciler.due(IMPLICIT_EVERY_S + 7.0) == []
    assert reconciler.due(2 * IMPLICIT_EVERY_S + 9.9) is None
    assert reconciler.due(2 * IMPLICIT_EVERY_S + 10.0) == []


def test_batches_follow_when_most_of_the_last_is_answered() -> None:
    reconciler = Reconciler()
    reconciler.start(tasks(2 * BATCH + 1), 0.0)
    first = reconciler.due(0.0)
    assert first is not None and len(first) == BATCH
    most = BATCH * 9 // 10
    answer(reconciler, first[: most - 1])
    assert reconciler.due(0.1) is None
    answer(reconciler, first[most - 1 : most])
    second = reconciler.due(0.1)
    assert second == tasks(BATCH, BATCH)
    assert second is not None
    answer(reconciler, first[most:] + second[: most - 1])
    assert reconciler.due(0.2) is None, "answers to the first say nothing about the second"
    answer(reconciler, second[most - 1 :])
    assert reconciler.due(0.2) == tasks(1, 2 * BATCH)


def test_a_silent_master_gets_the_next_batch_after_a_while() -> None:
    reconciler = Reconciler()
    reconciler.start(tasks(BATCH + 1), 0.0)
    reconciler.due(0.0)
    assert reconciler.due(BATCH_WAIT_S - 0.1) is None
    assert reconciler.due(BATCH_WAIT_S) == tasks(1, BATCH)
    assert waits(reconciler)
    assert reconciler.due(2 * BATCH_WAIT_S) == [] and not waits(reconciler)


def test_unanswered_questions_are_asked_again_with_growing_pauses() -> None:
    reconciler = Reconciler()
    reconciler.start(tasks(2), 0.0)
    reconciler.due(0.0)
    reconciler.answered("0.1")
    now = 0.0
    for pause in (AGAIN_S, 10.0, 20.0, 40.0, 80.0, 160.0, AGAIN_MOST_S, AGAIN_MOST_S):
        assert not reconciler.due(now + pause - 0.1), "at most the implicit question comes meanwhile"
        now += pause
        assert reconciler.due(now) == tasks(1, 1)
    reconciler.answered("1.1")
    assert not reconciler.due(now + AGAIN_S) and not reconciler.due(now + AGAIN_MOST_S)


def test_new_questions_go_before_repeated_ones_and_none_is_doubled() -> None:
    reconciler = Reconciler()
    reconciler.start(tasks(1), 0.0)
    reconciler.due(0.0)
    reconciler.start(tasks(1 + BATCH), AGAIN_S)
    assert reconciler.due(AGAIN_S) == tasks(BATCH, 1)
    assert reconciler.due(AGAIN_S + BATCH_WAIT_S) == tasks(1)


def test_a_task_that_was_answered_may_be_asked_about_anew() -> None:
    reconciler = Reconciler()
    reconciler.start(tasks(1), 0.0)
    answer(reconciler, reconciler.due(0.0))
    reconciler.start(tasks(1), 1.0)
    assert reconciler.due(1.0) == tasks(1)
    reconciler.start([], 1.0)
    assert reconciler.due(AGAIN_S) == [], "what the first asking left behind is stale"
    assert reconciler.due(1.0 + AGAIN_S) == tasks(1)


def test_questions_end_with_the_connection_and_begin_anew_with_the_next() -> None:
    reconciler = Reconciler()
    reconciler.start(tasks(5), 0.0)
    reconciler.due(0.0)
    reconciler.stop()
    assert not waits(reconciler)
    assert reconciler.due(1000.0) is None
    reconciler.start(tasks(5), 1000.0)
    assert reconciler.due(1000.0) == tasks(5)


def test_tasks_are_taken_from_their_source_only_as_they_are_asked() -> None:
    drawn: list[TaskRef] = []

    def source() -> Iterator[TaskRef]:
        for task in tasks(3 * BATCH):
            drawn.append(task)
            yield task

    reconciler = Reconciler()
    reconciler.start(source(), 0.0)
    assert drawn == []
    reconciler.due(0.0)
    assert len(drawn) == BATCH


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 2 * BATCH), min_size=1, max_size=3),
    silent_s=st.floats(0.0, 1000.0),
    step_s=st.floats(0.1, 3.0),
    answered=st.floats(0.0, 1.0),
)
def test_every_task_is_asked_until_it_is_answered(
    numbers: list[int], silent_s: float, step_s: float, answered: float
) -> None:
    """A master that answers some, is silent about the others for a while, then answers all."""
    reconciler = Reconciler()
    waiting: set[str] = set()
    first = 0
    for number in numbers:
        reconciler.start(tasks(number, first), 0.0)
        waiting |= {task.task for task in tasks(number, first)}
        first += number
    now, implicit = 0.0, 0
    while now < silent_s + 2 * AGAIN_MOST_S:
        while (asked := reconciler.due(now)) is not None:
            assert len(asked) <= BATCH
            implicit += not asked
            some = asked if now >= silent_s else asked[: int(answered * len(asked))]
            for task in some:
                waiting.discard(task.task)
                reconciler.answered(task.task)
        now += step_s
    assert waiting == set()
    assert implicit >= 1 and not waits(reconciler)
