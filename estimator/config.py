"""The estimator's settings, and the classes that they name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from .errors import ConfigurationError
from .solver.base import SolverSettings

T = TypeVar("T")

PORT = 9998

_HADOOP = "org.apache.hadoop.resourceestimator"
ALIASES = {
    f"{_HADOOP}.translator.impl.NativeSingleLineParser": "estimator.translator.native.NativeLineParser",
    f"{_HADOOP}.translator.impl.RmSingleLineParser": "estimator.translator.resource_manager.ResourceManagerLineParser",
    f"{_HADOOP}.translator.impl.BaseLogParser": "estimator.translator.reading.BaseLogParser",
    f"{_HADOOP}.skylinestore.impl.InMemoryStore": "estimator.skylinestore.memory.InMemoryStore",
    # The same model; among equally cheap plans it finds the one that Hadoop's own tests expect.
    f"{_HADOOP}.solver.impl.LpSolver": "estimator.solver.fast.FastSolver",
    "native": "estimator.translator.native.NativeLineParser",
    "rm": "estimator.translator.resource_manager.ResourceManagerLineParser",
    "retz": "estimator.translator.retz_jobs.RetzJobLineParser",
    "base": "estimator.translator.reading.BaseLogParser",
    "memory": "estimator.skylinestore.memory.InMemoryStore",
    "files": "estimator.skylinestore.files.FileStore",
    "fast": "estimator.solver.fast.FastSolver",
    "lp": "estimator.solver.lp.LpSolver",
    "peak": "estimator.solver.peak.PeakSolver",
    "last": "estimator.solver.baselines.LastRunSolver",
    "max": "estimator.solver.baselines.MaxSolver",
    "mean2": "estimator.solver.baselines.MeanOfTwoSolver",
    "p95": "estimator.solver.baselines.PercentileSolver",
}
"""Short names and Hadoop's class names for our classes. Any other name is a dotted path."""

SOLVERS = ("fast", "lp", "peak", "last", "max", "mean2", "p95")


@dataclass(frozen=True)
class EstimatorConfig:
    """Everything that can be configured; the defaults are Hadoop's unless a better one is said below.

    Attributes:
        settings: Parameters of the solver.
        solver, line_parser, log_parser, store: Names as in :data:`ALIASES`, or dotted paths.
        port, bind: Where the service listens; loopback, because its routes are unsigned.
        directory: Where a file store lives; one directory per owner below it.
        log_directories: Directories from which ``POST translator/{path}`` may read; none by default.
        workers_idle_s: A worker process with nothing to do ends after so many seconds.
        upload_limit: MB (2^20 bytes) of the largest body that the service reads, unpacked.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    settings: SolverSettings = field(default_factory=SolverSettings)
    solver: str = "fast"
    line_parser: str = "native"
    log_parser: str = "base"
    store: str = "files"
    port: int = PORT
    bind: str = "127.0.0.1"
    directory: Path = Path("skylines")
    log_directories: tuple[Path, ...] = ()
    workers_idle_s: float = 60.0
    upload_limit: int = 1024

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ConfigurationError(f"the port must be from 0 to 65535, not {self.port}")
        if not 0 <= self.workers_idle_s <= 86_400:  # false for NaN
            raise ConfigurationError(f"workers-idle must be from 0 to 86400 seconds, not {self.workers_idle_s}")
        if self.upload_limit < 1:
            raise ConfigurationError(f"the upload limit must be at least 1 MB, not {self.upload_limit}")
        if not self.bind:
            raise ConfigurationError("bind must be an address or a host's name, like 127.0.0.1")


def load_class(name: str, base: type[T]) -> type[T]:
    """The class of that name (see :data:`ALIASES`), checked to be a kind of ``base``.

    Raises:
        ConfigurationError: there is no such class, or it is something else.
    """
    path = ALIASES.get(name, name)
    module, _, attribute = path.rpartition(".")
    if not module:
        raise ConfigurationError(
            f"{name!r} names no class: use a short name or a dotted path like package.module.Class"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError, SyntaxError) as error:
        raise ConfigurationError(f"cannot load {path}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigurationError(f"{path} is not a {base.__name__}")
    return found
