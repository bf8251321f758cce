"""A skyline store in memory: everything is gone with the process."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from threading import RLock

from ..documents import history_digest
from ..model import Prediction, RecurrenceId, ResourceSkyline
from .base import (
    WILDCARD,
    Jobs,
    PipelineSummary,
    Runs,
    SkylineStore,
    added,
    given_pipeline,
    given_prediction,
    given_run,
    given_skylines,
    not_found,
    put,
    updated,
)


class InMemoryStore(SkylineStore):
    """Hadoop's store, with an index by pipeline."""

    def __init__(self) -> None:
        self._history: dict[str, dict[str, Jobs]] = {}
        self._predictions: dict[str, Prediction] = {}
        self._lock = RLock()

    def add_history(self, run: RecurrenceId | None, skylines: Sequence[ResourceSkyline | None] | None) -> None:
        place, jobs = given_run(run), given_skylines(skylines)
        if jobs:
            with self._lock:
                known = self._history.get(place.pipeline, {}).get(place.run)
                self._put(place, added(place, known, jobs))

    def update_history(self, run: RecurrenceId | None, skylines: Sequence[ResourceSkyline | None] | None) -> None:
        place, jobs = given_run(run), given_skylines(skylines)
        with self._lock:
            known = place.run in self._history.get(place.pipeline, {})
            self._put(place, updated(place, known, jobs))

    def put_history(self, run: RecurrenceId, skylines: Sequence[ResourceSkyline], keep: int | None = None) -> None:
        jobs = put(run, skylines, keep)
        with self._lock:
            self._put(run, jobs)
            runs = self._history[run.pipeline]
            for oldest in list(islice(runs, len(runs) - keep if keep and keep < len(runs) else 0)):
                del runs[oldest]

    def delete_history(self, run: RecurrenceId | None) -> None:
        place = given_run(run)
        with self._lock:
            runs = self._history.get(place.pipeline, {})
            if place.run not in runs:
                raise not_found(place)
            del runs[place.run]
            if not runs:
                del self._history[place.pipeline]

    def get_history(self, run: RecurrenceId | None) -> Runs | None:
        place = given_run(run)
        with self._lock:
            if place.pipeline == WILDCARD:
                return {each: jobs for name in self._history for each, jobs in self._runs(name).items()}
            found = self._runs(place.pipeline)
        if place.run != WILDCARD:
            found = {place: found[place]} if place in found else {}
        return found or None

    def add_prediction(self, pipeline: str | None, prediction: Prediction | None) -> None:
        name, given = given_pipeline(pipeline), given_prediction(prediction)
        with self._lock:
            self._predictions[name] = given

    def get_prediction(self, pipeline: str | None) -> Prediction | None:
        with self._lock:
            return self._predictions.get(given_pipeline(pipeline))

    def delete_prediction(self, pipeline: str | None) -> bool:
        with self._lock:
            return self._predictions.pop(given_pipeline(pipeline), None) is not None

    def forget(self, pipeline: str) -> int:
        with self._lock:
            self._predictions.pop(pipeline, None)
            return len(self._history.pop(pipeline, {}))

    def digest(self, pipeline: str) -> str:
        with self._lock:
            return history_digest(self._runs(pipeline))

    def pipelines(self) -> list[PipelineSummary]:
        with self._lock:
            names = sorted({*self._history, *self._predictions})
            return [
                PipelineSummary(name, len(self._history.get(name, ())), name in self._predictions) for name in names
            ]

    def _put(self, run: RecurrenceId, jobs: Jobs) -> None:
        self._history.setdefault(run.pipeline, {})[run.run] = jobs

    def _runs(self, pipeline: str) -> Runs:
        return {RecurrenceId(pipeline, run): list(jobs) for run, jobs in self._history.get(pipeline, {}).items()}
