"""``retz-tui``: start the window."""

from __future__ import annotations

from pathlib import Path

import click

from retz import __version__


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="retz-tui")
@click.option("-C", "--config", "config_file", type=click.Path(dir_okay=False), help="Read this file.")
@click.option("--server", metavar="URL", help="The server to look at.")
@click.option("--readonly", is_flag=True, help="No command that changes anything exists.")
@click.option("--theme", default="retz-dark", show_default=True, help="retz-dark, retz-light or one of Textual's.")
def main(config_file: str | None, server: str | None, readonly: bool, theme: str) -> None:
    """Look at a Retz server in the terminal, and look after it."""
    from retz.config import ConfigError, load_client

    try:
        config = load_client({"retz.server.uri": server}, file=None if config_file is None else Path(config_file))
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    from .app import RetzApp

    RetzApp(config, readonly=readonly, theme=theme).run()


if __name__ == "__main__":
    main()
