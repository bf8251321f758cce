"""The routes of pipelines: a part of the table."""

from __future__ import annotations

from estimator.config import SOLVERS

from . import pipelines, sizepictures, sizes
from .routes import API, FLAG, WORDS, Answer, Parameter, Route, answer, whole

_PIPELINE = Parameter("name", {"type": "string", "minLength": 1, "maxLength": 200}, "The pipeline's name.", "path")
_RUN = Parameter("run", {"type": "string", "minLength": 1, "maxLength": 200}, "The run's id.", "path")
_USER = Parameter("user", WORDS, "For administrators: an access key.")
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_WISHES = (
    _PIPELINE,
    _USER,
    Parameter("solver", {"type": "string", "enum": list(SOLVERS)}, "Default: as configured."),
    Parameter("alpha", _SHARE, "Default: as configured."),
    Parameter("beta", _SHARE, "Default: as configured."),
    Parameter("interval", whole(1, pipelines.MAX_INTERVAL), "Seconds of one step; default: as configured."),
    Parameter("kind", {"type": "string", "enum": list(pipelines.KINDS)}, "Default allocated."),
)
_RESOURCE = Parameter("resource", WORDS, "memory (default), vcores or gpus.")
_NO_PREDICTION = (404, 409, 422, 503)


def _picture(format: str, media: str) -> Route:
    return Route(
        "GET",
        f"{API}/pipelines/{{name}}/prediction.{format}",
        pipelines.picture(format),
        "The history and the prediction as a picture.",
        parameters=(*_WISHES, _RESOURCE),
        answers={200: Answer("The picture.", bytes, media)},
        refusals=_NO_PREDICTION,
    )


def _size_picture(format: str, media: str) -> Route:
    return Route(
        "GET",
        f"{API}/pipelines/{{name}}/sizes.{format}",
        sizepictures.size_picture(format),
        "What jobs ask for, what runs used and what the next should get, as a picture.",
        parameters=(_PIPELINE, _USER),
        answers={200: Answer("The picture.", bytes, media)},
        refusals=_NO_PREDICTION,
    )


_CELLS = (
    Parameter("width", whole(*pipelines.WIDTHS), "Columns; default 100."),
    Parameter("height", whole(*pipelines.HEIGHTS), "Lines; default 28."),
    Parameter("colour", FLAG, "true for ANSI colours."),
)

ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        f"{API}/pipelines",
        pipelines.list_pipelines,
        "Your pipelines.",
        parameters=(_USER,),
        answers=answer("All of them.", pipelines.PipelineList),
        refusals=(404, 409, 503),
    ),
    Route(
        "GET",
        f"{API}/pipelines/{{name}}",
        pipelines.get_pipeline,
        "The runs of a pipeline.",
        parameters=(
            _PIPELINE,
            _USER,
            Parameter("skylines", whole(0, pipelines.MAX_SKYLINES), "So many of the newest come with their skylines."),
        ),
        answers=answer("Its history.", pipelines.HistoryView),
        refusals=(404, 409, 503),
    ),
    Route(
        "DELETE",
        f"{API}/pipelines/{{name}}",
        pipelines.delete_pipeline,
        "Forget a pipeline's history.",
        parameters=(_PIPELINE, _USER),
        answers={204: Answer("It is gone.")},
        refusals=(404, 409),
    ),
    Route(
        "DELETE",
        f"{API}/pipelines/{{name}}/runs/{{run}}",
        pipelines.delete_run,
        "Forget one run of a pipeline.",
        parameters=(_PIPELINE, _RUN, _USER),
        answers={204: Answer("It is gone.")},
        refusals=(404, 409),
    ),
    Route(
        "GET",
        f"{API}/pipelines/{{name}}/sizes",
        sizes.get_sizes,
        "What jobs of a pipeline ask for, and what its past runs say they need.",
        parameters=(_PIPELINE, _USER),
        answers=answer("Its steps.", sizes.SizesView),
        refusals=(404,),
    ),
    *(_size_picture(format, media) for format, media in pipelines.FORMATS.items()),
    Route(
        "GET",
        f"{API}/pipelines/{{name}}/sizes.txt",
        sizepictures.size_text,
        "The same for a terminal: of the step that saves most.",
        parameters=(_PIPELINE, _USER, *_CELLS),
        answers={200: Answer("Lines of text.", str, "text/plain")},
        refusals=_NO_PREDICTION,
    ),
    Route(
        "GET",
        f"{API}/pipelines/{{name}}/prediction",
        pipelines.prediction,
        "What the next run will need.",
        parameters=_WISHES,
        answers=answer("The prediction.", pipelines.PredictionView),
        refusals=_NO_PREDICTION,
    ),
    *(_picture(format, media) for format, media in pipelines.FORMATS.items()),
    Route(
        "GET",
        f"{API}/pipelines/{{name}}/prediction.txt",
        pipelines.terminal_plot,
        "The same for a terminal.",
        parameters=(
            *_WISHES,
            _RESOURCE,
            *_CELLS,
        ),
        answers={200: Answer("Lines of text.", str, "text/plain")},
        refusals=_NO_PREDICTION,
    ),
)
