"""``retz admin jobs``, ``kill``: the jobs of all users."""

from __future__ import annotations

from typing import Any

import click

from retz.client import calls

from .app import App
from .change import chosen_by, report, wait_killed
from .listing import list_command, show_list
from .parameters import Ids, json_option


@click.command("jobs", params=list_command.params)
@click.pass_obj
def jobs_command(
    app: App, /, ids: tuple[list[int | str], ...], limit: int | None, watch: bool, as_json: bool, **options: Any
) -> None:
    """List the jobs of all users.

    Takes what 'retz list' takes; without --user it means everybody.
    """
    options["user"] = options["user"] or "*"
    show_list(app, ids, options, limit, watch, as_json, kind="admin jobs")


@click.command("kill")
@click.argument("ids", nargs=-1, type=Ids())
@click.option("--user", metavar="KEY", help="Of this user [default: everybody].")
@click.option("-t", "--tag", "tags", multiple=True, metavar="TAG", help="Having this tag. Repeatable: all must hold.")
@click.option("-A", "--appname", metavar="NAME", help="Of this application.")
@click.option("-N", "--name", metavar="TEXT", help="Of this name.")
@click.option("--text", metavar="TEXT", help="With this in name or command.")
@click.option("--state", "--states", "states", metavar="LIST", help="In these states [default: LIVE].")
@click.option("--all", "everything", is_flag=True, help="All live jobs, of everybody or of --user.")
@click.option("--wait", is_flag=True, help="Wait until they have ended.")
@json_option
@click.pass_obj
def kill_command(
    app: App, /, ids: tuple[list[int | str], ...], wait: bool, as_json: bool, everything: bool, **options: Any
) -> int:
    """End jobs of any user: by id, or all live ones that match."""
    numbers = app.resolve(tuple(number for group in ids for number in group))
    chosen = chosen_by(options)
    if bool(numbers) == bool(chosen or everything):
        raise click.UsageError("which jobs? give ids; or --tag, --name, --appname, --text, --state, or --all")
    if numbers:
        answer = app.call(calls.many("kill", ids=numbers))
    else:
        wanted = {"state": ["LIVE"], **chosen, "user": options["user"] or "*"}
        answer = app.call(calls.many("kill", filter=wanted))
    if wait:
        wait_killed(app, answer)
    if not as_json and not answer["results"]:
        print("no live job matches")
    return report("admin kill", answer, as_json)
