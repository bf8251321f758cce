"""``retz admin``: the group of what only administrators may do. Its commands' modules are loaded when called."""

from __future__ import annotations

from importlib import import_module

import click

# name -> (module, one line of help), as in retz.cli.
ADMIN_COMMANDS = {
    "create-user": ("accounts", "Make a user, and print their configuration."),
    "create-users": ("accounts", "Make many users, each with a configuration file."),
    "list-user": ("accounts", "List all users."),
    "get-user": ("accounts", "Show a user."),
    "set-user": ("accounts", "Change what is known of a user, or what they may do."),
    "enable-user": ("accounts", "Let a user in again."),
    "disable-user": ("accounts", "Keep a user out, at once."),
    "rotate-secret": ("accounts", "Give a user a new secret; the old one is refused at once."),
    "usage": ("accounting", "Say who used what: the last week, unless told otherwise."),
    "audit": ("accounting", "Show what administrators did."),
    "gc": ("accounting", "Remove what ended jobs left."),
    "jobs": ("everybody", "List the jobs of all users."),
    "kill": ("everybody", "End jobs of any user."),
}


class AdminGroup(click.Group):
    """Imports a command's module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(ADMIN_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, None if there is none of that name."""
        if cmd_name not in ADMIN_COMMANDS:
            return None
        module = import_module(f"retz.cli.{ADMIN_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_") + "_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in ADMIN_COMMANDS.items()])


@click.group("admin", cls=AdminGroup)
def admin_command() -> None:
    """Users, usage, and everybody's jobs: for administrators."""
