"""When a stored prediction is used, and when it is made anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from estimator.config import EstimatorConfig
from estimator.errors import ConfigurationError, InvalidInput
from estimator.estimating import current, estimate, history_of
from estimator.model import History, Prediction, RecurrenceId, ResourceSkyline
from estimator.skyline import Skyline
from estimator.skylinestore.base import Runs, SkylineStore
from estimator.skylinestore.files import FileStore
from estimator.skylinestore.memory import InMemoryStore
from estimator.solver.base import SolverSettings
from estimator.solver.baselines import MaxSolver

CONFIG = EstimatorConfig(solver=f"{__name__}.Noted")


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SkylineStore:
    return InMemoryStore() if request.param == "memory" else FileStore(tmp_path)


@pytest.fixture(autouse=True)
def solved() -> list[Mapping[str, Any] | None]:
    """What ``warm`` each solve was given."""
    Noted.warm.clear()
    return Noted.warm


class Noted(MaxSolver):
    """Notes its solves, and leaves a hint."""

    name = "noted"
    warm: list[Mapping[str, Any] | None] = []  # noqa: RUF012 - one list for all objects is the purpose

    def solve(
        self, pipeline: str, history: History, settings: SolverSettings, *, warm: Mapping[str, Any] | None = None
    ) -> Prediction:
        if settings.confidence:  # not the solves that leave a run out
            self.warm.append(warm)
        found = super().solve(pipeline, history, settings)
        return Prediction(**{**vars(found), "warm": {"runs": len(history)}})


def add(store: SkylineStore, run: str, memory: float, pipeline: str = "p") -> None:
    job = ResourceSkyline("j", Skyline.interval(0, 10, {"memory": memory, "vcores": 1}))
    store.add_history(RecurrenceId(pipeline, run), [job])


def height(prediction: Prediction) -> float:
    return prediction.skyline.peak()["memory"]


def test_solved_once_stored_and_used_again(store: SkylineStore, solved: list[object]) -> None:
    add(store, "1", 100)
    add(store, "2", 200)
    first = estimate(store, "p", CONFIG)
    assert (height(first), first.history) == (200, store.digest("p"))
    assert store.get_prediction("p") == first == estimate(store, "p", CONFIG) == current(store, "p", CONFIG)
    assert len(solved) == 1


def test_a_changed_history_is_solved_anew_from_the_hints_of_the_last(store: SkylineStore, solved: list[object]) -> None:
    for number, memory in enumerate([100.0, 200.0, 300.0]):
        add(store, str(number), memory)
        if number:
            assert current(store, "p", CONFIG) is None
            assert height(estimate(store, "p", CONFIG)) == memory
    store.delete_history(RecurrenceId("p", "2"))
    assert height(estimate(store, "p", CONFIG)) == 200
    assert solved == [None, {"runs": 2}, {"runs": 3}]


def test_other_settings_or_solvers_are_neither_answered_from_the_store_nor_kept(
    store: SkylineStore, solved: list[object]
) -> None:
    add(store, "1", 100)
    add(store, "2", 200)
    stored = estimate(store, "p", CONFIG)
    assert 200 < height(estimate(store, "p", CONFIG, solver="peak")) < 400
    longer = estimate(store, "p", CONFIG, settings=SolverSettings(interval=60))
    assert longer.skyline.end == 60
    assert current(store, "p", CONFIG, settings=SolverSettings(interval=60)) is None
    assert store.get_prediction("p") == stored
    assert solved == [None, {"runs": 2}]


def test_a_changed_configuration_replaces_what_was_stored(store: SkylineStore) -> None:
    add(store, "1", 100)
    add(store, "2", 200)
    estimate(store, "p", CONFIG)
    other = EstimatorConfig(solver=CONFIG.solver, settings=SolverSettings(alpha=0.5))
    replaced = estimate(store, "p", other)
    assert store.get_prediction("p") == replaced
    assert current(store, "p", CONFIG) is None


def test_one_without_confidence_does_not_answer_who_wants_it(store: SkylineStore) -> None:
    add(store, "1", 100)
    add(store, "2", 200)
    without = EstimatorConfig(solver=CONFIG.solver, settings=SolverSettings(confidence=False))
    assert estimate(store, "p", without).confidence is None
    assert estimate(store, "p", CONFIG).confidence is not None
    assert estimate(store, "p", without).confidence is not None  # more than was asked for is fine


def test_a_solver_may_be_named_in_any_way(store: SkylineStore) -> None:
    add(store, "1", 100)
    add(store, "2", 200)
    short = estimate(store, "p", EstimatorConfig(solver="max"))
    dotted = EstimatorConfig(solver="estimator.solver.baselines.MaxSolver")
    assert current(store, "p", dotted) == short


def test_a_run_that_comes_while_it_is_solved_is_not_forgotten() -> None:
    class Disturbed(InMemoryStore):
        """Somebody adds a run after the history was read."""

        def get_history(self, run: RecurrenceId | None) -> Runs | None:
            runs = super().get_history(run)
            if runs is not None and len(runs) == 2:
                add(self, "late", 900)
            return runs

    store = Disturbed()
    add(store, "1", 100)
    add(store, "2", 200)
    assert height(estimate(store, "p", CONFIG)) == 200
    assert current(store, "p", CONFIG) is None
    assert height(estimate(store, "p", CONFIG)) == 900


def test_a_prediction_of_a_history_that_is_gone_is_not_answered(store: SkylineStore) -> None:
    add(store, "1", 100)
    add(store, "2", 200)
    estimate(store, "p", CONFIG)
    for run in ("1", "2"):
        store.delete_history(RecurrenceId("p", run))
    assert current(store, "p", CONFIG) is None
    with pytest.raises(InvalidInput, match="no run of pipeline 'p' is known"):
        estimate(store, "p", CONFIG)


def test_a_star_is_a_name_like_any_other(store: SkylineStore) -> None:
    add(store, "1", 100)
    add(store, "2", 200)
    with pytest.raises(InvalidInput, match=r"no run of pipeline '\*' is known"):
        estimate(store, "*", CONFIG)
    add(store, "1", 7, pipeline="*")
    add(store, "2", 7, pipeline="*")
    assert height(estimate(store, "*", CONFIG)) == 7
    assert {run.pipeline for run in history_of(store, "*")} == {"*"}
    assert store.get_prediction("p") is None


def test_too_little_history_and_unknown_solvers_are_refused_and_nothing_is_stored(store: SkylineStore) -> None:
    add(store, "1", 100)
    with pytest.raises(InvalidInput, match="containing less job runs than 2"):
        estimate(store, "p", CONFIG)
    with pytest.raises(ConfigurationError, match="nonsense"):
        estimate(store, "p", CONFIG, solver="nonsense")
    assert store.get_prediction("p") is None
