"""``retz config``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from retz.model.units import span

from .app import App
from .output import Column, note, print_json, print_table
from .parameters import json_option


@click.command("config")
@click.option("--origin", is_flag=True, help="Show where each value comes from.")
@click.option("--all", "everything", is_flag=True, help="The server's keys too.")
@json_option
@click.pass_obj
def config_command(app: App, /, origin: bool, everything: bool, as_json: bool) -> None:
    """Show the configuration, and where each value comes from.

    Option, then RETZ_* variable, then the project's retz.toml, then the user's, then the default. Secrets
    are stars.
    """
    settings = app.config.settings
    shown = [s for s in settings.values.values() if everything or s.key.scope != "server"]
    if as_json:
        values = [{"key": s.key.name, "value": _plain(s.shown), "origin": str(s.origin)} for s in shown]
        print_json("config", settings=values, notes=list(settings.notes))
        return
    columns = [
        Column("KEY"),
        Column("VALUE", flexible=True),
        *([Column("ORIGIN")] if origin else []),
    ]
    print_table(columns, [[s.key.name, _text(s.key.kind, s.shown), *([_origin(s)] if origin else [])] for s in shown])
    for remark in () if app.old_file else settings.notes:
        note(f"retz: {remark}")


def _origin(setting: Any) -> str:
    """Where it comes from; a file below the home directory from ``~``, so that it fits a line."""
    return str(setting.origin).replace(f" {Path.home()}/", " ~/", 1)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return value if value is None or isinstance(value, str | int | float | bool | dict) else str(value)


def _text(kind: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if kind == "duration":
        return span(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return f"{value[0]}-{value[1] - 1}"
    return str(value) if value != {} else "-"
