"""Possible futures against the simulated cluster, which runs the same scheduler over durations known exactly."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from retz.model.agent import Agent
from retz.model.job import Job
from retz.model.resources import Resources, Vector, add, fits, from_vector
from retz.scheduler.forecast import Foreseen, forecast, futures
from retz.scheduler.future import Future, scheduler_of
from retz.scheduler.limits import UserLimits
from retz.scheduler.outlook import outlook
from retz.scheduler.situation import Arrival, Kind, Machine, Row, Rules, Runner, Situation, Waiter
from retz.scheduler.spread import GUESS, Spread, limited, recurring, similar
from tests.doubles.simulated_cluster import SimulatedCluster

NOW = 1000.0
KINDS = [
    Kind("ann", (1000, 100, 0, 0, 0)),
    Kind("ann", (3000, 100, 0, 0, 0), priority=-5),
    Kind("bob", (1000, 400, 0, 0, 0)),
    Kind("bob", (2000, 50, 0, 1, 0), attributes="ssd"),
    Kind("eve", (500, 700, 0, 0, 0), priority=7),
]
MACHINES = [
    Machine("a1", "h1", (3000, 800, 0, 0, 0)),
    Machine("a2", "h2", (2000, 2000, 0, 1, 0), {"ssd": True}),
    Machine("a3", "h3", (4000, 800, 0, 0, 0)),
]
CAPACITY: Vector = (9000, 3600, 0, 1, 0)

rules = st.builds(
    Rules,
    planner=st.sampled_from(["fifo", "priority", "fair"]),
    max_running=st.sampled_from([0, 0, 3]),
    user_limits=st.sampled_from([UserLimits(), UserLimits(running=2), UserLimits(cpus=3)]),
)
works = st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 4]), st.integers(1, 60)), min_size=1, max_size=40)


def situation(asked: list[int], **fields: Any) -> Situation:
    waiters = [Waiter(number, kind, 0, NOW) for number, kind in enumerate(asked, 1)]
    known: dict[str, Any] = {
        "now": NOW,
        "rules": Rules(),
        "kinds": KINDS,
        "spreads": [limited(10.0)],
        "machines": MACHINES,
        "waiters": waiters,
        "runners": [],
        "capacity": CAPACITY,
    }
    return Situation(**known | fields)


def seen(asked: Situation, seed: int = 0, count: int = 8) -> dict[int, Foreseen]:
    return forecast(asked, list(futures(asked, count, seed))).jobs


def by_simulation(asked: Situation, lasts: dict[int, float]) -> SimulatedCluster:
    agents = [Agent(id=m.id, host=m.host, total=from_vector(m.room), attributes=m.attributes) for m in asked.machines]
    cluster = SimulatedCluster(scheduler_of(asked.rules), agents)
    for waiter in asked.waiters:
        kind = asked.kinds[waiter.kind]
        job = Job(
            id=waiter.id,
            owner=kind.owner,
            command="true",
            resources=from_vector(kind.need),
            submitted=0.0,
            priority=kind.priority,
            attributes=kind.attributes,
        )
        cluster.submit(job, lasts[waiter.id])
    cluster.run(until=1e6)
    return cluster


@given(rules, works)
@settings(max_examples=60, deadline=None)
def test_with_durations_known_it_is_what_the_scheduler_does(rules: Rules, works: list[tuple[int, int]]) -> None:
    asked = situation([kind for kind, _ in works], rules=rules)
    lasts = {number: float(seconds) for number, (_, seconds) in enumerate(works, 1)}
    future = Future(asked, lambda job_id, spread, elapsed: lasts[job_id], step=0.0)
    future.run()
    cluster = by_simulation(asked, lasts)
    assert future.started == {job_id: NOW + at for job_id, at in cluster.started.items()}
    assert future.ended == {job_id: NOW + at for job_id, at in cluster.ended.items()}


@given(rules, works, st.integers(0, 99), st.sampled_from([0.0, 5.0]))
@settings(max_examples=60, deadline=None)
def test_no_agent_is_given_more_than_it_has(
    rules: Rules, works: list[tuple[int, int]], seed: int, patience_s: float
) -> None:
    rules = Rules(rules.planner, rules.max_running, rules.user_limits, patience_s)
    spreads = [Spread("pipeline", (float(seconds), 2.0 * seconds)) for _, seconds in works]
    waiters = [Waiter(number, kind, number - 1, NOW) for number, (kind, _) in enumerate(works, 1)]
    asked = situation([], rules=rules, spreads=spreads, waiters=waiters)
    for future in futures(asked, 2, seed):
        assert set(future.started) == {waiter.id for waiter in waiters}
        spans = [(future.started[each.id], future.ended[each.id], KINDS[each.kind].need) for each in waiters]
        for moment, _, _ in spans:
            held: Vector = (0, 0, 0, 0, 0)
            for start, end, need in spans:
                if start <= moment < end:
                    held = add(held, need)
            assert fits(held, CAPACITY)


@given(works, st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_the_same_seed_says_the_same_and_half_is_before_most(works: list[tuple[int, int]], seed: int) -> None:
    spreads = [Spread("similar", (1.0, seconds * 1.0 + 1, 3.0 * seconds + 2)) for _, seconds in works]
    waiters = [Waiter(number, kind, number - 1, NOW) for number, (kind, _) in enumerate(works, 1)]
    asked = situation([], spreads=spreads, waiters=waiters)
    one = seen(asked, seed)
    assert one == seen(asked, seed)
    for each in one.values():
        assert each.start is not None and each.end is not None
        assert NOW <= each.start.half <= each.start.most
        assert each.start.half <= each.end.half <= each.end.most
        assert each.start.most <= each.end.most


def test_a_job_that_no_agent_can_take_never_starts() -> None:
    kinds = [*KINDS, Kind("ann", (64000, 1, 0, 0, 0)), Kind("ann", (1, 1, 0, 0, 0), attributes="moon")]
    found = seen(situation([0, 5, 6], kinds=kinds))
    assert found[1].start is not None
    assert (found[2].word, found[3].word) == ("never", "never")
    assert found[2].start is None and found[2].end is None


def test_what_waits_for_what_is_not_foreseen_is_not_foreseen() -> None:
    waiters = [Waiter(1, 0, 0, NOW, after=(99,)), Waiter(2, 0, 0, NOW, after=(1,)), Waiter(3, 0, 0, NOW)]
    found = seen(situation([], waiters=waiters))
    assert [found[number].word for number in (1, 2, 3)] == ["unknown", "unknown", ""]


def test_dependencies_and_times_are_waited_for() -> None:
    waiters = [
        Waiter(1, 0, 0, NOW),
        Waiter(2, 0, 0, NOW, after=(1,)),
        Waiter(3, 0, 0, NOW, start_at=NOW + 500),
        Waiter(4, 0, 0, NOW, after=(2, 3)),
    ]
    future = next(futures(situation([], waiters=waiters), 1))
    assert future.started[2] >= future.ended[1]
    assert future.started[3] == NOW + 500
    assert future.started[4] >= future.ended[3]


def test_of_an_array_as_many_run_as_may_and_it_ends_with_its_last_task() -> None:
    waiters = [Waiter(11 + place, 0, 0, NOW, array=10) for place in range(5)]
    runner = Runner(9, 0, 0, "a1", NOW - 4, array=10)
    waiters.append(Waiter(20, 0, 0, NOW, after=(10,)))
    asked = situation([], waiters=waiters, runners=[runner], rows=[Row(10, limit=2)])
    future = next(futures(asked, 1))
    spans = [(future.started[each.id], future.ended[each.id]) for each in waiters if each.array]
    spans.append((NOW - 4, future.ended[9]))
    for moment, _ in spans:
        assert sum(start <= moment < end for start, end in spans) <= 2
    assert future.ended[10] == max(end for _, end in spans)
    assert future.started[20] >= future.ended[10]
    found = forecast(asked, [future]).jobs[10]
    assert found.start is not None and found.end is not None
    assert found.end.half == future.ended[10]


def test_an_array_that_is_known_in_part_only_has_no_end() -> None:
    waiters = [Waiter(11, 0, 0, NOW, array=10)]
    found = seen(situation([], waiters=waiters, rows=[Row(10, untold=7)]))
    assert found[10].start is not None
    assert found[10].end is None


def test_while_nothing_is_started_only_what_runs_ends() -> None:
    found = seen(situation([0], runners=[Runner(9, 0, 0, "a1", NOW - 4)], open=False))
    assert found[1].word == "paused"
    assert found[9].end is not None
    assert found[9].end.half == pytest.approx(NOW + 6)


def test_a_running_job_of_an_agent_that_is_gone_still_ends() -> None:
    found = seen(situation([0], runners=[Runner(9, 0, 0, "gone", NOW - 4)]))
    assert found[9].end is not None and found[1].start is not None


def test_a_clock_that_was_set_back_does_not_hurt() -> None:
    found = seen(situation([0], runners=[Runner(9, 0, 0, "a1", NOW + 9999)]))
    assert found[9].end is not None and found[9].end.half >= NOW


def test_an_agent_that_holds_more_than_it_has_gets_nothing_until_it_has_room() -> None:
    runners = [Runner(100 + number, 1, 0, "a1", NOW) for number in range(2)]
    future = next(futures(situation([0], runners=runners, machines=MACHINES[:1]), 1))
    assert future.started[1] >= max(future.ended[100], future.ended[101])


def test_the_probe_is_told_who_is_ahead_and_where() -> None:
    asked = situation([1, 1, 1, 1], machines=MACHINES[:1], probe=4)
    found = outlook(asked, list(futures(asked)))
    assert (found.agents, found.ahead, found.ahead_needs, found.agent) == (1, 3, (9000, 300, 0, 0, 0), "a1")
    assert found.foreseen.start is not None
    # Steps of a hundredth: three runs of ten seconds, a little late.
    assert NOW + 30 <= found.foreseen.start.half <= NOW + 31
    hopeless = situation([3], machines=MACHINES[:1], probe=1)
    assert outlook(hopeless, list(futures(hopeless))).foreseen.word == "never"


def test_the_real_planner_is_used() -> None:
    asked = situation([0, 0, 4, 0], machines=[Machine("a", "h", (1000, 900, 0, 0, 0))])
    fifo = next(futures(asked, 1)).started
    fair = next(futures(situation([0, 0, 4, 0], machines=asked.machines, rules=Rules("fair")), 1)).started
    assert fifo[3] > fifo[2]
    assert fair[3] < fair[2]


def test_what_came_lately_comes_again_and_is_not_told_of() -> None:
    machines = [Machine("a", "h", (3000, 900, 0, 0, 0))]
    alone = situation([1, 1, 1], machines=machines, rules=Rules("fair"))
    arrivals = [Arrival(2, 0, float(ago)) for ago in range(1, 100, 2)]
    busy = situation([1, 1, 1], machines=machines, rules=Rules("fair"), arrivals=arrivals, arrivals_s=100.0)
    quiet, crowded = seen(alone), seen(busy)
    assert set(crowded) == {1, 2, 3}
    last, later = quiet[3].start, crowded[3].start
    assert last is not None and later is not None and later.half > last.half


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_pipelines_come_again_at_their_times_step_after_step(shift: float) -> None:
    kinds = [*KINDS, Kind("ann", (2000, 1, 0, 0, 0))]
    arrivals = [Arrival(0, 0, 95.0), Arrival(0, 0, 95.0, (0,))]
    for spread, start in (
        (Spread("pipeline", (10.0,)), 25.0),  # the second step runs from 15 to 25
        (limited(10.0), 25.0 if shift == 0.0 else 16.0),  # what does not recur comes at any time, here half a day on
    ):
        asked = situation(
            [],
            waiters=[Waiter(1, 5, 0, NOW, start_at=NOW + 16)],
            kinds=kinds,
            machines=[Machine("a", "h", (2000, 900, 0, 0, 0))],
            spreads=[spread],
            arrivals=arrivals,
            arrivals_s=100.0,
        )
        future = Future(asked, lambda job_id, spread, elapsed: 10.0, step=0.0, shift=shift)
        future.run()
        assert future.started[1] == NOW + start


def test_whoever_waited_longer_than_the_patience_has_a_place_from_the_beginning() -> None:
    asked = situation(
        [],
        rules=Rules(patience_s=60.0),
        waiters=[Waiter(1, 1, 0, NOW - 100), Waiter(2, 0, 0, NOW)],
        runners=[Runner(100, 0, 0, "a1", NOW)],
        machines=MACHINES[:1],
    )
    future = next(futures(asked, 1))
    assert future.started[1] == future.ended[100] < future.started[2]


def test_a_crowd_does_not_keep_a_forecast_from_ending() -> None:
    arrivals = [Arrival(0, 0, 0.5)]
    waiters = [Waiter(1, 5, 0, NOW), Waiter(2, 0, 0, NOW, after=(99,)), Waiter(3, 0, 0, NOW)]
    kinds = [*KINDS, Kind("ann", (64000, 1, 0, 0, 0))]
    found = seen(situation([], waiters=waiters, kinds=kinds, arrivals=arrivals, arrivals_s=1.0))
    assert [found[number].word for number in (1, 2, 3)] == ["never", "unknown", ""]


# -- durations -----------------------------------------------------------------------------------------------------

pasts = st.lists(st.one_of(st.floats(0, 1e8), st.just(0.0)), min_size=1, max_size=60)


@given(pasts, st.floats(0, 0.999), st.floats(0, 0.999), st.floats(0, 1e8))
def test_durations_are_durations(past: list[float], a: float, b: float, elapsed: float) -> None:
    for spread in (recurring(past), similar(past), limited(past[0]), GUESS):
        low, high = sorted((a, b))
        assert 0 < spread.at(low) <= spread.at(high) < 1e9
        assert list(spread.values) == sorted(spread.values)
        assert elapsed <= spread.beyond(elapsed, low) <= spread.beyond(elapsed, high)


def test_a_trend_is_followed() -> None:
    growing = [100.0 * 1.1**number for number in range(12)]
    assert recurring(growing).at(0.5) == pytest.approx(100 * 1.1**12, rel=0.05)


def test_one_outlier_is_not_believed() -> None:
    past = [100.0, 101.0, 99.0, 100.0, 102.0, 98.0, 100.0, 5000.0]
    assert 90 < recurring(past).at(0.5) < 110


def test_two_similar_runs_are_believed_in_the_middle_only() -> None:
    spread = similar([80.0, 120.0])
    assert spread.at(0.5) == pytest.approx(100, rel=0.03)
    assert spread.at(0.9) > 150


def test_similar_jobs_that_differed_are_believed_less() -> None:
    # Bursts of four, submitted together: within one they are alike, from one to the next they are not.
    level = [100.0, 800.0, 50.0, 400.0]
    lasted = [seconds for burst in level for seconds in [burst] * 4]
    times = [
        (1000.0 * number, 1000.0 * number + seconds) for number, seconds in zip(range(0, 16, 1), lasted, strict=True)
    ]
    together = [(1000.0 * (number // 4), 1000.0 * (number // 4) + 900) for number in range(16)]
    one_by_one, in_bursts, unknown = similar(lasted, times), similar(lasted, together), similar(lasted)
    assert one_by_one.at(0.5) == in_bursts.at(0.5) == unknown.at(0.5)
    assert in_bursts.at(0.9) > unknown.at(0.9)
    alike = similar([100.0, 101.0] * 8, times)
    assert alike.at(0.9) / alike.at(0.5) < unknown.at(0.9) / unknown.at(0.5) / 1.5
    assert in_bursts.at(0.9) > one_by_one.at(0.9)


def test_what_ran_longer_than_ever_is_not_over_at_once() -> None:
    spread = recurring([10.0, 11.0, 12.0, 10.0, 11.0])
    longest = spread.values[-1]
    assert spread.beyond(longest, 0.5) == pytest.approx(1.19 * longest, rel=0.01)
    assert spread.beyond(10.5, 0.5) > 10.5


def test_what_is_far_beyond_all_before_it_is_something_else_and_may_last_as_long_again() -> None:
    spread = similar([0.1, 0.12, 0.1])
    assert spread.beyond(30.0, 0.5) == pytest.approx(60, rel=0.01) and spread.beyond(30.0, 0.9) > 200
    lasting = [spread.beyond(second / 10, 0.5) for second in range(1, 100)]
    assert lasting == sorted(lasting)


def test_what_has_reached_its_time_limit_is_about_to_end() -> None:
    assert limited(60.0).beyond(60.5, 0.9) == pytest.approx(60.5, abs=0.01)


def test_resources_of_a_kind_are_kept() -> None:
    assert from_vector(KINDS[3].need) == Resources(cpus=2.0, mem=50, gpus=1)


def test_what_starts_after_the_last_that_was_told_is_later() -> None:
    asked = situation([1, 1, 0, 0], machines=[Machine("a", "h", (3000, 900, 0, 0, 0))], cut=(2,))
    runs = list(futures(asked))
    found = forecast(asked, runs)
    assert found.until is not None and found.until >= NOW + 10
    assert [found.jobs[number].word for number in (1, 2, 3, 4)] == ["", "", "later", "later"]
    assert found.rate > 0


def test_a_probe_behind_a_queue_that_was_cut_is_told_so() -> None:
    found = outlook(situation([0, 0], cut=(1,), probe=2), list(futures(situation([0, 0], cut=(1,), probe=2))))
    assert found.foreseen.word == "later" and found.foreseen.start is None


def test_nobody_runs_longer_than_the_time_limit() -> None:
    kinds = [Kind("ann", (1000, 100, 0, 0, 0), timeout_s=3.0)]
    found = seen(situation([0], kinds=kinds))
    assert found[1].end is not None and found[1].end.most == pytest.approx(NOW + 3)


def probed(count: int, limit: int = 0, untold: int = 0, **fields: Any) -> Situation:
    """One job of ann's waits; after it an array of hers is asked about."""
    tasks = [Waiter(101 + place, 0, 0, NOW, array=100) for place in range(count)]
    row = Row(100, limit, untold)
    return situation([], waiters=[Waiter(1, 1, 0, NOW), *tasks], rows=[row], probe=100, **fields)


def test_of_an_array_the_probe_says_when_the_first_starts_and_the_last_ends() -> None:
    asked = probed(6, limit=2, machines=MACHINES[:1])
    found = outlook(asked, list(futures(asked)))
    start, end = found.foreseen.start, found.foreseen.end
    assert start is not None and end is not None
    # Three machines' worth of cpus: the job before takes them all for ten seconds, then three rounds of two tasks.
    assert NOW + 10 <= start.half <= NOW + 11 and NOW + 40 <= end.half <= NOW + 42
    assert (found.ahead, found.ahead_needs, found.agent) == (1, (3000, 100, 0, 0, 0), "a1")
    assert (found.at_once, found.spread, found.agents) == (2, 1, 1)
    assert found.not_before is None and found.end_not_before is None


def test_what_starts_between_the_tasks_of_an_array_is_not_ahead_of_it() -> None:
    asked = probed(6, limit=2, machines=MACHINES[:1])
    asked = replace(asked, waiters=[*asked.waiters, Waiter(2, 0, 0, NOW, start_at=NOW + 15)])
    runs = list(futures(asked))
    assert all(NOW + 15 <= run.started[2] < run.ended[100] for run in runs)
    assert outlook(asked, runs).ahead == 1


def test_an_array_spreads_over_agents() -> None:
    found = outlook(probed(8), list(futures(probed(8))))
    assert found.foreseen.start is not None and found.foreseen.start.most == NOW
    assert found.spread == 3 and 5 <= found.at_once <= 6
    alone = situation([0], probe=1)
    found = outlook(alone, list(futures(alone)))
    assert (found.at_once, found.spread) == (1, 1)


@given(st.integers(1, 20), st.integers(0, 4), st.integers(0, 40), st.floats(1.0, 100.0))
@settings(max_examples=40, deadline=None)
def test_the_bound_of_an_array_cut_short_is_before_the_end_of_the_whole(
    told: int, limit: int, untold: int, lasts: float
) -> None:
    """Also where all that is told of runs at once: the rest has at most all machines for itself."""
    spreads = [limited(lasts)]
    part, whole = probed(told, limit, untold, spreads=spreads), probed(told + untold, limit, spreads=spreads)
    found = outlook(part, list(futures(part)))
    end = outlook(whole, list(futures(whole))).foreseen.end
    assert end is not None
    if not untold:
        assert found.end_not_before is None and found.foreseen.end == end
    else:
        assert found.foreseen.end is None and found.end_not_before is not None
        # Steps of a hundredth: starts are late by so much at most.
        assert NOW + lasts - 0.01 <= found.end_not_before <= end.half + (end.half - NOW) * 0.01 + 0.01
    if untold and limit == 1:
        assert found.end_not_before is not None
        assert found.end_not_before >= NOW + lasts * (told + untold) - 0.01, "one after the other: no rest to chance"


def test_an_array_that_reaches_behind_a_queue_that_was_cut_has_a_bound_only() -> None:
    # Of bob's line the last that was told of starts with the first round: the array's next tasks may be behind it.
    tasks = [Waiter(101 + place, 0, 0, NOW, array=100) for place in range(4)]
    asked = situation(
        [],
        waiters=[Waiter(1, 0, 0, NOW), Waiter(2, 0, 0, NOW), *tasks],
        rows=[Row(100)],
        machines=[Machine("a", "h", (2000, 900, 0, 0, 0))],
        probe=100,
        cut=(102,),
    )
    found = outlook(asked, list(futures(asked)))
    assert found.foreseen.start is None and found.foreseen.end is None and found.foreseen.word == "later"
    assert found.not_before is not None and NOW + 10 <= found.not_before <= NOW + 11
    assert found.end_not_before is not None and NOW + 30 <= found.end_not_before <= NOW + 33


def test_an_array_that_no_agent_can_take_has_no_bounds() -> None:
    asked = probed(3, untold=9, machines=[Machine("a", "h", (500, 900, 0, 0, 0))])
    found = outlook(asked, list(futures(asked)))
    assert (found.agents, found.foreseen.word) == (0, "never")
    assert (found.foreseen.start, found.not_before, found.end_not_before) == (None, None, None)
    closed = probed(3, untold=9, open=False)
    assert outlook(closed, list(futures(closed))).foreseen.word == "paused"
