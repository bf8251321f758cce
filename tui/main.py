"""``retz-tui``: start the window."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retz import __version__

if TYPE_CHECKING:
    from retz.config import ClientConfig

    from .app import RetzApp


class Size(click.ParamType[tuple[int, int]]):
    """``120x40``."""

    name = "WxH"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Columns and lines."""
        width, _, height = str(value).partition("x")
        if not (width.isdecimal() and height.isdecimal() and 20 <= int(width) <= 1000 and 8 <= int(height) <= 500):
            self.fail(f"{value!r} is no size: say 120x40", param, ctx)
        return int(width), int(height)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="retz-tui")
@click.option("-C", "--config", "config_file", type=click.Path(dir_okay=False), help="Read this file.")
@click.option("--server", metavar="URL", help="The server to look at.")
@click.option("--readonly", is_flag=True, help="No command that changes anything exists.")
@click.option(
    "--theme", default="retz-dark", show_default=True, help="retz-dark, retz-light, retz-mono or one of Textual's."
)
@click.option("--once", metavar="[SCREEN]", is_flag=False, flag_value="queue", help="Print one frame as text and exit.")
@click.option("--size", type=Size(), help="Of that frame, as 120x40 [default: the terminal's].")
@click.option("--demo", is_flag=True, help="Look at a temporary server that has something to do.")
def main(
    config_file: str | None,
    server: str | None,
    readonly: bool,
    theme: str,
    once: str | None,
    size: tuple[int, int] | None,
    demo: bool,
) -> None:
    """Look at a Retz server in the terminal, and look after it."""
    with contextlib.ExitStack() as stack:
        config = _configuration(config_file, server)
        if demo:
            config = stack.enter_context(_demo(config))
        app = _app(config, readonly, theme)
        if once is not None:
            _print_once(app, once, size or shutil.get_terminal_size((120, 40)))
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise click.ClickException("there is no terminal to draw on: '--once' prints one frame as text")
        app.run()
        sys.exit(app.return_code)


def _print_once(app: RetzApp, screen: str, size: tuple[int, int]) -> None:
    from .once import OnceError, print_once

    try:
        print_once(app, screen, size)
    except OnceError as error:
        raise click.ClickException(str(error)) from None


@contextlib.contextmanager
def _demo(config: ClientConfig) -> Iterator[ClientConfig]:
    from .demo import DemoFailed, serving

    try:
        with serving(config) as there:
            yield there
    except DemoFailed as error:
        raise click.ClickException(str(error)) from None


def _configuration(config_file: str | None, server: str | None) -> ClientConfig:
    from retz.config import ConfigError, load_client

    try:
        return load_client({"retz.server.uri": server}, file=None if config_file is None else Path(config_file))
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


def _app(config: ClientConfig, readonly: bool, theme: str) -> RetzApp:
    from retz.client import RetzError

    from .app import RetzApp
    from .keymap import KeymapError
    from .themes import known

    if theme not in known():
        raise click.ClickException(f"there is no theme {theme!r}: say one of {', '.join(known())}")
    try:
        return RetzApp(config, readonly=readonly, theme=theme)
    except (KeymapError, RetzError) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
