"""What all commands share: the configuration, the store, and the prediction that was asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..config import ALIASES, SOLVERS, EstimatorConfig, load_class
from ..solver.base import SolverSettings
from .errors import Refused
from .output import note

if TYPE_CHECKING:  # they load numpy
    from ..model import Prediction
    from ..skylinestore.base import Runs, SkylineStore

Command = TypeVar("Command", bound=Callable[..., Any])


class App:
    """Configuration and store of one command line, each looked at when it is needed.

    Args:
        store: Directory that was asked for; the configured one, or the user's own if None.
        config_file: Configuration that was asked for; defaults if None.
    """

    def __init__(self, store: str | None, config_file: str | None) -> None:
        self._asked = store
        self._file = config_file

    @cached_property
    def config(self) -> EstimatorConfig:
        """The configuration, its directory being the store's.

        Raises:
            ConfigurationError: the file makes no sense.
        """
        config, given = EstimatorConfig(), False
        if self._file is not None:
            from ..config_files import load

            loaded = load(Path(self._file))
            for warning in loaded.warnings:
                note(f"retz-estimator: {warning}")
            config, given = loaded.config, "directory" in loaded.given
        return config if given and not self._asked else replace(config, directory=self._directory())

    def _directory(self) -> Path:
        if self._asked:
            return Path(self._asked).expanduser()
        data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
        return Path(data) / "retz-estimator"

    @cached_property
    def store(self) -> SkylineStore:
        """The store; a new directory is made when something is first written."""
        from ..skylinestore.base import SkylineStore
        from ..skylinestore.files import FileStore

        if ALIASES.get(self.config.store, self.config.store) in (ALIASES["files"], ALIASES["memory"]):
            return FileStore(self.config.directory)  # one in memory would end with this command
        return load_class(self.config.store, SkylineStore)()  # type: ignore[type-abstract]

    def runs(self, pipeline: str) -> Runs:
        """The history of a pipeline.

        Raises:
            Refused: there is none; the text names some that there are.
        """
        from ..errors import InvalidInput
        from ..estimating import history_of

        try:
            return history_of(self.store, pipeline)
        except InvalidInput:
            raise Refused(self._unknown(pipeline)) from None

    def _unknown(self, pipeline: str) -> str:
        from difflib import get_close_matches

        names = [each.pipeline for each in self.store.pipelines() if each.runs]
        if not names:
            return f"{self.config.directory} has no history yet: 'retz-estimator parse LOG' reads one"
        near = get_close_matches(pipeline, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else "'retz-estimator history' lists them"
        return f"no pipeline {pipeline!r} among {len(names)}; {hint}"

    def predict(self, pipeline: str, wishes: Mapping[str, Any]) -> tuple[Runs, Prediction]:
        """The history of a pipeline and its current prediction.

        Args:
            wishes: What :func:`solver_options` gives.

        Raises:
            Refused: no such pipeline, or too few runs.
            EstimatorError: no prediction can be made.
        """
        runs = self.runs(pipeline)
        solver, settings = self.wished(wishes)
        if len(runs) < settings.min_runs:
            have = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
            raise Refused(
                f"{pipeline} has {have} so far, and {settings.min_runs} are needed for a prediction worth the name:"
                f" parse the log of another, or say --min-runs {len(runs)}"
            )
        if settings.kind == "used" and all(job.used is None for jobs in runs.values() for job in jobs):
            raise Refused(f"nobody measured what the runs of {pipeline} used: leave out --kind used")
        from ..estimating import estimate

        return runs, estimate(self.store, pipeline, self.config, solver=solver, settings=settings)

    def wished(self, wishes: Mapping[str, Any]) -> tuple[str, SolverSettings]:
        """Solver and settings as configured, changed as wished."""
        changes = {name: value for name, value in wishes.items() if value is not None}
        solver = changes.pop("solver", self.config.solver)
        if solver not in ALIASES and "." not in solver:
            raise click.UsageError(f"no solver {solver!r}: choose one of {', '.join(SOLVERS)}, or name an own class")
        return solver, replace(self.config.settings, **changes)


def solver_options(command: Command) -> Command:
    """Add the options that change a prediction; each arrives by its name, None if not given."""
    options = [
        click.option(
            "--solver", metavar="NAME", help=f"One of {', '.join(SOLVERS)}, or the dotted path of an own one."
        ),
        click.option("--alpha", type=float, help="0 to 1: the larger, the dearer is over-allocation."),
        click.option("--beta", type=float, help="0 to 1: weight of the generalisation term."),
        click.option("--interval", type=int, metavar="SECONDS", help="Length of one step of the plan."),
        click.option("--kind", type=click.Choice(["allocated", "used"]), help="What to plan from: reserved or used."),
        click.option("--min-runs", type=int, metavar="N", help="Refuse to predict from fewer runs."),
    ]
    for option in reversed(options):
        command = option(command)
    return command
