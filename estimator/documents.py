"""The estimator's records as JSON documents: Hadoop's form for history and skylines, our own for predictions.

What is read here may come from anybody: every function that reads raises ValueError, naming the place, and nothing
else. What is written here can be read back without loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from .model import Confidence, History, Prediction, RecurrenceId, ResourceSkyline
from .skyline import FIRST, MAX_AMOUNT, MAX_RESOURCES, MAX_TIME, Amounts, Skyline

T = TypeVar("T")
Document = Mapping[str, Any]

_REQUIRED = ("jobId", "jobSubmissionTime", "jobFinishTime", "containerSpec", "skylineList")
_OPTIONAL = ("jobInputDataSize", "usedSkylineList")


# -- amounts ------------------------------------------------------------------------------------------------------


def amounts_to_json(amounts: Amounts) -> dict[str, int | float]:
    """``memory`` and ``vcores`` first, the others in alphabetical order; whole numbers as integers."""
    names = (*FIRST, *sorted(set(amounts).difference(FIRST)))
    return {name: _number(amounts.get(name, 0.0)) for name in names}


def amounts_from_json(document: object, where: str) -> dict[str, float]:
    """The inverse; a resource that is not named is zero.

    Raises:
        ValueError: it is not an object of numbers from 0 to 2^53; ``where`` begins the text.
    """
    fields = _mapping(document, where)
    if len(fields) > MAX_RESOURCES:
        raise ValueError(f"{where}: {len(fields)} resources; at most {MAX_RESOURCES} are possible")
    return {_text(name, where): _amount(value, f"{where}.{name[:40]}") for name, value in fields.items()}


# -- history, as Hadoop has it ------------------------------------------------------------------------------------


def skyline_to_json(job: ResourceSkyline) -> dict[str, Any]:
    """Hadoop's ``ResourceSkyline``: its fields in its order, and ``usedSkylineList`` where the use was measured."""
    document: dict[str, Any] = {
        "jobId": job.job_id,
        "jobInputDataSize": float(job.input_size),
        "jobSubmissionTime": job.submitted,
        "jobFinishTime": job.finished,
        "containerSpec": amounts_to_json(job.container),
        "skylineList": job.skyline.to_json(),
    }
    return document if job.used is None else {**document, "usedSkylineList": job.used.to_json()}


def skyline_from_json(document: object, where: str = "skyline") -> ResourceSkyline:
    """The inverse; ``jobInputDataSize`` and ``usedSkylineList`` may be absent.

    Raises:
        ValueError: a field is missing, unknown or makes no sense; the text begins with ``where``.
    """
    fields = _fields(document, _REQUIRED, _OPTIONAL, where)
    return ResourceSkyline(
        job_id=_text(fields["jobId"], f"{where}.jobId"),
        skyline=_steps(fields["skylineList"], f"{where}.skylineList"),
        submitted=_whole(fields["jobSubmissionTime"], f"{where}.jobSubmissionTime"),
        finished=_whole(fields["jobFinishTime"], f"{where}.jobFinishTime"),
        container=amounts_from_json(fields["containerSpec"], f"{where}.containerSpec"),
        input_size=_amount(fields.get("jobInputDataSize", 0.0), f"{where}.jobInputDataSize"),
        used=_steps(fields["usedSkylineList"], f"{where}.usedSkylineList") if "usedSkylineList" in fields else None,
    )


def skylines_to_json(jobs: Iterable[ResourceSkyline]) -> list[dict[str, Any]]:
    """The jobs of one run."""
    return [skyline_to_json(job) for job in jobs]


def skylines_from_json(document: object, where: str = "skylines") -> list[ResourceSkyline]:
    """The inverse.

    Raises:
        ValueError: it is not an array of skylines.
    """
    return [skyline_from_json(job, f"{where}[{index}]") for index, job in enumerate(_sequence(document, where))]


def history_to_json(runs: History) -> list[list[Any]]:
    """Hadoop's map of runs: an array of pairs ``[{"pipelineId": .., "runId": ..}, [skyline, ..]]``."""
    return [[{"pipelineId": run.pipeline, "runId": run.run}, skylines_to_json(jobs)] for run, jobs in runs.items()]


def history_from_json(document: object) -> dict[RecurrenceId, list[ResourceSkyline]]:
    """The inverse.

    Raises:
        ValueError: it is not such an array, or names a run twice.
    """
    runs: dict[RecurrenceId, list[ResourceSkyline]] = {}
    for index, entry in enumerate(_sequence(document, "history")):
        where = f"history[{index}]"
        pair = _sequence(entry, where)
        if len(pair) != 2:
            raise ValueError(f'{where}: give a pair [{{"pipelineId": "..", "runId": ".."}}, [skyline, ..]]')
        key = _fields(pair[0], ("pipelineId", "runId"), (), f"{where}[0]")
        run = RecurrenceId(_text(key["pipelineId"], f"{where}[0].pipelineId"), _text(key["runId"], f"{where}[0].runId"))
        if run in runs:
            raise ValueError(f"{where}: the run {run} is there already; give all its skylines in one entry")
        runs[run] = skylines_from_json(pair[1], f"{where}[1]")
    return runs


# -- predictions ----------------------------------------------------------------------------------------------------


def prediction_to_json(prediction: Prediction) -> dict[str, Any]:
    """Everything about a prediction but what only its solver understands (``warm``).

    The fields are those of :class:`~estimator.model.Prediction`, skylines as Hadoop's objects; ``confidence`` is null
    or an object with the fields of :class:`~estimator.model.Confidence`.
    """
    return {
        "pipeline": prediction.pipeline,
        "solver": prediction.solver,
        "kind": prediction.kind,
        "settings": dict(prediction.settings),
        "runs": list(prediction.runs),
        "ignored": list(prediction.ignored),
        "history": prediction.history,
        "objective": prediction.objective,
        "gap": prediction.gap,
        "skyline": prediction.skyline.to_json(),
        "confidence": None if prediction.confidence is None else _confidence_to_json(prediction.confidence),
    }


def prediction_to_document(prediction: Prediction) -> dict[str, Any]:
    """As :func:`prediction_to_json`, and with ``warm``: what a store keeps."""
    return {**prediction_to_json(prediction), "warm": None if prediction.warm is None else dict(prediction.warm)}


def prediction_from_document(document: object) -> Prediction:
    """The inverse of :func:`prediction_to_document`.

    Raises:
        ValueError: a field is missing or makes no sense.
    """
    where = "prediction"
    names = ("pipeline", "solver", "kind", "settings", "runs", "ignored", "history", "objective", "gap", "skyline")
    fields = _fields(document, (*names, "confidence", "warm"), (), where)
    if fields["kind"] not in ("allocated", "used"):
        raise ValueError(f"{where}.kind: {_shown(fields['kind'])} is neither 'allocated' nor 'used'")
    warm, confidence = fields["warm"], fields["confidence"]
    return Prediction(
        pipeline=_text(fields["pipeline"], f"{where}.pipeline"),
        skyline=_steps(fields["skyline"], f"{where}.skyline"),
        solver=_text(fields["solver"], f"{where}.solver"),
        kind=fields["kind"],
        settings=dict(_mapping(fields["settings"], f"{where}.settings")),
        runs=_texts(fields["runs"], f"{where}.runs"),
        ignored=_texts(fields["ignored"], f"{where}.ignored"),
        history=_text(fields["history"], f"{where}.history"),
        objective=_optional_number(fields["objective"], f"{where}.objective"),
        gap=_optional_number(fields["gap"], f"{where}.gap"),
        confidence=None if confidence is None else _confidence_from_json(confidence, f"{where}.confidence"),
        warm=None if warm is None else dict(_mapping(warm, f"{where}.warm")),
    )


def _confidence_to_json(confidence: Confidence) -> dict[str, Any]:
    error = confidence.left_out_error
    return {
        "runs": confidence.runs,
        "lower": confidence.lower.to_json(),
        "upper": confidence.upper.to_json(),
        "over": dict(confidence.over),
        "under": dict(confidence.under),
        "needed": dict(confidence.needed),
        "fixed": dict(confidence.fixed),
        "left_out_error": None if error is None else dict(error),
        "left_out_runs": confidence.left_out_runs,
    }


def _confidence_from_json(document: object, where: str) -> Confidence:
    sums = ("over", "under", "needed", "fixed")
    fields = _fields(document, ("runs", "lower", "upper", *sums, "left_out_error", "left_out_runs"), (), where)
    error = fields["left_out_error"]
    return Confidence(
        runs=_whole(fields["runs"], f"{where}.runs"),
        lower=_steps(fields["lower"], f"{where}.lower"),
        upper=_steps(fields["upper"], f"{where}.upper"),
        **{name: _numbers(fields[name], f"{where}.{name}") for name in sums},
        left_out_error=None if error is None else _numbers(error, f"{where}.left_out_error"),
        left_out_runs=_whole(fields["left_out_runs"], f"{where}.left_out_runs"),
    )


# -- digests --------------------------------------------------------------------------------------------------------


def run_digest(run: str, jobs: Sequence[ResourceSkyline]) -> str:
    """32 hexadecimal digits that tell this run from any other."""
    hashed = hashlib.blake2b(digest_size=16)
    _feed(hashed, [run, len(jobs)])
    for job in jobs:
        container = sorted((name, float(amount)) for name, amount in job.container.items() if amount)
        _feed(hashed, [job.job_id, job.submitted, job.finished, float(job.input_size), container, job.used is None])
        for skyline in (job.skyline, job.used):
            if skyline is not None:
                _feed_skyline(hashed, skyline)
    return hashed.hexdigest()


def combined_digest(runs: Iterable[str]) -> str:
    """The digest of a history of which the digests of the runs are known; ``""`` if there are none."""
    digests = list(runs)
    return hashlib.blake2b(" ".join(digests).encode(), digest_size=16).hexdigest() if digests else ""


def history_digest(runs: History) -> str:
    """Changes whenever anything of the history does, also the order of its runs; ``""`` for no runs.

    The names of pipelines do not count: a store keeps one digest for each pipeline.
    """
    return combined_digest(run_digest(run.run, jobs) for run, jobs in runs.items())


def _feed(hashed: hashlib.blake2b, values: Sequence[object]) -> None:
    hashed.update(repr(values).encode("utf-8", "surrogatepass"))


def _feed_skyline(hashed: hashlib.blake2b, skyline: Skyline) -> None:
    shown = [name for name in skyline.resources if skyline.column(name).any()]  # equal skylines, equal digests
    _feed(hashed, [len(skyline.times), shown])
    hashed.update(skyline.times.astype("<i8").tobytes())
    for name in shown:
        hashed.update(skyline.column(name).astype("<f8").tobytes())


# -- reading with care ----------------------------------------------------------------------------------------------


def _fields(document: object, required: Sequence[str], optional: Sequence[str], where: str) -> Document:
    fields = _mapping(document, where)
    missing = [name for name in required if name not in fields]
    unknown = [name for name in fields if name not in required and name not in optional]
    if missing:
        raise ValueError(f"{where}: {', '.join(missing)} must be given")
    if unknown:
        raise ValueError(f"{where}: {_shown(unknown[0])} is not a field; there are {', '.join((*required, *optional))}")
    return fields


def _mapping(document: object, where: str) -> Document:
    if not isinstance(document, Mapping):
        raise ValueError(f"{where}: an object is needed, not {_shown(document)}")
    return document


def _sequence(document: object, where: str) -> Sequence[Any]:
    if not isinstance(document, list | tuple):
        raise ValueError(f"{where}: an array is needed, not {_shown(document)}")
    return document


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where}: a text is needed, not {_shown(value)}")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    return tuple(_text(each, f"{where}[{index}]") for index, each in enumerate(_sequence(value, where)))


def _whole(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_TIME:
        raise ValueError(f"{where}: a whole number from 0 to 2^53 is needed, not {_shown(value)}")
    return value


def _amount(value: object, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_AMOUNT:  # false for NaN
        raise ValueError(f"{where}: a number from 0 to 2^53 is needed, not {_shown(value)}")
    return float(value)


def _optional_number(value: object, where: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{where}: a number is needed, not {_shown(value)}")
    return float(value)


def _numbers(value: object, where: str) -> dict[str, float]:
    """Sums over time, and ratios: they may exceed what an amount may be."""
    numbers = {}
    for name, each in _mapping(value, where).items():
        number = _optional_number(each, f"{where}.{name}")
        if number is None:
            raise ValueError(f"{where}.{name}: a number is needed, not null")
        numbers[name] = number
    return numbers


def _steps(document: object, where: str) -> Skyline:
    try:
        return Skyline.from_json(document)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _number(value: float) -> int | float:
    number = float(value)
    return int(number) if number.is_integer() else number


def _shown(value: object) -> str:
    """A piece of what somebody sent, short enough for a message."""
    if isinstance(value, list | tuple | Mapping):
        return "an object" if isinstance(value, Mapping) else "an array"
    text = "a huge number" if isinstance(value, int) and value.bit_length() > 256 else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
