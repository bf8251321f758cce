"""``retz load-app``, ``get-app``, ``list-app``: environments that jobs run in."""

from __future__ import annotations

import json
from typing import Any

import click

from retz.client import calls

from .app import App
from .output import Column, print_json, print_table, to_seconds
from .parameters import Duration, Size, json_option


@click.command("load-app")
@click.option("-A", "--appname", required=True, metavar="NAME", help="Its name.")
@click.option("-F", "--file", "files", multiple=True, metavar="URI", help="Fetched for every attempt. Repeatable.")
@click.option(
    "-L", "--large-file", "large_files", multiple=True, metavar="URI", help="Fetched once and cached. Repeatable."
)
@click.option("-U", "--user", metavar="NAME", help="Unix user to run as.")
@click.option("--grace-period", type=Duration("s"), metavar="S", help="Seconds between SIGTERM and SIGKILL.")
@click.option(
    "--container", type=click.Choice(["none", "mesos", "docker"]), default="none", help="mesos is Retz's word for none."
)
@click.option("--image", metavar="NAME", help="Docker image.")
@click.option("--docker-volumes", "volumes", multiple=True, metavar="SPEC", help="DRIVER:NAME:PATH[:mode=RO|RW][:K=V].")
@click.option(
    "--predict",
    type=click.Choice(["auto", "off"]),
    default="off",
    help="auto: its jobs of pipelines ask for what past runs used.",
)
@click.option("--predict-floor", type=Size(), metavar="SIZE", help="Least memory that they get then.")
@click.option("--enabled", type=click.BOOL, default=True, help="false refuses new jobs.")
@json_option
@click.pass_obj
def load_app_command(
    app: App, /, appname: str, files: tuple[str, ...], large_files: tuple[str, ...], user: str | None,
    grace_period: float | None, container: str, image: str | None, volumes: tuple[str, ...], enabled: bool,
    predict: str, predict_floor: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Register an application: an environment that jobs run in. An existing one of yours is replaced."""
    if not appname:
        raise click.UsageError("-A: the name is empty")
    if container == "docker" and not image:
        raise click.UsageError("--container docker needs --image")
    if user == "root" and container != "docker":
        raise click.UsageError("-U root is for --container docker only")
    fields = {
        "files": list(files),
        "large_files": list(large_files),
        "user": user,
        "grace_period_s": grace_period or None,
        "container": {
            "type": "docker" if container == "docker" else "none",
            "image": image,
            "volumes": [parse_volume(spec) for group in volumes for spec in group.split(",")],
        },
        "enabled": enabled,
        "predict": predict,
        "predict_floor": predict_floor,
    }
    answer = app.call(calls.put_application(appname, fields))
    if as_json:
        print_json("load-app", application=answer)
    else:
        print(f"Application {appname} has been registered.")


def parse_volume(spec: str) -> dict[str, Any]:
    """Return a volume of ``driver:name:path[:mode=RO|RW][:key=value...]``.

    A part without ``=`` after the name belongs to the name (``nfs:192.168.0.1/:my-nfs``) up to the path.

    Raises:
        click.UsageError: it is not of that form.
    """
    parts = spec.split(":")
    if len(parts) < 3 or not all(parts[:3]) or not all("=" in part for part in parts[3:]):
        raise click.UsageError(f"--docker-volumes {spec!r}: write DRIVER:NAME:PATH[:mode=RO|RW][:KEY=VALUE...]")
    options = dict(part.partition("=")[::2] for part in parts[3:])
    mode = options.pop("mode", "RO")
    if mode not in ("RO", "RW"):
        raise click.UsageError(f"--docker-volumes {spec!r}: mode is RO or RW")
    return {"driver": parts[0], "name": parts[1], "container_path": parts[2], "mode": mode, "options": options}


@click.command("get-app")
@click.argument("name", required=False)
@click.option("-A", "--appname", metavar="NAME", help="The same, as Retz writes it.")
@json_option
@click.pass_obj
def get_app_command(app: App, /, name: str | None, appname: str | None, as_json: bool) -> None:
    """Show an application."""
    wanted = name or appname
    if not wanted:
        raise click.UsageError("which application? give its name")
    answer = app.call(calls.application(wanted))
    if as_json:
        print_json("get-app", application=answer)
    else:
        print(json.dumps(answer, indent=2, ensure_ascii=False))


@click.command("list-app")
@json_option
@click.pass_obj
def list_app_command(app: App, /, as_json: bool) -> None:
    """List your applications."""
    found = app.call(calls.applications())["applications"]
    if as_json:
        print_json("list-app", applications=found)
        return
    columns = [
        Column("NAME", flexible=True, least=16),
        Column("ENABLED"),
        Column("CONTAINER", flexible=True, least=16),
        Column("FILES", True),
        Column("USER", optional=True),
        Column("UPDATED", drop=1),
    ]
    print_table(
        columns,
        [
            [
                a["name"],
                "yes" if a["enabled"] else "no",
                a["container"].get("image") or a["container"]["type"],
                str(len(a["files"]) + len(a["large_files"])),
                a["user"] or "",
                to_seconds(a["updated"] or ""),
            ]
            for a in found
        ],
    )
