"""What a skyline store is. The rules (and the exceptions) are those of Hadoop's in-memory store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

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
    """History and predictions of one owner. Every operation is atomic; what is returned is the caller's own."""

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
        """Write a run, known or not: the queue's way. With ``keep`` the oldest runs beyond that many go."""

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

    @abstractmethod
    def digest(self, pipeline: str) -> str:
        """Changes whenever the pipeline's history does; the same for the same history in any store. ``""``: none."""

    @abstractmethod
    def pipelines(self) -> list[PipelineSummary]:
        """All pipelines that have history or a prediction, by name."""
