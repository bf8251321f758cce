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


def test_one_receiver_is_called_once_at_a_time_in_order() -> None:
    lines = Lines()
    for number in range(3):
        lines.add(pending(number))
    line = lines.next(0.0)
    assert line is not None and lines.next(0.0) is None
    assert line.take().notice.job == 0
    lines.back(line)
    again = lines.next(0.0)
    assert again is line and again.take().notice.job == 1


def test_a_resting_receiver_holds_up_nobody_else_and_news_for_it_costs_nothing() -> None:
    lines = Lines()
    lines.add(pending(1))
    dead = lines.next(0.0)
    assert dead is not None
    first = dead.take()
    dead.rests_until = 100.0
    dead.add(first)
    lines.back(dead)
    for number in range(2, 1000):
        lines.add(pending(number))
    lines.add(pending(5000, receiver="https://b"))
    other = lines.next(0.0)
    assert other is not None and other.take().notice.job == 5000
    assert lines.next(99.9) is None and lines.next_at() == 100.0
    assert len(lines._heap) == 1, "one entry for a line, however many notices it has"
    assert lines.next(100.0) is dead


def test_what_was_refused_waits_alone() -> None:
    lines = Lines()
    lines.add(pending(1))
    line = lines.next(0.0)
    assert line is not None
    refused = line.take()
    refused.due = 60.0
    line.add(refused)
    lines.back(line)
    assert lines.next(0.0) is None
    lines.add(pending(2))
    assert lines.next(0.0) is line and line.take().notice.job == 2
    lines.back(line)
    assert lines.next_at() == 60.0
    assert lines.next(60.0) is line and numbers(line) == [1]


def test_a_user_with_many_receivers_does_not_take_all_calls() -> None:
    lines = Lines()
    for number in range(100):
        lines.add(pending(number, "ann", f"https://{number}"))
    lines.add(pending(1000, "bob"))
    called = [line for line in iter(lambda: lines.next(0.0), None) if line is not None]
    assert Counter(line.key[0] for line in called) == {"ann": PER_USER, "bob": 1}
    called[0].take()
    lines.back(called[0])
    following = lines.next(0.0)
    assert following is not None and following.key[0] == "ann" and lines.next(0.0) is None


def test_old_notices_come_out_together() -> None:
    line = Line(("ann", "https://a"))
    for number in range(6):
        line.add(pending(number, at=float(number)))
    assert sorted(old.notice.job for old in line.before(3.0)) == [0, 1, 2]
    assert numbers(line) == [3, 4, 5]


STEP = st.tuples(
    st.sampled_from(["add", "fine", "down", "refused", "wait"]), st.integers(0, 5), st.integers(0, 6), st.integers(0, 9)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=120))
def test_every_notice_is_called_when_it_is_due_and_bounds_hold(steps: list[tuple[str, int, int, int]]) -> None:
    lines, now = Lines(), 0.0
    waiting: set[int] = set()
    called: list[tuple[Line, Pending]] = []
    resting: dict[tuple[str, str], float] = {}

    def call_all() -> None:
        while (line := lines.next(now)) is not None:
            got = line.take()
            assert got.notice.job in waiting and got.due <= now
            assert resting.get(line.key, 0.0) <= now
            assert line not in [other for other, _ in called], "one call of a receiver at a time"
            called.append((line, got))
        assert len(called) <= IN_ALL
        assert all(count <= PER_USER for count in Counter(line.key[0] for line, _ in called).values())

    def back(which: int, how: str) -> None:
        line, got = called.pop(which % len(called))
        if how == "fine":
            waiting.discard(got.notice.job)
        elif how == "down":
            line.rests_until = resting[line.key] = now + 5
            line.add(got)
        else:
            got.due = now + 7
            line.add(got)
        lines.back(line)

    for number, (what, user, host, choice) in enumerate(steps):
        if what == "add":
            waiting.add(number)
            lines.add(pending(number, f"user{user}", f"https://{host}"))
        elif what == "wait":
            now += choice
        elif called:
            back(choice, what)
        call_all()
    for _ in range(len(steps) * 3 + 1):
        if called:
            back(0, "fine")
        elif (at := lines.next_at()) is not None:
            now = max(now, at)
        call_all()
    assert not waiting and lines.next_at() is None and not lines._lines
