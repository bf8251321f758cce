"""Shell completion: the scripts, and job ids within a tenth of a second or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from .errors import CliError

DEADLINE_S = 0.05
"""For the connection and for the answer, each: who presses TAB does not wait longer than 100 ms."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    For bash: retz completion bash > ~/.local/share/bash-completion/completions/retz
    """
    maker = get_completion_class(shell)
    if maker is None:
        raise CliError(f"this version of click cannot complete for {shell}")
    click.echo(maker(context.find_root().command, {}, "retz", "_RETZ_COMPLETE").source())


def complete_ids(context: click.Context, incomplete: str) -> list[Any]:
    """Return the newest live jobs whose ids begin so, with their names; nothing if the server is slow or away."""
    from retz.client import calls
    from retz.client.errors import RetzError
    from retz.client.retry import Backoff
    from retz.client.transport import Transport
    from retz.config import ConfigError, load_client

    head, comma, start = incomplete.rpartition(",")
    root = context.find_root().params
    try:
        config = load_client({"retz.server.uri": root.get("server")})
        with Transport(replace(config, server_timeout=DEADLINE_S)) as transport:
            jobs = transport.call(calls.jobs({"limit": 100}), Backoff(0, 0))["jobs"]
    except (RetzError, ConfigError):
        return []
    return [
        CompletionItem(f"{head}{comma}{job['id']}", help=f"{job['state'].lower()} {job['name']}".strip())
        for job in jobs
        if str(job["id"]).startswith(start)
    ]
