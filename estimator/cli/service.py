"""``retz-estimator serve | start | stop | status``: the REST service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from ..config import EstimatorConfig
from .app import App

Command = TypeVar("Command", bound=Callable[..., Any])


def _serving(command: Command) -> Command:
    options = [
        click.option("--port", type=click.IntRange(0, 65_535), help="0 takes any free one.  [default: 9998]"),
        click.option("--bind", metavar="ADDRESS", help="Listen there: the routes are unsigned.  [default: 127.0.0.1]"),
        click.option(
            "--logs", "log_directories", multiple=True, metavar="DIR",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="POST translator/PATH may read logs below it; may be repeated.",
        ),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _changed(app: App, **wishes: Any) -> EstimatorConfig:
    return replace(app.config, **{name: value for name, value in wishes.items() if value not in (None, ())})


@click.command("serve")
@_serving
@click.pass_obj
def serve_command(app: App, port: int | None, bind: str | None, log_directories: tuple[Path, ...]) -> int:
    """Serve the REST interface until interrupted.

    Hadoop's routes, and more, under /resourceestimator.
    """
    from ..daemon import serve

    return serve(_changed(app, port=port, bind=bind, log_directories=log_directories))


@click.command("start")
@_serving
@click.pass_obj
def start_command(app: App, port: int | None, bind: str | None, log_directories: tuple[Path, ...]) -> int:
    """Start the REST service in the background.

    Returns when it answers. Its log lies in the store.
    """
    from ..daemon import start

    return start(_changed(app, port=port, bind=bind, log_directories=log_directories))


@click.command("stop")
@click.pass_obj
def stop_command(app: App) -> int:
    """Stop the service that start began."""
    from ..daemon import stop

    return stop(app.config)


@click.command("status")
@click.pass_obj
def status_command(app: App) -> int:
    """Say whether the service runs, and where.

    The exit code is 0 if it runs and answers, else 3.
    """
    from ..daemon import status

    return status(app.config)
