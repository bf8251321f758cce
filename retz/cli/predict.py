"""``retz predict`` and ``pipelines``: what recurring work needed, and what its next run will need."""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from retz.client import calls
from retz.client.errors import ApiError
from retz.client.transport import EVENT_SILENCE_S
from retz.model.units import format_size, span

from .app import App
from .errors import CliError
from .output import (
    Column,
    ago,
    coloured,
    note,
    plural,
    print_json,
    print_table,
    print_text,
    printable,
    seconds_of,
    width_of,
)
from .parameters import json_option
from .sizing import size_lines

MAX_STEPS = 20
RESOURCES = ("memory", "vcores", "gpus")
TITLES = {"memory": "MEMORY", "vcores": "CPUS", "gpus": "GPUS"}
FORMATS = {".png": "png", ".svg": "svg", ".pdf": "pdf"}
SHARE = click.FloatRange(0, 1)
_WISHES = ("resource", "kind", "solver", "alpha", "beta", "interval")
_UNPROCESSABLE = 422
_NOT_FOUND = 404
_NO_PLAN = (_NOT_FOUND, _UNPROCESSABLE, 503)
_MANY_STEPS = 4
_MUCH = 10.0


@click.command("predict")
@click.argument("pipeline")
@click.option("--kind", type=click.Choice(["allocated", "used"]), help="From what was reserved, or what was used.")
@click.option("--solver", metavar="NAME", help="fast, lp, peak, last, max, mean2 or p95 [default: the server's].")
@click.option("--alpha", type=SHARE, metavar="A", help="0 to 1: the larger, the dearer is reserving too much.")
@click.option("--beta", type=SHARE, metavar="B", help="0 to 1: the larger, the less closely the plan fits past runs.")
@click.option("--interval", type=click.IntRange(1, 86_400), metavar="S", help="Seconds of one step.")
@click.option("--resource", metavar="NAME", help="memory, vcores or gpus, for a picture [default: memory].")
@click.option("--png", "picture", metavar="FILE", help="Write a picture: .png, .svg or .pdf; - is stdout (PNG).")
@click.option("--text", "drawn", is_flag=True, help="Draw it in the terminal.")
@json_option
@click.pass_obj
def predict_command(
    app: App, /, pipeline: str, resource: str | None, picture: str | None, drawn: bool, as_json: bool, **wishes: Any
) -> None:
    """Say what the next run of a pipeline will need.

    Runs are remembered when their last job has ended: 'retz run --pipeline NAME -- ...' marks jobs. First what
    --predicted would give each job, then how much the whole run needs over time. Pictures show the first: memory asked
    for, used, and what the next job should get; with --solver, --kind or --resource they show the second. The
    solver peak is the one for memory limits; the others plan what may be made up later, such as processors.
    """
    if sum((picture is not None, drawn, as_json)) > 1:
        raise click.UsageError("one of --json, --png and --text at a time")
    if resource is not None and not (picture or drawn):
        raise click.UsageError("--resource goes with --png or --text: the summary shows all of them")
    if picture is not None:
        _draw(app, pipeline, picture, {"resource": resource, **wishes})
    elif drawn:
        _draw_here(app, pipeline, {"resource": resource, **wishes})
    else:
        sizes = _sizes(app, pipeline)
        if as_json:
            print_json("predict", prediction=app.call(calls.prediction(pipeline, None, wishes)), sizes=sizes)
            return
        _say(app, pipeline, sizes, wishes)


def _say(app: App, pipeline: str, sizes: dict[str, Any], wishes: dict[str, Any]) -> None:
    """Sizes, then the plan of the whole run; sizes are known although there may be no plan at present."""
    prediction, trouble = None, ""
    try:
        prediction = _of_use(app, pipeline, wishes) if _has_sizes(sizes) else None
        if prediction is None:
            prediction = app.call(calls.prediction(pipeline, None, wishes))
    except ApiError as error:
        if not _has_sizes(sizes) or error.status not in _NO_PLAN:
            raise
        trouble = str(error)
    lines = size_lines(pipeline, sizes)
    for line in (*lines[1:], *([""] if lines else [])):
        print_text(line, "       ")
    if prediction is None:
        print_text(f"no plan of the whole run: {printable(trouble)}", "  ")
    else:
        _tell(app, pipeline, prediction, wishes)


# -- pictures --------------------------------------------------------------------------------------------------------


def _draw(app: App, pipeline: str, place: str, parameters: dict[str, Any]) -> None:
    format = "png" if place == "-" else FORMATS.get(Path(place).suffix.lower())
    if format is None:
        raise click.UsageError(f"--png {place}: the name must end in {', '.join(FORMATS)}")
    content = _content(app, pipeline, format, parameters)
    if place == "-":
        sys.stdout.buffer.write(content)
        return
    try:
        Path(place).write_bytes(content)
    except OSError as error:
        raise CliError(f"cannot write {place}: {error.strerror}") from None
    note(f"wrote {place}")


def _draw_here(app: App, pipeline: str, parameters: dict[str, Any]) -> None:
    width = width_of(sys.stdout) or _columns()
    lines = os.get_terminal_size(sys.stdout.fileno()).lines - 2 if sys.stdout.isatty() else 28
    size = {"width": min(1000, max(20, width)), "height": min(300, max(6, min(lines, width // 3)))}
    content = _content(app, pipeline, "txt", {**parameters, **size, "colour": coloured(sys.stdout)})
    print(content.decode(), end="")


def _columns() -> int:
    """What a pipe leads to is as wide as somebody says."""
    told = os.environ.get("COLUMNS", "")
    return int(told) if told.isdecimal() and int(told) else 100


def _content(app: App, pipeline: str, format: str, parameters: dict[str, Any]) -> bytes:
    if all(parameters.get(name) is None for name in _WISHES):
        shape = {name: value for name, value in parameters.items() if name not in _WISHES}
        try:
            return _bytes(app, calls.sizes_plot(pipeline, format, shape))
        except ApiError as error:
            if error.status not in (_NOT_FOUND, _UNPROCESSABLE):  # runs from logs; too few were measured
                raise
    return _bytes(app, calls.prediction(pipeline, format, parameters))


def _bytes(app: App, call: calls.Call) -> bytes:
    with app.transport.stream(call, EVENT_SILENCE_S) as stream:
        return b"".join(stream)


def _sizes(app: App, pipeline: str) -> dict[str, Any]:
    """What past runs say about each step; no steps where nothing is known, as of histories from logs."""
    try:
        found: dict[str, Any] = app.call(calls.sizes(pipeline))
    except ApiError as error:
        if error.status == _NOT_FOUND:
            return {"pipeline": pipeline, "steps": []}
        raise
    return found


def _has_sizes(sizes: dict[str, Any]) -> bool:
    return any(step["given"] is not None for step in sizes["steps"])


def _of_use(app: App, pipeline: str, wishes: dict[str, Any]) -> dict[str, Any] | None:
    """From what was used, if nothing else is wished for: what was reserved are the guesses that sizes make better."""
    if wishes["kind"] is not None:
        return None
    try:
        found: dict[str, Any] = app.call(calls.prediction(pipeline, None, {**wishes, "kind": "used"}))
    except ApiError as error:
        if error.status == _UNPROCESSABLE:  # all runs ended before they could be measured over time
            return None
        raise
    return found


# -- in words --------------------------------------------------------------------------------------------------------


def _tell(app: App, pipeline: str, prediction: dict[str, Any], wishes: dict[str, Any]) -> None:
    steps = _steps(prediction["skyline"])
    names = [name for name in RESOURCES if name != "gpus" or any(amounts.get(name) for _, amounts in steps)]
    of = "of what was used" if prediction["kind"] == "used" else "of what was reserved"
    count = plural(len(prediction["runs"]), "run")
    solver = prediction["solver"]
    print_text(f"{printable(pipeline)}: all jobs of the next run together, from {count} (solver {solver}, {of})")
    print()
    _print_steps(steps, names)
    print()
    rows = [*_last_run(app, pipeline), (_peak(steps), "planned at the peak")]
    rows += _advice(app, pipeline, wishes)
    columns = [Column(""), *(Column(TITLES[name], True) for name in names), Column("")]
    print_table(columns, [["", *(_amount(name, amounts) for name in names), text] for amounts, text in rows])
    for line in [*trust(prediction, names), *coarse(prediction)]:
        print_text(line, "  ")


def _steps(skyline: dict[str, Any]) -> list[tuple[int, dict[str, float]]]:
    return [(int(time), amounts) for time, amounts in skyline["resourceAllocation"].items()]


def _peak(steps: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
    return {name: max((amounts.get(name, 0) for _, amounts in steps), default=0) for name in RESOURCES}


def _print_steps(steps: list[tuple[int, dict[str, float]]], names: list[str]) -> None:
    pairs = list(pairwise(steps))
    columns = [Column("FROM", True), Column("UNTIL", True), *(Column(TITLES[name], True) for name in names)]
    rows = [
        [span(start), span(end), *(_amount(name, amounts) for name in names)]
        for (start, amounts), (end, _) in pairs[:MAX_STEPS]
    ]
    print_table(columns, rows)
    if len(pairs) > MAX_STEPS:
        print(f"... and {plural(len(pairs) - MAX_STEPS, 'more step')}: --text draws them, --json lists them")


def _amount(name: str, amounts: dict[str, float]) -> str:
    value = amounts.get(name)
    if value is None:
        return "-"
    return format_size(round(value)) if name == "memory" else f"{round(value, 2):g}"


Row = tuple[dict[str, float], str]


def _last_run(app: App, pipeline: str) -> list[Row]:
    """What the last run reserved, and what it used of that."""
    runs = app.call(calls.pipeline(pipeline))["runs"]
    last = max(runs, key=lambda run: run["start"])
    rows = [(last["allocated"], f"reserved by the last run, {printable(last['run'])}, at its peak")]
    return [*rows, (last["used"], "used by it at its peak")] if last["used"] is not None else rows


def _advice(app: App, pipeline: str, wishes: dict[str, Any]) -> list[Row]:
    """What a limit should be: peaks of what runs really used, which no later moment makes up for."""
    if wishes["solver"] is not None:
        return []
    try:
        limit = app.call(calls.prediction(pipeline, None, {"solver": "peak", "kind": "used"}))
    except ApiError as error:
        if error.status == _UNPROCESSABLE:  # too few runs were measured
            return []
        raise
    return [(_peak(_steps(limit["skyline"])), f"needed at most, by what {plural(len(limit['runs']), 'run')} used")]


def trust(prediction: dict[str, Any], names: list[str]) -> list[str]:
    """How sure it is, and what it saves."""
    confidence = prediction["confidence"]
    if confidence is None:
        return []
    reserved = {name: confidence["needed"].get(name, 0) for name in names}
    known = [name for name in names if reserved[name] > 0]
    lines = ["", f"how sure: {_expected(confidence, known)}"]
    error = confidence["left_out_error"]
    if error:
        off = ", ".join(f"{TITLES[name].lower()} by {_percent(error[name])}" for name in known if name in error)
        left = plural(confidence["left_out_runs"], "run")
        lines.append(f"tested on {left}, each left out in turn: off {off}")
    if prediction["ignored"]:
        held = plural(len(prediction["ignored"]), "run")
        lines.append(
            f"{held} held nothing, or {'was' if len(prediction['ignored']) == 1 else 'were'} not measured: left out"
        )
    return lines


def coarse(prediction: dict[str, Any]) -> list[str]:
    """A warning where steps are so long that most of what the plan has too much is due to them."""
    interval, lengths = prediction["settings"].get("interval"), prediction["skyline"]["resourceAllocation"]
    steps = max(map(int, lengths), default=0) / interval if interval else _MANY_STEPS
    if not 0 < steps < _MANY_STEPS or interval == 1:
        return []
    return [f"the plan is made in steps of {span(interval)}, long for such runs: --interval 1 is closer"]


def _expected(confidence: dict[str, Any], names: list[str]) -> str:
    parts = [
        f"{TITLES[name].lower()} {_percent(confidence['over'].get(name, 0) / confidence['needed'][name])} too much, "
        f"{_percent(confidence['under'].get(name, 0) / confidence['needed'][name])} too little"
        for name in names
    ]
    return "; ".join(parts) + f" for an average one of {plural(confidence['runs'], 'run')}"


def _percent(part: float) -> str:
    """Of what is hardly used at all, anything is thousands of percent: no figure to read anything from."""
    return f"{part:.0%}" if part < _MUCH else f"over {_MUCH:.0%}"


# -- lists -----------------------------------------------------------------------------------------------------------


@click.command("pipelines")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def pipelines_command(app: App, /, name: str | None, as_json: bool) -> None:
    """List your pipelines, or the runs of one."""
    if name is None:
        _list(app, as_json)
    else:
        _list_runs(app, name, as_json)


def _list(app: App, as_json: bool) -> None:
    found = app.call(calls.pipelines())["pipelines"]
    if as_json:
        print_json("pipelines", pipelines=found)
        return
    if not found:
        note("no pipeline has a history yet: mark jobs with 'retz run --pipeline NAME -- ...'")
    print_table([Column("PIPELINE", flexible=True, least=16), Column("RUNS", True)],
                [[each["name"], str(each["runs"])] for each in found])  # fmt: skip


def _list_runs(app: App, name: str, as_json: bool) -> None:
    import time

    answer = app.call(calls.pipeline(name))
    if as_json:
        print_json("pipelines", **answer)
        return
    runs = sorted(answer["runs"], key=lambda run: seconds_of(run["start"]) or 0.0)
    gpus = any(run["allocated"].get("gpus") for run in runs)
    columns = [
        Column("RUN", flexible=True, least=16), Column("AGE", True), Column("TIME", True), Column("MEMORY", True),
        Column("USED", True), Column("CPUS", True), Column("USED", True), *([Column("GPUS", True)] if gpus else []),
    ]  # fmt: skip
    print_table(columns, [_run_row(run, time.time(), gpus) for run in runs])


def _run_row(run: dict[str, Any], now: float, gpus: bool) -> list[str]:
    used = run["used"] or {}
    pairs = [_amount(name, amounts) for name in ("memory", "vcores") for amounts in (run["allocated"], used)]
    more = [_amount("gpus", run["allocated"])] if gpus else []
    return [run["run"], ago(run["start"], now), span(run["duration_s"]), *pairs, *more]
