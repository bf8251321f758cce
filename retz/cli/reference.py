"""The reference of all commands in docs/cli.md, made from their real ``--help``.

``python -m retz.cli.reference [docs/cli.md]`` brings it up to date; a test fails when it is not.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from . import COMMANDS, cli
from .admin import ADMIN_COMMANDS

BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"
WIDTH = 100


def help_of(words: list[str]) -> str:
    """Return what ``retz WORDS --help`` prints, on lines of a fixed width."""
    context = click.Context(cli, info_name="retz", max_content_width=WIDTH, terminal_width=WIDTH)
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group), word
        found = command.get_command(context, word)
        assert found is not None, word
        command = found
        context = click.Context(
            command, info_name=word, parent=context, max_content_width=WIDTH, terminal_width=WIDTH,
            help_option_names=["-h", "--help"],
        )  # fmt: skip
    return command.get_help(context)


def reference() -> str:
    """Return the part between the markers."""
    lines = [[name] for name in COMMANDS] + [["admin", name] for name in ADMIN_COMMANDS] + [["planner", "test"]]
    sections = [f"### retz {' '.join(words)}\n\n```text\n{help_of(words)}\n```\n" for words in lines]
    return f"{BEGIN}\n\n```text\n{help_of([])}\n```\n\n" + "\n".join(sections) + f"\n{END}"


def updated(text: str) -> str:
    """Return a document with its reference made anew.

    Raises:
        ValueError: the markers are missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document needs the lines {BEGIN} and {END}")
    return before + reference() + after


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/cli.md")
    path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")
