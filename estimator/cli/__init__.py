"""``retz-estimator``: the command line. Commands are loaded when they are called, so that each starts fast."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

import click

from .. import __version__

# name -> (module, one line of help): the line is here so that --help loads no command. A test compares them.
COMMANDS = {
    "parse": ("parse", "Read logs of past runs into the history."),
    "history": ("history", "List pipelines, the runs of one, or the steps of a run."),
    "predict": ("predict", "Say what the next run of a pipeline will need."),
    "plot": ("plot", "Draw past runs, the plan, and what a fixed request would reserve."),
    "backtest": ("backtest", "Replay the history: how good would each solver have been?"),
    "export": ("export", "Print prediction and history as JSON or CSV, or a YARN reservation."),
    "forget": ("forget", "Delete a run, or a pipeline with its prediction."),
    "sample": ("sample", "Print a log of nine runs to try things with."),
    "serve": ("service", "Serve the REST interface until interrupted."),
    "start": ("service", "Start the REST service in the background."),
    "stop": ("service", "Stop the service that start began."),
    "status": ("service", "Say whether the service runs, and where."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and imports a command's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"{__name__}.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest the nearest."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, 1)
            hint = f"did you mean 'retz-estimator {near[0]}'?" if near else "'retz-estimator --help' lists the commands"
            ctx.fail(f"no command {name!r}: {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="retz-estimator")
@click.option(
    "--store",
    metavar="DIR",
    envvar="RETZ_ESTIMATOR_STORE",
    show_envvar=True,
    help="Where history and predictions are kept.  [default: ~/.local/share/retz-estimator]",
)
@click.option("-C", "--config", "config_file", metavar="FILE", help="Read this configuration, TOML or Hadoop's XML.")
@click.pass_context
def cli(context: click.Context, store: str | None, config_file: str | None) -> None:
    """Past runs of recurring pipelines into the needs of the next.

    \b
    Three commands from a log to a picture:
      retz-estimator parse --format rm yarn-resourcemanager.log
      retz-estimator history
      retz-estimator plot PIPELINE
    """
    from .app import App

    context.obj = App(store, config_file)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point: exits with 0, 1 (refused), 2 (usage), 130 (interrupted) or 141 (the reader has gone)."""
    from .errors import guarded

    words = sys.argv[1:] if arguments is None else arguments
    sys.exit(guarded(cli, words or ["--help"]))
