"""What a skyline store is. The rules (and the exceptions) are those of Hadoop's in-memory store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import (
    DuplicateRecurrenceId,
    EmptyResourceSkyline,
    NullPipelineId,
    NullPrediction,
    NullRecurrenceId,
    NullResourceSkyline,
    RecurrenceIdNotFound,
)
from ..model import Prediction, RecurrenceId, ResourceSkyline

WILDCARD = "*"
Runs = dict[RecurrenceId, list[ResourceSkyline]]


class PipelineSummary(NamedTuple):
    """One line of a list of pipelines.

    Attributes:
        runs: Number of runs in the history.
        predicted: Whether a prediction is stored, current or not.
    """

    pipeline: str
    runs: int
    predicted: bool


class SkylineStore(ABC):
    """History and predictions of one owner. Every operation is atomic; what is returned is the caller's own.

    One object may be used by many threads.
    """

    @abstractmethod
    def add_history(self, run: RecurrenceId | None, skylines: Sequence[ResourceSkyline | None] | None) -> None:
        """Add jobs to a run, new or known. None among ``skylines`` is dropped; nothing left changes nothing.

        Raises:
            NullRecurrenceId, NullResourceSkyline: an argument is None.
            DuplicateRecurrenceId: the run, or ``skylines`` itself, has two jobs of one id; nothing was added.
        """

    @abstractmethod
    def update_history(self, run: RecurrenceId | None, skylines: Sequence[ResourceSkyline | None] | None) -> None:
        """Replace the jobs of a known run.

        Raises:
            NullRecurrenceId, NullResourceSkyline: an argument is None.
            RecurrenceIdNotFound: no such run (looked at first).
            EmptyResourceSkyline: nothing but None was given.
            DuplicateRecurrenceId: ``skylines`` has two jobs of one id.
        """

    @abstractmethod
    def put_history(self, run: RecurrenceId, skylines: Sequence[ResourceSkyline], keep: int | None = None) -> None:
        """Write a run, known or not: the queue's way. With ``keep`` the oldest runs beyond that many go.

        A known run keeps its place in the order.

        Raises:
            EmptyResourceSkyline: no skylines were given.
            DuplicateRecurrenceId: ``skylines`` has two jobs of one id.
            ValueError: ``keep`` is less than 1.
        """

    def add_many(self, runs: Iterable[tuple[RecurrenceId, Sequence[ResourceSkyline]]]) -> list[RecurrenceId]:
        """Add jobs to runs, each as :meth:`add_history` would; return those refused as duplicates.

        The same run may come more than once. All are held in memory meanwhile: give a long log in portions.
        """
        refused = []
        for run, skylines in runs:
            try:
                self.add_history(run, skylines)
            except DuplicateRecurrenceId:
                refused.append(run)
        return refused

    @abstractmethod
    def delete_history(self, run: RecurrenceId | None) -> None:
        """Forget a run. ``*`` is an ordinary name here.

        Raises:
            NullRecurrenceId: the argument is None.
            RecurrenceIdNotFound: no such run.
        """

    @abstractmethod
    def get_history(self, run: RecurrenceId | None) -> Runs | None:
        """Runs in the order of their adding; None if there is none.

        Pipeline ``*``: everything, whatever the run (an empty dictionary for an empty store); run ``*``: all runs of
        the pipeline; else that one.

        Raises:
            NullRecurrenceId: the argument is None.
        """

    @abstractmethod
    def add_prediction(self, pipeline: str | None, prediction: Prediction | None) -> None:
        """Keep the prediction of a pipeline, in place of the one before.

        Raises:
            NullPipelineId, NullPrediction: an argument is None.
        """

    @abstractmethod
    def get_prediction(self, pipeline: str | None) -> Prediction | None:
        """The stored prediction, current or not; None if there is none. ``*`` is an ordinary name here.

        Raises:
            NullPipelineId: the argument is None.
        """

    @abstractmethod
    def delete_prediction(self, pipeline: str | None) -> bool:
        """Forget the prediction of a pipeline; whether there was one."""

    def forget(self, pipeline: str) -> int:
        """Delete the history and the prediction of a pipeline; return how many runs it had."""
        runs = [run for run in self.get_history(RecurrenceId(pipeline, WILDCARD)) or {} if run.pipeline == pipeline]
        for run in runs:
            self.delete_history(run)
        self.delete_prediction(pipeline)
        return len(runs)

    @abstractmethod
    def digest(self, pipeline: str) -> str:
        """Changes whenever the pipeline's history does; the same for the same history in any store. ``""``: none."""

    @abstractmethod
    def pipelines(self) -> list[PipelineSummary]:
        """All pipelines that have history or a prediction, by name."""

    def summary(self, pipeline: str) -> PipelineSummary | None:
        """The line of one pipeline in :meth:`pipelines`; None if it is not there."""
        return next((each for each in self.pipelines() if each.pipeline == pipeline), None)


Jobs = list[ResourceSkyline]
"""The jobs of one run. The functions below are the rules of all stores; ``runs`` are those of one pipeline."""


def added(run: RecurrenceId, known: Jobs | None, skylines: Jobs) -> Jobs:
    """What the run has after adding.

    Raises:
        DuplicateRecurrenceId: two jobs would have one id.
    """
    jobs = [*(known or []), *skylines]
    if len({job.job_id for job in jobs}) < len(jobs):
        raise DuplicateRecurrenceId(
            f"Trying to addHistory duplicate resource skylines for {run}. Use updateHistory function instead."
        )
    return jobs


def updated(run: RecurrenceId, known: bool, skylines: Jobs) -> Jobs:
    """What the run has after an update.

    Raises:
        RecurrenceIdNotFound, EmptyResourceSkyline, DuplicateRecurrenceId: as ``update_history``.
    """
    if not known:
        raise RecurrenceIdNotFound(f"Trying to updateHistory non-existing resource skylines for {run}.")
    if not skylines:
        raise EmptyResourceSkyline(f"Trying to updateHistory empty resource skylines for {run}; delete it instead.")
    return added(run, None, skylines)


def put(run: RecurrenceId, skylines: Sequence[ResourceSkyline], keep: int | None) -> Jobs:
    """What the run has after being put.

    Raises:
        EmptyResourceSkyline, DuplicateRecurrenceId, ValueError: as ``put_history``.
    """
    if keep is not None and keep < 1:
        raise ValueError(f"at least one run must be kept, not {keep}")
    if not skylines:
        raise EmptyResourceSkyline(f"There are no resource skylines to put for {run}.")
    return added(run, None, list(skylines))


def not_found(run: RecurrenceId) -> RecurrenceIdNotFound:
    """The refusal to delete what is not there."""
    return RecurrenceIdNotFound(f"Trying to deleteHistory non-existing recurring pipeline  {run}'s resource skylines")


def given_run(run: RecurrenceId | None) -> RecurrenceId:
    """The run, or NullRecurrenceId."""
    if run is None:
        raise NullRecurrenceId("Recurrence id is null, please try again with valid recurrence id")
    return run


def given_skylines(skylines: Sequence[ResourceSkyline | None] | None) -> Jobs:
    """The skylines without None, or NullResourceSkyline."""
    if skylines is None:
        raise NullResourceSkyline("Resource skylines are null, please try again with valid resource skylines")
    return [skyline for skyline in skylines if skyline is not None]


def given_pipeline(pipeline: str | None) -> str:
    """The pipeline's name, or NullPipelineId."""
    if pipeline is None:
        raise NullPipelineId("Pipeline id is null, please try again with valid pipeline id")
    return pipeline


def given_prediction(prediction: Prediction | None) -> Prediction:
    """The prediction, or NullPrediction."""
    if prediction is None:
        raise NullPrediction("The prediction is null, please try again with a valid prediction")
    return prediction
