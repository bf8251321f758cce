"""``retz admin create-user`` and its like: who may use the queue."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from retz.client import calls
from retz.client.errors import ApiError
from retz.config import write_client_config
from retz.config_keys import toml_value

from .app import App
from .errors import CliError
from .output import Column, print_json, print_table, to_seconds
from .parameters import json_option
from .people import Person, existing, path_of, read, refused, told, wrong_names, wrong_texts

MAX_USERS = 1000

F = TypeVar("F", bound=Callable[..., Any])

unix_user_option = click.option(
    "--unix-user", metavar="NAME", help="Whose rights their jobs have, where the server runs as root."
)


def key_option(function: F) -> F:
    """The user's key as a word, or as Retz's ``-id``; the command gets both and calls :func:`_one`."""
    function = click.option("-id", "--user-id", "key_option", metavar="KEY", help="The same, as Retz writes it.")(
        function
    )
    return click.argument("key", required=False)(function)


def _one(key: str | None, option: str | None) -> str:
    found = key or option
    if not found or (key and option and key != option):
        raise click.UsageError("which user? give one access key; 'retz admin list-user' shows them")
    return found


@click.command("create-user")
@click.option("--info", default="", metavar="TEXT", help="Who it is, for people.")
@click.option("--admin", is_flag=True, help="Make an administrator.")
@unix_user_option
@json_option
@click.pass_obj
def create_user_command(app: App, /, info: str, admin: bool, unix_user: str | None, as_json: bool) -> None:
    """Make a user, and print their configuration.

    Key and secret are random. The secret is shown this once: what is printed belongs into the user's retz.toml.
    """
    (user,) = app.call(calls.create_users([{"info": info, "admin": admin, "unix_user": unix_user}]))["users"]
    if as_json:
        print_json("admin create-user", user=user)
    else:
        print(_configuration(app, user))


def _configuration(app: App, user: dict[str, Any]) -> str:
    """The user's retz.toml."""
    lines = [
        f"retz.server.uri = {toml_value(app.config.server_uri)}",
        f"retz.access.key = {toml_value(user['key'])}",
        f"retz.access.secret = {toml_value(user['secret'])}",
    ]
    return "\n".join(lines)


@click.command("create-users")
@click.argument("number", required=False, type=click.IntRange(1, MAX_USERS))
@click.option(
    "--file",
    "file",
    type=click.File(encoding="utf-8"),
    metavar="LIST",
    help="One user per line: NAME (their info), or NAME:UNIX_USER; - is stdin.",
)
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), default=Path(), metavar="DIR",
    help="Where the configuration files go [default: here].",
)  # fmt: skip
@click.option(
    "--unix-user", metavar="NAME", help="Whose rights their jobs have; of a list, of those whose line names nobody."
)
@json_option
@click.pass_obj
def create_users_command(
    app: App, /, number: int | None, file: Any, output: Path, unix_user: str | None, as_json: bool
) -> None:
    """Make many users, each with a configuration file retz-NAME.toml: so many, or one per line of a file.

    With --json the users are printed, secrets included, and no file is written.
    """
    if (number is None) == (file is None):
        raise click.UsageError("how many? give a number, or --file LIST with a line for each")
    if file is None:
        people = [Person(place, "", unix_user) for place in range(1, (number or 0) + 1)]
    else:
        people = _listed(file, unix_user, None if as_json else output)
    wanted = [{"info": person.info, "unix_user": person.unix_user} for person in people]
    try:
        users = app.call(calls.create_users(wanted))["users"]
    except ApiError as error:
        raise error if file is None else refused(people, error) from None
    if as_json:
        print_json("admin create-users", users=users)
        return
    for person, user in zip(people, users, strict=True):
        path = output / f"retz-{user['key']}.toml" if file is None else path_of(person, output)
        write_client_config(path, app.config.server_uri, user["key"], user["secret"])
        print(f"{user['key']}  {path}")


def _listed(file: Iterable[str], unix_user: str | None, output: Path | None) -> list[Person]:
    """The users of a list, checked before one is made whose secret would then be lost.

    Args:
        output: Where their files are to be; None if they get none.

    Raises:
        click.UsageError: lines are wrong: no name, no file name, there twice.
        CliError: files exist.
    """
    try:
        people = read(file, unix_user)
    except UnicodeDecodeError as error:
        raise click.UsageError(f"--file: not UTF-8 text (byte {error.start})") from None
    if not 1 <= len(people) <= MAX_USERS:
        raise click.UsageError(f"{len(people)} users: make 1 to {MAX_USERS} at a time")
    wrong = wrong_texts(people) or ([] if output is None else wrong_names(people))
    if wrong:
        raise click.UsageError(told(wrong))
    if output is not None and (there := existing(people, output)):
        raise CliError(told(there))
    return people


@click.command("list-user")
@json_option
@click.pass_obj
def list_user_command(app: App, /, as_json: bool) -> None:
    """List all users."""
    users = app.call(calls.users())["users"]
    if as_json:
        print_json("admin list-user", users=users)
        return
    columns = [
        Column("KEY"),
        Column("ENABLED"),
        Column("ADMIN"),
        Column("UNIX USER", optional=True),
        Column("CREATED", drop=1),
        Column("INFO", flexible=True, optional=True, least=12),
    ]
    print_table(columns, [_row(user) for user in users])


def _row(user: dict[str, Any]) -> list[str]:
    return [
        user["key"],
        "yes" if user["enabled"] else "no",
        "yes" if user["admin"] else "",
        user["unix_user"] or "",
        to_seconds(user["created"]),
        user["info"],
    ]


@click.command("get-user")
@key_option
@json_option
@click.pass_obj
def get_user_command(app: App, /, key: str | None, key_option: str | None, as_json: bool) -> None:
    """Show a user."""
    _show("get-user", app.call(calls.user(_one(key, key_option))), as_json)


@click.command("set-user")
@key_option
@click.option("--info", metavar="TEXT", help="Who it is, for people.")
@click.option("--admin/--no-admin", default=None, help="An administrator or not.")
@click.option("--unix-user", metavar="NAME", help="Whose rights their jobs have; empty text takes it away.")
@json_option
@click.pass_obj
def set_user_command(app: App, /, key: str | None, key_option: str | None, as_json: bool, **fields: Any) -> None:
    """Change what is known of a user, or what they may do."""
    chosen = {name: value for name, value in fields.items() if value is not None}
    if not chosen:
        raise click.UsageError("nothing to change: give --info, --admin, --no-admin or --unix-user")
    _show("set-user", app.call(calls.change_user(_one(key, key_option), chosen)), as_json)


@click.command("enable-user")
@key_option
@json_option
@click.pass_obj
def enable_user_command(app: App, /, key: str | None, key_option: str | None, as_json: bool) -> None:
    """Let a user in again."""
    _show("enable-user", app.call(calls.change_user(_one(key, key_option), {"enabled": True})), as_json)


@click.command("disable-user")
@key_option
@json_option
@click.pass_obj
def disable_user_command(app: App, /, key: str | None, key_option: str | None, as_json: bool) -> None:
    """Keep a user out, at once. Their jobs go on: 'retz admin kill --user KEY --all' ends them."""
    _show("disable-user", app.call(calls.change_user(_one(key, key_option), {"enabled": False})), as_json)


@click.command("rotate-secret")
@key_option
@json_option
@click.pass_obj
def rotate_secret_command(app: App, /, key: str | None, key_option: str | None, as_json: bool) -> None:
    """Give a user a new secret; the old one is refused at once.

    The secret is shown this once: what is printed belongs into the user's retz.toml.
    """
    user = app.call(calls.rotate_secret(_one(key, key_option)))
    if as_json:
        print_json("admin rotate-secret", user=user)
    else:
        print(_configuration(app, user))


def _show(kind: str, user: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(f"admin {kind}", user=user)
    else:
        print(json.dumps(user, indent=2, ensure_ascii=False))
