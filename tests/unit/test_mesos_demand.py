"""When REVIVE and SUPPRESS are sent."""

from __future__ import annotations

import pytest

from retz.engine.mesos.demand import LINGER_S, REVIVE_EVERY_S, Demand


def test_nothing_to_clear_nothing_to_send() -> None:
    demand = Demand()
    demand.revive()
    assert not demand.due_revive(0.0)
    assert demand.next_look(0.0) is None


def test_a_filter_is_cleared_at_once_and_only_once() -> None:
    demand = Demand()
    demand.declined()
    demand.revive()
    assert demand.due_revive(11.0)
    demand.revive()
    assert not demand.due_revive(11.01)


def test_revives_keep_their_distance() -> None:
    demand = Demand()
    demand.declined()
    demand.revive()
    assert demand.due_revive(10.0)
    demand.declined()
    demand.revive()
    assert not demand.due_revive(10.0 + REVIVE_EVERY_S / 2)
    assert demand.next_look(10.0) == pytest.approx(REVIVE_EVERY_S)
    assert demand.due_revive(10.001 + REVIVE_EVERY_S)


def test_an_idle_queue_suppresses_after_a_while() -> None:
    demand = Demand()
    demand.suppress(1.0)
    demand.suppress(1.5)
    assert not demand.due_suppress(1.0 + LINGER_S / 2)
    assert demand.due_suppress(1.0 + LINGER_S)
    assert not demand.due_suppress(100.0)
    demand.revive()
    assert demand.due_revive(101.0)


def test_work_that_comes_in_time_prevents_it() -> None:
    demand = Demand()
    demand.suppress(1.0)
    demand.revive()
    assert not demand.due_suppress(50.0)


def test_a_new_subscription_begins_anew() -> None:
    demand = Demand()
    demand.suppress(0.0)
    assert demand.due_suppress(LINGER_S)
    demand.connected()
    assert demand.due_suppress(LINGER_S + 1), "the queue is still empty"
