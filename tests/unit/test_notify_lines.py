"""The order of calls, in a world without a clock."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from retz.model.notice import Notice
from retz.server.notify.lines import IN_ALL, LONGEST_REST_S, PER_USER, Line, Lines, rest_s
from retz.server.notify.outbox import Pending


def pending(number: int, owner: str = "ann", receiver: str = "https://a", at: float = 0.0) -> Pending:
    return Pending(Notice(id=f"{number}/ended", owner=owner, receiver=receiver, at=at))


def numbers(line: Line) -> list[int]:
    return [line.take().notice.job for _ in range(len(line))]


def test_rests_grow_to_a_quarter_of_an_hour() -> None:
    assert [rest_s(n) for n in (1, 2, 3, 8, 9, 10_000)] == [5, 10, 20, 640, LONGEST_REST_S, LONGEST_REST_S]


def called(lines: Lines, now: float = 0.0) -> list[tuple[Line, Pending]]:
    """Everything that is to be called now."""
    return [found for found in iter(lambda: lines.next(now), None) if found is not None]


def filled(count: int, owner: str = "ann", receiver: str = "https://a") -> Lines:
    lines = Lines()
    for number in range(count):
        lines.add(pending(number, owner, receiver), 0.0)
    return lines


def test_a_receiver_that_answers_is_called_a_few_times_at_once_in_order() -> None:
    lines = filled(PER_USER + 2)
    found = called(lines)
    assert [got.notice.job for _, got in found] == list(range(PER_USER))
    lines.back(found[0][0], 0.0)
    assert [got.notice.job for _, got in called(lines)] == [PER_USER]


def test_a_receiver_that_was_down_is_tried_by_one_call_at_a_time() -> None:
    lines = filled(10)
    found = called(lines)
    for line, got in found:
        line.rest(0.0)
        line.add(got)
        lines.back(line, 0.0)
    line = found[0][0]
    assert (line.failures, line.rests_until) == (1, rest_s(1)), "calls that fail together are one failure"
    assert called(lines, rest_s(1) - 0.1) == [] and lines.next_at() == rest_s(1)
    assert len(called(lines, rest_s(1))) == 1 and lines.next_at() is None
    line.failures = 0
    lines.back(line, rest_s(1))
    assert len(called(lines, rest_s(1))) == PER_USER, "it is back"


def test_a_resting_receiver_holds_up_nobody_else_and_news_for_it_costs_nothing() -> None:
    lines = filled(1)
    ((dead, first),) = called(lines)
    dead.rest(0.0)
    dead.add(first)
    lines.back(dead, 0.0)
    for number in range(2, 1000):
        lines.add(pending(number), 0.0)
    lines.add(pending(5000, receiver="https://b"), 0.0)
    ((_, other),) = called(lines)
    assert other.notice.job == 5000
    assert lines.next_at() == rest_s(1)
    assert len(lines._heap) == 1, "one entry for a line, however many notices it has"
    assert called(lines, rest_s(1))[0][0] is dead


def test_what_was_refused_waits_alone() -> None:
    lines = filled(1)
    ((line, refused),) = called(lines)
    refused.due = 60.0
    line.add(refused)
    lines.back(line, 0.0)
    assert called(lines) == []
    lines.add(pending(2), 0.0)
    ((_, second),) = called(lines)
    assert second.notice.job == 2
    lines.back(line, 0.0)
    assert lines.next_at() == 60.0
    assert called(lines, 60.0) == [(line, refused)]


def test_a_user_with_many_receivers_does_not_take_all_calls() -> None:
    lines = Lines()
    for number in range(100):
        lines.add(pending(number, "ann", f"https://{number}"), 0.0)
    lines.add(pending(1000, "bob"), 0.0)
    found = called(lines)
    assert Counter(line.key[0] for line, _ in found) == {"ann": PER_USER, "bob": 1}
    lines.back(found[0][0], 0.0)
    assert [line.key[0] for line, _ in called(lines)] == ["ann"]


def test_users_with_endless_news_do_not_keep_others_waiting() -> None:
    lines = Lines()
    for user in range(IN_ALL):
        for number in range(50):
            lines.add(pending(number, f"user{user}", f"https://{number % 7}"), 0.0)
    under_way = called(lines, 1.0)
    assert len(under_way) == IN_ALL
    lines.add(pending(1, "late"), 2.0)
    for turns in range(1, 2000):
        lines.back(under_way.pop(0)[0], 2.0 + turns)
        under_way += called(lines, 2.0 + turns)
        if any(line.key[0] == "late" for line, _ in under_way):
            break
    assert turns <= 8 * IN_ALL, "each line had a turn at most"


def test_old_notices_come_out_together() -> None:
    line = Line(("ann", "https://a"))
    for number in range(6):
        line.add(pending(number, at=float(number)))
    assert sorted(old.notice.job for old in line.before(3.0)) == [0, 1, 2]
    assert numbers(line) == [3, 4, 5]


STEP = st.tuples(
    st.sampled_from(["add", "add", "fine", "down", "refused", "forget", "wait"]),
    st.integers(0, 5),
    st.integers(0, 6),
    st.integers(0, 9),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=120))
def test_every_notice_is_called_when_it_is_due_and_bounds_hold(steps: list[tuple[str, int, int, int]]) -> None:
    lines, now = Lines(), 0.0
    waiting: set[int] = set()
    under_way: list[tuple[Line, Pending]] = []

    def call_all() -> None:
        while (found := lines.next(now)) is not None:
            line, got = found
            assert got.notice.job in waiting and got.due <= now
            assert line.rests_until <= now
            assert not line.failures or line.calls == 1, "one call tries whether it is back"
            under_way.append(found)
        assert len(under_way) <= IN_ALL
        assert all(count <= PER_USER for count in Counter(line.key[0] for line, _ in under_way).values())

    def back(which: int, how: str) -> None:
        line, got = under_way.pop(which % len(under_way))
        if how == "fine":
            line.failures = 0
            waiting.discard(got.notice.job)
        elif how == "down":
            got.due = now
            line.rest(now)
            line.add(got)
        elif how == "refused":
            got.due = now + 7
            line.add(got)
        else:
            line.add(got)
            waiting.difference_update(old.notice.job for old in line.before(1.0))
        lines.back(line, now)

    for number, (what, user, host, choice) in enumerate(steps):
        if what == "add":
            waiting.add(number)
            lines.add(pending(number, f"user{user}", f"https://{host}", at=float(choice)), now)
        elif what == "wait":
            now += choice
        elif under_way:
            back(choice, what)
        call_all()
    for _ in range(len(steps) * 3 + 1):
        if under_way:
            back(0, "fine")
        elif (at := lines.next_at()) is not None:
            now = max(now, at)
        call_all()
    assert not waiting and lines.next_at() is None and not lines._lines
