"""The promise of ``--predicted``, on made-up pipelines whose truth is known. ``bench_sizing`` has more of them."""

from __future__ import annotations

import pytest

from tests.benchmarks.bench_sizing import (
    MOST_KILLED,
    RULES,
    SCENARIOS,
    TARGETS,
    Pipeline,
    pipelines,
    ratio,
    replay,
    wasted,
)


@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_less_waste_than_any_rule_of_thumb_and_hardly_a_kill(scenario: str, seed: int) -> None:
    tallies = replay(list(pipelines(scenario, 20, seed)), RULES)
    assert ratio(tallies) <= TARGETS[scenario]
    assert tallies["predicted"].killed <= MOST_KILLED


@pytest.mark.parametrize("scenario", ["steady", "weekly", "weekend", "skipped"])
def test_what_recurs_kills_hardly_a_run(scenario: str) -> None:
    tallies = replay(list(pipelines(scenario, 12, 13)), RULES)
    assert tallies["predicted"].killed <= MOST_KILLED
    assert ratio(tallies) < 1


@pytest.mark.parametrize("scenario", ["spiky", "mixed"])
def test_what_nobody_could_know_kills_less_than_with_the_rules_of_thumb(scenario: str) -> None:
    tallies = replay(list(pipelines(scenario, 12, 13)), RULES)
    least = min(tally.killed for name, tally in tallies.items() if name not in ("predicted", "asked"))
    assert tallies["predicted"].killed < least


def test_the_truth_is_the_same_every_time() -> None:
    assert list(pipelines("stages", 2)) == list(pipelines("stages", 2))
    assert next(pipelines("stages", 1, 1)) != next(pipelines("stages", 1, 2))


def test_a_killed_run_wastes_what_it_held_and_what_its_second_try_asks_for() -> None:
    pipeline = Pipeline(peaks=[100.0], seconds=[10.0], curve=[(0.0, 0.5), (0.4, 1.0)], asked=300.0)
    assert wasted(pipeline, 0, 120.0) == (200.0, False)
    assert wasted(pipeline, 0, 80.0) == (80 * 10 * 0.4 + 200 * 10, True)
    assert wasted(pipeline, 0, 40.0) == (200 * 10, True)
