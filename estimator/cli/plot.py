"""``retz-estimator plot``: the picture, as a file or in the terminal."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any, Literal

import click

from .app import App, solver_options
from .errors import Refused
from .output import coloured, note, unicode

_SUFFIXES = (".png", ".svg", ".pdf")


@click.command("plot")
@click.argument("pipeline")
@click.option("-o", "--output", metavar="FILE", help="PNG, SVG or PDF by its name; '-' is a PNG to stdout.")
@click.option("--resource", default="memory", show_default=True, help="memory, vcores, gpus, ...")
@click.option("--text", is_flag=True, help="Draw in the terminal instead.")
@click.option("--width", type=click.IntRange(20, 1000), help="Columns of --text.  [default: the terminal's]")
@click.option("--height", type=click.IntRange(6, 500), help="Lines of --text.")
@click.option("--charset", type=click.Choice(["braille", "quadrant", "ascii"]), help="What --text draws with.")
@solver_options
@click.pass_obj
def plot_command(
    app: App,
    /,
    pipeline: str,
    output: str | None,
    resource: str,
    text: bool,
    width: int | None,
    height: int | None,
    charset: Literal["braille", "quadrant", "ascii"] | None,
    **wishes: Any,
) -> None:
    """Draw past runs, the plan, and what a fixed request would reserve.

    Without -o the file is called as the pipeline, here, with the letters and digits of its name.
    """
    if text and output is not None:
        raise click.UsageError("--text draws in the terminal; leave out -o")
    place = output or default_file(pipeline)
    suffix = ".png" if text else check_suffix(place)
    runs, prediction = app.predict(pipeline, wishes)
    if text:
        from ..drawing import drawing, text_picture

        size = shutil.get_terminal_size((100, 30))
        picture = text_picture(
            drawing(runs, prediction, resource),
            width=width or size.columns,
            height=height or min(max(size.lines - 2, 12), 40),
            colour=coloured(sys.stdout),
            charset=charset or ("braille" if unicode(sys.stdout) else "ascii"),
        )
        print(picture, end="")
        return
    from ..plot import plot_prediction

    write(place, plot_prediction(runs, prediction, resource=resource, format=suffix[1:]))


def default_file(pipeline: str) -> str:
    """A file name of the safe characters of a pipeline's name."""
    safe = "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "_" for char in pipeline)
    return f"{safe.strip('.-')[:100] or 'pipeline'}.png"


def check_suffix(place: str) -> str:
    """The suffix of an image's file.

    Raises:
        UsageError: it is none of those that can be drawn.
        Refused: it is ``-``, and stdout is a terminal.
    """
    if place == "-":
        if sys.stdout.isatty():
            raise Refused("an image would only disturb the terminal: give a file with -o, or --text")
        return ".png"
    suffix = Path(place).suffix.lower()
    if suffix not in _SUFFIXES:
        raise click.UsageError(f"{place}: give a file that ends in {', '.join(_SUFFIXES)}")
    return suffix


def write(place: str, content: bytes) -> None:
    """Write a file, or stdout for ``-``.

    Raises:
        OSError: it cannot be written.
    """
    if place == "-":
        sys.stdout.buffer.write(content)
        return
    Path(place).write_bytes(content)
    note(f"wrote {place}")
