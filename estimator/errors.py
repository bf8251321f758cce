"""What can go wrong, by name. The store's names and texts are those of Hadoop's service, which its clients match."""

from __future__ import annotations


class EstimatorError(Exception):
    """Anything that the estimator refuses, with a text for its user."""


class ConfigurationError(EstimatorError):
    """A configuration value or file makes no sense; the text names the place."""


class ParseError(EstimatorError):
    """A line of a log could not be understood; the text names file and line."""


class SolverError(EstimatorError):
    """No prediction could be made."""


class InvalidInput(SolverError):
    """What a solver was given can have no prediction: no history, too few runs, nothing used."""

    def __init__(self, entity: str, reason: str, hint: str = "") -> None:
        super().__init__(f"{entity} is {reason}, please try again with valid {entity}" + (f": {hint}" if hint else ""))


class SkylineStoreError(EstimatorError):
    """The store refused."""


class NullRecurrenceId(SkylineStoreError):
    """No recurrence id was given."""


class NullPipelineId(SkylineStoreError):
    """No pipeline id was given."""


class NullResourceSkyline(SkylineStoreError):
    """No skylines were given."""


class NullPrediction(SkylineStoreError):
    """No prediction was given (Hadoop: NullRLESparseResourceAllocationException)."""


class EmptyResourceSkyline(SkylineStoreError):
    """An update would leave a run without skylines."""


class DuplicateRecurrenceId(SkylineStoreError):
    """A run has a job of that id already."""


class RecurrenceIdNotFound(SkylineStoreError):
    """There is no such run."""


class StoreDamaged(SkylineStoreError):
    """A file of the store could not be read and was set aside; the text says where."""


class BadArgument(EstimatorError):
    """A value or a document that somebody sent makes no sense; the text says which."""


class WorkerFailed(EstimatorError):
    """The process that did the work ended or failed; asking again starts a new one."""


class Busy(EstimatorError):
    """Too much is waiting already; ask again later."""
