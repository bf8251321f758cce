"""The operations of :mod:`estimator.operations`, as functions of a store, in a process that may load numpy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import ALIASES, SOLVERS, EstimatorConfig, load_class
from .documents import history_from_json, history_to_json, prediction_to_json, skyline_from_json
from .errors import BadArgument, ConfigurationError, InvalidInput
from .estimating import current as current_prediction
from .estimating import estimate as estimated
from .estimating import history_of
from .model import Prediction, RecurrenceId
from .operations import Outcome
from .overview import forget as forgotten
from .overview import runs_overview
from .skylinestore.base import Runs, SkylineStore
from .skylinestore.files import FileStore
from .solver.base import SolverSettings

if TYPE_CHECKING:
    from .sizeview import SizePicture

_KEPT_IN_FILES = {ALIASES["files"], ALIASES["memory"]}
MOST_NAMED = 20
"""Duplicates that a report names; there may be very many."""

MOST_CELLS = 1000
"""Columns and lines of a picture for a terminal."""

_FORMATS = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}


def perform(operation: str, place: Path, config: EstimatorConfig, arguments: Mapping[str, Any]) -> Outcome:
    """Do one operation on the store at ``place``, here and now.

    Raises:
        BadArgument: there is no such operation, or an argument makes no sense.
        EstimatorError: what the operation raises.
    """
    function = _OPERATIONS.get(operation)
    if function is None:
        raise BadArgument(f"there is no operation {operation!r}")
    return function(open_store(config, place), config, **arguments)


def open_store(config: EstimatorConfig, place: Path) -> SkylineStore:
    """The configured store at ``place``; an own class, which is called without arguments, knows its place itself.

    A store in memory is one in files, too: two worker processes that come and go share it. Whoever serves gives it a
    place that ends with the service.
    """
    if ALIASES.get(config.store, config.store) in _KEPT_IN_FILES:
        return _file_store(place)
    return load_class(config.store, SkylineStore)()  # type: ignore[type-abstract]


@lru_cache(maxsize=32)
def _file_store(place: Path) -> FileStore:
    """One object for each place: it remembers what it has read."""
    return FileStore(place)


def history(store: SkylineStore, config: EstimatorConfig, *, pipeline: str, run: str) -> Outcome:
    """Runs as Hadoop's map; ``null`` if there is none, ``{}`` for all of an empty store."""
    runs = store.get_history(RecurrenceId(pipeline, run))
    return _json(runs if runs is None else history_to_json(runs) or {})


def estimation(store: SkylineStore, config: EstimatorConfig, *, pipeline: str) -> Outcome:
    """The stored prediction's skyline, or ``null``."""
    prediction = store.get_prediction(pipeline)
    return _json(None if prediction is None else prediction.skyline.to_json())


def estimate(
    store: SkylineStore, config: EstimatorConfig, *, pipeline: str, full: bool = False, **wishes: Any
) -> Outcome:
    """A current prediction: its skyline, or with ``full`` everything about it."""
    return _prediction_json(_predicted(store, config, pipeline, wishes), full)


def current(
    store: SkylineStore, config: EstimatorConfig, *, pipeline: str, full: bool = False, **wishes: Any
) -> Outcome:
    """What :func:`estimate` would answer, if that is stored and current; else ``null``."""
    solver, settings = _wished(config, wishes)
    prediction = current_prediction(store, pipeline, config, solver=solver, settings=settings)
    return _json(None) if prediction is None else _prediction_json(prediction, full)


def add_history(store: SkylineStore, config: EstimatorConfig, *, document: bytes) -> Outcome:
    """Add the runs of a map as :func:`history` gives it; a duplicate refuses its run and all after it."""
    runs = _read(history_from_json, document)
    for run, jobs in runs.items():
        store.add_history(run, jobs)
    return _json({"runs": len(runs)})


def update_history(
    store: SkylineStore, config: EstimatorConfig, *, pipeline: str, run: str, document: bytes
) -> Outcome:
    """Replace the jobs of a run by those of an array."""

    def jobs(read: Any) -> list[Any]:
        if not isinstance(read, list):
            raise ValueError("give an array of skylines, as in the history of a run")
        return [None if job is None else skyline_from_json(job) for job in read]

    store.update_history(RecurrenceId(pipeline, run), _read(jobs, document))
    return _json({"runs": 1})


def delete_history(store: SkylineStore, config: EstimatorConfig, *, pipeline: str, run: str) -> Outcome:
    """Forget a run."""
    store.delete_history(RecurrenceId(pipeline, run))
    return _json({})


def delete_estimation(store: SkylineStore, config: EstimatorConfig, *, pipeline: str) -> Outcome:
    """Forget the prediction of a pipeline."""
    return _json({"deleted": store.delete_prediction(pipeline)})


def pipelines(store: SkylineStore, config: EstimatorConfig) -> Outcome:
    """All pipelines, by name."""
    return _json(
        [{"pipelineId": each.pipeline, "runs": each.runs, "predicted": each.predicted} for each in store.pipelines()]
    )


def runs(store: SkylineStore, config: EstimatorConfig, *, pipeline: str, skylines: int = 0) -> Outcome:
    """The runs of one pipeline at a glance, the last ones with their skylines; ``[]`` if there is none."""
    return _json(runs_overview(_known(store, pipeline), skylines))


def forget(store: SkylineStore, config: EstimatorConfig, *, pipeline: str) -> Outcome:
    """Delete all that is known of a pipeline."""
    return _json({"runs": forgotten(store, pipeline, _known(store, pipeline))})


def translate(
    store: SkylineStore,
    config: EstimatorConfig,
    *,
    paths: Sequence[str],
    parser: str | None = None,
    strict: bool = False,
) -> Outcome:
    """Read logs into the history and report what became of them."""
    from .translator.base import LogParser, SingleLineParser
    from .translator.reading import translate as translated

    line_parser = load_class(parser or config.line_parser, SingleLineParser)  # type: ignore[type-abstract]
    log_parser = load_class(config.log_parser, LogParser)  # type: ignore[type-abstract]
    try:
        report = translated(
            [Path(path) for path in paths],
            store,
            parser=line_parser(config.settings.interval),
            log_parser=log_parser(),
            strict=strict,
        )
    except OSError as error:
        raise BadArgument(f"{error.filename}: cannot be read: {error.strerror}") from error
    return _json(
        {
            "lines": report.lines,
            "badLines": report.bad_lines,
            "jobs": report.jobs,
            "runs": len(report.runs),
            "duplicates": [
                {"pipelineId": run.pipeline, "runId": run.run} for run in islice(report.duplicates, MOST_NAMED)
            ],
            "unfinished": report.unfinished,
            "nameless": report.nameless,
            "problems": report.problems,
        }
    )


def plot(
    store: SkylineStore,
    config: EstimatorConfig,
    *,
    pipeline: str,
    resource: str = "memory",
    format: str = "png",
    **wishes: Any,
) -> Outcome:
    """A picture of history and prediction."""
    if format not in _FORMATS:
        raise BadArgument(f"the format of a plot is one of {', '.join(_FORMATS)}, not {format!r}")
    from .plot import plot_prediction

    prediction = _predicted(store, config, pipeline, wishes)
    picture = plot_prediction(history_of(store, pipeline), prediction, resource=resource, format=format)
    return Outcome(picture, _FORMATS[format])


def text(
    store: SkylineStore,
    config: EstimatorConfig,
    *,
    pipeline: str,
    resource: str = "memory",
    width: int = 100,
    height: int = 28,
    colour: bool = False,
    **wishes: Any,
) -> Outcome:
    """The same picture for a terminal."""
    from .drawing import drawing, text_picture

    _check_cells(width, height)
    prediction = _predicted(store, config, pipeline, wishes)
    drawn = drawing(history_of(store, pipeline), prediction, resource)
    picture = text_picture(drawn, width=width, height=height, colour=colour)
    return Outcome(picture.encode(), "text/plain; charset=utf-8")


def size_plot(
    store: SkylineStore,
    config: EstimatorConfig,
    *,
    pipeline: str,
    steps: Sequence[Any],
    one_job: bool,
    format: str = "png",
) -> Outcome:
    """A picture of what jobs ask for, use and should get; see :mod:`estimator.sizeview`."""
    if format not in _FORMATS:
        raise BadArgument(f"the format of a plot is one of {', '.join(_FORMATS)}, not {format!r}")
    from .plot_sizes import plot_sizes

    return Outcome(plot_sizes(_sizes(store, pipeline, steps, one_job), format=format), _FORMATS[format])


def size_text(
    store: SkylineStore,
    config: EstimatorConfig,
    *,
    pipeline: str,
    steps: Sequence[Any],
    one_job: bool,
    width: int = 100,
    height: int = 28,
    colour: bool = False,
) -> Outcome:
    """The same picture for a terminal."""
    from .sizeview import size_text as drawn_text

    _check_cells(width, height)
    picture = drawn_text(_sizes(store, pipeline, steps, one_job), width=width, height=height, colour=colour)
    return Outcome(picture.encode(), "text/plain; charset=utf-8")


def _sizes(store: SkylineStore, pipeline: str, steps: Sequence[Any], one_job: bool) -> SizePicture:
    from .sizeview import PastSize, SizedStep, size_picture

    read = [SizedStep(name, asked, given, [PastSize(*run) for run in past]) for name, asked, given, past in steps]
    return size_picture(pipeline, read, _known(store, pipeline), one_job)


def _check_cells(width: int, height: int) -> None:
    if not (1 <= width <= MOST_CELLS and 1 <= height <= MOST_CELLS):
        raise BadArgument(f"a picture has from 1 to {MOST_CELLS} columns and lines, not {width} x {height}")


def reservation(store: SkylineStore, config: EstimatorConfig, *, pipeline: str, **options: Any) -> Outcome:
    """The prediction as YARN's reservation request, in the newest run's containers, from now on by default."""
    from .reservation import container_of, reservation_request

    wishes = {name: options.pop(name) for name in _WISHES if name in options}
    given = {name: value for name, value in options.items() if value is not None}
    prediction = _predicted(store, config, pipeline, wishes)
    container = container_of(history_of(store, pipeline))
    arrival = given.pop("arrival_ms", int(time.time() * 1000))
    return _json(reservation_request(prediction, container=container, arrival_ms=arrival, **given))


def record_run(
    store: SkylineStore,
    config: EstimatorConfig,
    *,
    pipeline: str,
    run: str,
    spans: Sequence[Any],
    usages: Sequence[Any] = (),
    keep: int | None = None,
) -> Outcome:
    """Write the skyline of a run of the queue; spans and usages as their classes or as tuples of their fields."""
    from .recording import Span, Usage, run_skyline

    try:
        skyline = run_skyline(
            run,
            [each if isinstance(each, Span) else Span(*each) for each in spans],
            [each if isinstance(each, Usage) else Usage(*each) for each in usages],
        )
    except ValueError as error:
        raise BadArgument(str(error)) from error
    store.put_history(RecurrenceId(pipeline, run), [skyline], keep)
    return _json({})


def backtest(store: SkylineStore, config: EstimatorConfig, *, pipeline: str) -> Outcome:
    """What every solver would have predicted for past runs."""
    from .backtest import backtest as tested

    return _json(tested(history_of(store, pipeline), config).to_json())


_WISHES = ("solver", "alpha", "beta", "interval", "min_runs", "kind")


def _wished(config: EstimatorConfig, wishes: Mapping[str, Any]) -> tuple[str, SolverSettings]:
    """Solver and settings as configured, changed as wished.

    Only known solvers: naming a class loads code, which is for who configures the service, not for who asks it.
    """
    changes = {name: value for name, value in wishes.items() if value is not None}
    if unknown := set(changes).difference(_WISHES):
        raise BadArgument(f"there is no {', '.join(sorted(unknown))}")
    solver = changes.pop("solver", config.solver)
    if solver != config.solver and solver not in SOLVERS:
        raise BadArgument(f"there is no solver {solver!r}; choose one of {', '.join(SOLVERS)}")
    try:
        return solver, replace(config.settings, **changes)
    except ConfigurationError as error:
        raise BadArgument(str(error)) from error


def _predicted(store: SkylineStore, config: EstimatorConfig, pipeline: str, wishes: Mapping[str, Any]) -> Prediction:
    solver, settings = _wished(config, wishes)
    return estimated(store, pipeline, config, solver=solver, settings=settings)


def _prediction_json(prediction: Prediction, full: bool) -> Outcome:
    return _json(prediction_to_json(prediction) if full else prediction.skyline.to_json())


def _known(store: SkylineStore, pipeline: str) -> Runs:
    try:
        return history_of(store, pipeline)
    except InvalidInput:
        return {}


def _read(convert: Callable[[Any], Any], document: bytes) -> Any:
    try:
        return convert(json.loads(document))
    except (ValueError, RecursionError) as error:
        raise BadArgument(f"the body cannot be used: {error}") from error


def _json(document: object) -> Outcome:
    return Outcome(json.dumps(document, separators=(",", ":")).encode())


_OPERATIONS: dict[str, Callable[..., Outcome]] = {
    function.__name__: function
    for function in (
        history, estimation, estimate, current, add_history, update_history, delete_history, delete_estimation,
        pipelines, runs, forget, translate, plot, text, size_plot, size_text, reservation, record_run, backtest,
    )
}  # fmt: skip
