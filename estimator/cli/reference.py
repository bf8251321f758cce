"""The reference of all commands in docs/estimator-cli.md, made from their real ``--help``.

``python -m estimator.cli.reference [docs/estimator-cli.md]`` brings it up to date; a test fails when it is not.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from . import COMMANDS, cli

BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"
WIDTH = 100


def help_of(name: str = "") -> str:
    """What ``retz-estimator NAME --help`` prints, on lines of a fixed width."""
    shape = {"max_content_width": WIDTH, "terminal_width": WIDTH, "help_option_names": ["-h", "--help"]}
    context = click.Context(cli, info_name="retz-estimator", **shape)  # type: ignore[arg-type]
    if not name:
        return cli.get_help(context)
    command = cli.get_command(context, name)
    assert command is not None, name
    return command.get_help(click.Context(command, info_name=name, parent=context, **shape))  # type: ignore[arg-type]


def updated(text: str) -> str:
    """A document with the part between the markers made anew.

    Raises:
        ValueError: the markers are missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document needs the lines {BEGIN} and {END}")
    sections = "\n".join(f"### retz-estimator {name}\n\n```text\n{help_of(name)}\n```\n" for name in COMMANDS)
    return f"{before}{BEGIN}\n\n```text\n{help_of()}\n```\n\n{sections}\n{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/estimator-cli.md")
    path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")
