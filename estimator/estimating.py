"""From a store to a current prediction: stored ones are used while they are true, and replaced when they are not."""

from __future__ import annotations

from dataclasses import replace

from .config import EstimatorConfig, load_class
from .documents import history_digest
from .errors import InvalidInput
from .model import Prediction, RecurrenceId
from .skylinestore.base import WILDCARD, Runs, SkylineStore
from .solver.base import Solver, SolverSettings


def estimate(
    store: SkylineStore,
    pipeline: str,
    config: EstimatorConfig,
    *,
    solver: str | None = None,
    settings: SolverSettings | None = None,
) -> Prediction:
    """The current prediction of a pipeline.

    The stored one if :func:`current` finds it so. Otherwise the pipeline is solved, starting from the stored
    prediction's hints if it is of the same solver; the result is stored if solver and settings are those configured.

    The result carries the digest of exactly the runs that were solved. A run that somebody adds meanwhile changes the
    store's digest, so a prediction that is stored after that is not taken for current by the next call.

    Args:
        pipeline: An exact name: ``*`` is a name like any other.
        solver: Short name or dotted path, or None for the configured one.
        settings: None for the configured ones.

    Raises:
        InvalidInput: nothing is known of the pipeline, or too little.
        ConfigurationError: there is no such solver.
        SolverError: the solver failed.
    """
    kind = _solver(config, solver)
    wanted = settings or config.settings
    stored = store.get_prediction(pipeline)
    if stored is not None and _is_current(stored, store.digest(pipeline), kind.name, wanted):
        return stored
    runs = history_of(store, pipeline)
    hints = stored.warm if stored is not None and stored.solver == kind.name else None
    solved = kind().solve(pipeline, runs, wanted, warm=hints)
    prediction = replace(solved, history=history_digest(runs))
    if kind is _solver(config, None) and wanted == config.settings:
        store.add_prediction(pipeline, prediction)
    return prediction


def current(
    store: SkylineStore,
    pipeline: str,
    config: EstimatorConfig,
    *,
    solver: str | None = None,
    settings: SolverSettings | None = None,
) -> Prediction | None:
    """The stored prediction, if it is of the history as it is now, by this solver with these settings; else None."""
    stored = store.get_prediction(pipeline)
    kind = _solver(config, solver)
    if stored is None or not _is_current(stored, store.digest(pipeline), kind.name, settings or config.settings):
        return None
    return stored


def history_of(store: SkylineStore, pipeline: str) -> Runs:
    """All runs of one pipeline; ``*`` is a name like any other.

    Raises:
        InvalidInput: none is known.
    """
    runs = store.get_history(RecurrenceId(pipeline, WILDCARD)) or {}
    runs = {run: jobs for run, jobs in runs.items() if run.pipeline == pipeline}
    if not runs:
        raise InvalidInput(
            "Job ResourceSkyline history", "invalid", f"no run of pipeline {pipeline!r} is known; parse a log first"
        )
    return runs


def _solver(config: EstimatorConfig, name: str | None) -> type[Solver]:
    return load_class(name or config.solver, Solver)  # type: ignore[type-abstract]


def _is_current(stored: Prediction, digest: str, solver: str, settings: SolverSettings) -> bool:
    return (
        digest != ""
        and stored.history == digest
        and dict(stored.settings) == settings.fingerprint(solver)
        and (stored.confidence is not None or not settings.confidence)
    )
