"""What a solver is: history in, prediction out. Own ones are named by a dotted path in the configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import ConfigurationError

if TYPE_CHECKING:  # settings are read where numpy shall not be loaded
    from ..model import History, Kind, Prediction

MAX_INTERVAL = 86_400


@dataclass(frozen=True)
class SolverSettings:
    """Parameters of a solve, with Hadoop's defaults.

    Attributes:
        alpha: 0 to 1: the larger, the dearer is over-allocation against under-allocation.
        beta: 0 to 1: weight of the generalisation term.
        min_runs: Fewer runs with something in them get no prediction (``minJobRuns``).
        interval: Seconds of one step of the plan (``timeInterval``).
        kind: Which skylines of the runs to plan from.
        confidence: Whether to compute :class:`~estimator.model.Confidence` (costs up to ten more solves).

    Raises:
        ConfigurationError: a value is out of its range.
    """

    alpha: float = 0.1
    beta: float = 0.1
    min_runs: int = 2
    interval: int = 5
    kind: Kind = "allocated"
    confidence: bool = True

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            if not 0 <= getattr(self, name) <= 1:  # false for NaN
                raise ConfigurationError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        if self.min_runs < 1:
            raise ConfigurationError(f"minJobRuns must be at least 1, not {self.min_runs}")
        if not 1 <= self.interval <= MAX_INTERVAL:
            raise ConfigurationError(f"timeInterval must be from 1 to {MAX_INTERVAL} seconds, not {self.interval}")
        if self.kind not in ("allocated", "used"):
            raise ConfigurationError(f"the kind of skyline is 'allocated' or 'used', not {self.kind!r}")

    def fingerprint(self, solver: str) -> dict[str, Any]:
        """What a prediction by that solver depends on, as JSON-able values."""
        return {
            "solver": solver,
            "alpha": self.alpha,
            "beta": self.beta,
            "min_runs": self.min_runs,
            "interval": self.interval,
            "kind": self.kind,
        }


class Solver(ABC):
    """Predicts the next run of one pipeline. Without state: one object may serve any number of pipelines.

    Attributes:
        name: Short name for configuration, ``?solver=`` and ``--solver``.
    """

    name: ClassVar[str]

    @abstractmethod
    def solve(
        self, pipeline: str, history: History, settings: SolverSettings, *, warm: Mapping[str, Any] | None = None
    ) -> Prediction:
        """Predict the next run.

        Args:
            history: Runs of this one pipeline.
            warm: ``Prediction.warm`` of an earlier solve of this pipeline, to start from; never changes the result
                beyond the certified gap.

        Raises:
            InvalidInput: the history is empty, too thin (fewer than ``min_runs`` runs that hold something), or
                has no skylines of the wanted kind.
            SolverError: the solver failed.
        """
