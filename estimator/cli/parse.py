"""``retz-estimator parse``: logs into history, and what became of them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..config import load_class
from .app import App
from .errors import Refused
from .output import note, printable

if TYPE_CHECKING:  # it loads numpy
    from ..translator.base import Progress, Report

_SHOWN = 5
"""Bad lines, and pipelines, that are named."""


@click.command("parse")
@click.argument("logs", metavar="LOG...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-f", "--format", "format_name", metavar="NAME", help="native (default), rm, retz, or an own class.")
@click.option("--strict", is_flag=True, help="Stop at the first line that cannot be understood.")
@click.pass_obj
def parse_command(app: App, logs: tuple[Path, ...], format_name: str | None, strict: bool) -> None:
    """Read logs of past runs into the history.

    LOG is a file, plain or gzip, or a directory of such files, read in the order of their names. Formats: native
    (one job per line), rm (the log of YARN's ResourceManager), retz (jobs that a Retz queue exported).

    Lines that cannot be understood are counted and shown, the others are used. To read a log again does no harm.
    """
    from ..translator.base import LogParser, SingleLineParser
    from ..translator.reading import translate

    parser = load_class(format_name or app.config.line_parser, SingleLineParser)  # type: ignore[type-abstract]
    reader = load_class(app.config.log_parser, LogParser)  # type: ignore[type-abstract]
    with _progress(logs) as progress:
        report = translate(
            logs,
            app.store,
            parser=parser(app.config.settings.interval),
            log_parser=reader(),
            strict=strict,
            progress=progress,
        )
    _tell(report, format_name or app.config.line_parser)


@contextlib.contextmanager
def _progress(logs: tuple[Path, ...]) -> Iterator[Progress | None]:
    if not sys.stderr.isatty():
        yield None
        return
    size = sum(_size(path) for path in logs)
    with click.progressbar(length=max(size, 1), label="parsing", file=sys.stderr, width=30) as bar:
        yield bar.update


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _tell(report: Report, format_name: str) -> None:
    for problem in report.problems[:_SHOWN]:
        note(f"retz-estimator: {problem}")
    if report.bad_lines > _SHOWN:
        note(f"retz-estimator: ... and {report.bad_lines - _SHOWN} more bad lines")
    if not report.jobs:
        others = ", ".join(name for name in ("native", "rm", "retz") if name != format_name)
        raise Refused(
            f"no job in {_count(report.lines, 'line')} of format {format_name}, {report.bad_lines} of them bad:"
            f" is it another format ({others})? say --format"
        )
    print(", ".join(_figures(report)))
    known = sum(report.duplicates.values())
    if known:
        note(f"{_count(known, 'job')} known before, left as {'it was' if known == 1 else 'they were'}")
    _tell_next(report)


def _figures(report: Report) -> list[str]:
    pipelines = {run.pipeline for run in report.runs}
    figures = [
        _count(len(report.runs), "run"), f"{_count(len(pipelines), 'pipeline')}", _count(report.jobs, "job"),
        _count(report.bad_lines, "bad line") + f" of {report.lines}",
    ]  # fmt: skip
    if report.unfinished:
        figures.append(f"{_count(report.unfinished, 'job')} not ended in this log")
    if report.nameless:
        figures.append(f"{_count(report.nameless, 'job')} whose name is not like Pipeline-Run")
    return figures


def _tell_next(report: Report) -> None:
    names = list(dict.fromkeys(run.pipeline for run in report.runs))
    shown = ", ".join(printable(name) for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    what = _quoted(names[0]) if len(names) == 1 else "PIPELINE"
    note(f"pipelines: {shown}")
    note(f"next: retz-estimator predict {what}, or plot {what}")


def _quoted(name: str) -> str:
    from shlex import quote

    return quote(printable(name))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
