"""What tasks use, from samples of agents whose clocks and executors come and go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retz.engine.mesos.usage import GAP_S, POINTS, UsageBook
from retz.engine.mesos.wire import Sample

ALL_AT_100 = {"1.1": 100.0, "2.1": 100.0}.get


def book(*samples: tuple[float, float, float], interval_s: float = 10.0) -> UsageBook:
    """A book with samples of 1.1: at, processor seconds, MiB."""
    usage = UsageBook(interval_s)
    for sample in samples:
        usage.apply([Sample("1.1", *sample)], ALL_AT_100)
    return usage


def test_sums_and_series() -> None:
    used = book((110.0, 5.0, 30.0), (120.0, 25.0, 200.0), (130.0, 25.0, 40.0)).usage("1.1")
    assert used is not None
    assert (used.cpu_s, used.max_rss_mb, used.interval_s) == (25.0, 200.0, 10.0)
    assert used.series == ((50, 30), (200, 200), (0, 200))
    assert used.gpu_util is None


def test_the_end_takes_what_is_left_and_forgets() -> None:
    usage = book((110.0, 5.0, 30.0), (115.0, 10.0, 30.0))
    used = usage.end("1.1")
    assert used is not None and used.series == ((50, 30), (100, 30))
    assert (usage.end("1.1"), usage.usage("1.1"), len(usage)) == (None, None, 0)


def test_tasks_that_do_not_run_are_not_kept() -> None:
    usage = UsageBook()
    usage.apply([Sample("9.1", 1.0, 1.0, 1.0)], ALL_AT_100)
    assert (len(usage), usage.usage("9.1")) == (0, None)


def test_a_server_that_was_away_shows_the_mean_of_what_it_missed() -> None:
    used = book((160.0, 30.0, 10.0)).usage("1.1")
    assert used is not None and used.series == ((50, 10),) * 6


def test_an_executor_that_begins_anew_takes_nothing_away() -> None:
    used = book((110.0, 8.0, 30.0), (120.0, 1.0, 30.0), (130.0, 3.0, 30.0)).usage("1.1")
    assert used is not None and used.cpu_s == 11.0
    assert used.series == ((80, 30), (10, 30), (20, 30))


def test_clocks_may_be_set() -> None:
    jumped = book((110.0, 10.0, 1.0), (110.0 + 400 * GAP_S, 20.0, 1.0), (120.0, 30.0, 1.0), (130.0, 40.0, 1.0))
    used = jumped.usage("1.1")
    assert used is not None and len(used.series) == 2, "only the step from 120 to 130 is one that a clock can make"
    early = book((90.0, 1.0, 1.0), (100.0, 2.0, 1.0)).usage("1.1")
    assert early is not None and early.series == ((20, 1),)


@given(st.lists(st.tuples(st.floats(-1e10, 1e10), st.floats(0, 1e9), st.floats(0, 1e7)), max_size=300))
def test_nothing_an_agent_measures_breaks_it(samples: list[tuple[float, float, float]]) -> None:
    usage = book(*samples)
    spent = 0.0
    used = usage.usage("1.1")
    if used is not None:
        assert len(used.series) < POINTS
        spent = used.cpu_s
        assert spent >= round(max(cpu for _, cpu, _ in samples), 4)
    final = usage.end("1.1")
    assert final is None or (final.cpu_s == spent and len(final.series) <= POINTS)


def test_without_the_series_there_is_its_latest_point_unless_that_is_old() -> None:
    now = [0.0]
    usage = UsageBook(10.0, ticks=lambda: now[0])
    for at, memory in ((110.0, 30.0), (120.0, 200.0), (130.0, 40.0), (140.0, 40.0)):
        usage.apply([Sample("1.1", at, 5.0, memory)], ALL_AT_100)
    used = usage.usage("1.1", series=False)
    assert used is not None and used.series == ((0, 40),) and used.max_rss_mb == 200.0
    now[0] = 31.0
    used = usage.usage("1.1", series=False)
    assert used is not None and used.series == () and used.max_rss_mb == 200.0
    whole = usage.usage("1.1")
    assert whole is not None and len(whole.series) == 4
