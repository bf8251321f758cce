"""``retz``: the command line. Commands are loaded when they are called, so that each starts fast."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from retz import __version__

# name -> (module, one line of help): the line is here so that --help loads no command. A test compares them.
COMMANDS = {
    "run": ("run", "Run a command as a job: its output and exit code as if it ran here."),
    "schedule": ("schedule", "Submit a job, or one per line of a file, and print the id."),
    "list": ("listing", "List jobs: the live ones, unless told otherwise."),
    "get-job": ("jobs", "Show everything about jobs."),
    "why": ("jobs", "Say why a job waits, or why it ended."),
    "eta": ("eta", "Say when jobs start and end."),
    "plan": ("eta", "Say when and where a job or an array would run, and submit nothing."),
    "eff": ("eff", "Say how well ended jobs used what they asked for, the worst first."),
    "watch": ("jobs", "Print every change of jobs as it happens."),
    "kill": ("change", "End jobs."),
    "killall": ("change", "End all live jobs that match."),
    "update": ("change", "Change the priority of queued jobs."),
    "hold": ("change", "Keep queued jobs from being started."),
    "release": ("change", "Let held jobs be started again."),
    "resubmit": ("change", "Submit jobs again, as they were."),
    "drain": ("queue", "Let running jobs end and start no more, pause, or resume."),
    "get-file": ("files", "Print, follow or download a file of a job, its output for instance."),
    "list-files": ("files", "List the files of a job."),
    "predict": ("predict", "Say what the next run of a pipeline will need."),
    "pipelines": ("predict", "List your pipelines, or the runs of one."),
    "planner": ("planner", "Try a planner of your own: docs/planners.md says how to write one."),
    "load-app": ("apps", "Register an application: an environment that jobs run in."),
    "get-app": ("apps", "Show an application."),
    "list-app": ("apps", "List your applications."),
    "admin": ("admin", "Users, usage, and everybody's jobs: for administrators."),
    "config": ("settings", "Show the configuration, and where each value comes from."),
    "ping": ("queue", "Ask whether the server answers."),
    "status": ("queue", "Show the queue at a glance."),
    "completion": ("completion", "Print the completion script of a shell."),
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
        module = import_module(f"retz.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_") + "_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest the nearest."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, 1)
            hint = f"did you mean 'retz {near[0]}'?" if near else "'retz --help' lists the commands"
            ctx.fail(f"no command {name!r}: {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="retz")
@click.option("-C", "--config", "config_file", metavar="FILE", help="Read this configuration file instead.")
@click.option("--server", metavar="URI", help="Talk to this server (key retz.server.uri).")
@click.pass_context
def cli(context: click.Context, config_file: str | None, server: str | None) -> None:
    """Retz, a batch-job queue: 'retz run -- python train.py' runs a job and shows its output."""
    from .app import App

    context.obj = App(config_file, server)


def main(arguments: list[str] | None = None) -> Any:
    """Entry point. Never returns: exits with the codes of docs/cli.md."""
    from .errors import guarded

    words = sys.argv[1:] if arguments is None else arguments
    sys.exit(guarded(cli, words or ["--help"]))
