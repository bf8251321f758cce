"""``retz-server``: start the server, or look after its data directory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
import signal
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from retz import __version__
from retz.config import ConfigError, write_client_config
from retz.config_server import ServerConfig, load_server
from retz.engine.base import Engine, EngineError
from retz.model.user import User
from retz.store.database import Change, Database, StoreDamaged, StoreLocked

log = logging.getLogger("retz.server")

SWITCH_INTERVAL_S = 0.0005
"""How long a busy loop keeps the interpreter from the journal's writer thread when its fsync is done; Python's
5 ms would be added to every group commit under load."""

GC_THRESHOLDS = (3_000, 2, 130_000)
"""The collector looks at 3 000 new objects at a time (a millisecond on the loop), at most at 9 000 that survived it
once (up to 8 ms; with 40 000 it was 28), and only after a billion at all there are, which takes half a second with
200 000 jobs. With 50 in the middle a reconciliation of 100 000 tasks held the loop for 400 ms."""


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="retz-server")
@click.option("-C", "--config", "config_file", type=click.Path(dir_okay=False), help="Read this file.")
@click.option("--data-dir", type=click.Path(file_okay=False), help="Where jobs, journal and sandboxes live.")
@click.option("--bind", help="URL to listen on, such as http://127.0.0.1:19090 (port 0: any free one).")
@click.option("--engine", help="What runs jobs: local (this machine), mesos (a cluster), null (nothing, for tests).")
@click.option("--mesos-master", help="Mesos master: host:port, or zk://host:2181,host:2181/mesos.")
@click.option("--local-user", help="Unix user of jobs that have none of their own (local engine, server of root's).")
@click.option(
    "--shared-uid", is_flag=True, help="Allow several users whose jobs run as one Unix user, and what that means."
)
@click.option("--log-level", help="debug, info, warning or error.")
@click.pass_context
def main(context: click.Context, /, config_file: str | None, shared_uid: bool, **options: str | None) -> None:
    """Start a Retz server in the foreground; Ctrl-C or SIGTERM ends it. Running jobs go on without it."""
    try:
        names = {
            "data_dir": "retz.data-dir",
            "bind": "retz.bind",
            "engine": "retz.engine",
            "mesos_master": "retz.mesos.master",
            "local_user": "retz.local.user",
            "log_level": "retz.log.level",
        }
        given: dict[str, object] = {names[name]: value for name, value in options.items() if value is not None}
        if shared_uid:
            given["retz.shared-uid"] = True
        config = load_server(given, file=Path(config_file) if config_file else None)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    context.obj = config
    if context.invoked_subcommand is None:
        _serve(config)


@main.command()
@click.option("--repair", is_flag=True, help="Save every valid record into a new store; the old one is kept.")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="The same as before 'fsck'.")
@click.pass_obj
def fsck(config: ServerConfig, repair: bool, data_dir: Path | None) -> None:
    """Check the data directory of a server that is not running; exit code 1 if something is wrong."""
    from retz.store import fsck as checker

    directory = data_dir or config.data_dir
    if not (directory / "store").is_dir():
        raise click.ClickException(f"no store in {directory}; name the directory with --data-dir")
    try:
        report = checker.repair(directory) if repair else checker.check(directory)
    except (StoreLocked, StoreDamaged) as error:
        raise click.ClickException(str(error)) from None
    click.echo(report.text())
    if not report.clean:
        if not repair:
            click.echo(
                f"'retz-server fsck --repair --data-dir {directory}' saves every valid record and keeps the old files "
                "beside them",
                err=True,
            )
        sys.exit(1)


@main.command("setup-mesos")
def setup_mesos() -> None:
    """Install what '--engine mesos' needs, which is not part of Retz, into this Python environment."""
    from retz.engine.mesos import setup

    try:
        setup.setup_mesos(click.echo)
    except EngineError as error:
        raise click.ClickException(str(error)) from None


def _serve(config: ServerConfig) -> None:
    logging.basicConfig(
        level=config.log_level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for remark in config.settings.notes:
        log.warning("%s", remark)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(config))
    except (StoreLocked, StoreDamaged, EngineError, ConfigError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(_os_error_text(error, config)) from None


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:  # not made for this platform: the standard loop does the same, slower
        return None
    return uvloop.new_event_loop


def _os_error_text(error: OSError, config: ServerConfig) -> str:
    if isinstance(error, _CannotListen):
        return (
            f"cannot listen on {config.bind}: {error.strerror}; another server may be running there: use that one, "
            "or choose another port, such as --bind http://127.0.0.1:0 for any free one"
        )
    place = error.filename or config.data_dir
    return f"{place}: {error.strerror or error}; make room or permit it, or name another directory with --data-dir"


class _CannotListen(OSError):
    """Binding the API's socket failed."""


async def _run(config: ServerConfig) -> None:
    from retz.engine.local.access import close_data_directory
    from retz.store.aggregates import AggregateStore
    from retz.store.archive import Archive

    from .core import Core
    from .housekeeping import Housekeeping
    from .http import build_runner
    from .http.connections import harden
    from .notify.notifier import Notifier
    from .scheduling import scheduler_of
    from .skylines.recorder import estimator_config
    from .unix_users import check_configured

    scheduler = scheduler_of(config)
    estimator_config(config)  # what is wrong there is told before jobs are touched, too
    check_configured(config)
    listening = _listen(config)
    directory = config.data_dir
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        contextlib.closing(listening),
        contextlib.closing(Database.open(directory, options=config.store_options())) as db,
    ):
        if config.engine == "local":
            close_data_directory(directory)
        _tell_recovery(db)
        uri = _uri(config, listening)
        archive = Archive.open(directory / "archive")
        db.reserve_above(archive.max_id)
        db.attach(asyncio.get_running_loop())
        core = Core(
            db=db,
            archive=archive,
            aggregates=AggregateStore(directory / "aggregates"),
            scheduler=scheduler,
            engine=_engine(config, uri),
            config=config,
        )
        await _first_user(core.db, config, uri)
        if sharing := core.users.sharing():
            log.warning("%s", sharing)
        await core.start()
        housekeeping = Housekeeping(core)
        housekeeping.start()
        core.skylines.start()
        notifier = Notifier(core)
        await notifier.start()
        # Everything alive now stays alive: keep the collector from walking it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        stop = _stop_signal()
        from aiohttp import web

        runner = build_runner(core, shutdown_timeout_s=2.0)
        await runner.setup()
        harden(listening)
        await web.SockSite(runner, listening, ssl_context=_tls(config), backlog=1024).start()
        log.info("retz-server %s, engine %s, data in %s", __version__, config.engine, directory)
        print(f"listening on {uri}", flush=True)
        await stop.wait()
        log.info("stopping; running jobs go on and are taken up again at the next start")
        await runner.cleanup()
        await notifier.stop()
        await housekeeping.stop()
        await core.skylines.stop()
        await core.stop()


def _listen(config: ServerConfig) -> socket.socket:
    """Bind before anything else, so that a port in use is told before jobs are touched."""
    parts = urlsplit(config.bind)
    try:
        info = socket.getaddrinfo(parts.hostname, parts.port or 0, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(info[0], socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(info[4])
        listening.listen(1024)
    except OSError as error:
        raise _CannotListen(error.errno, error.strerror) from None
    return listening


def _uri(config: ServerConfig, listening: socket.socket) -> str:
    parts = urlsplit(config.bind)
    host = parts.hostname or "127.0.0.1"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"


def _engine(config: ServerConfig, uri: str) -> Engine:
    if config.engine == "null":
        from retz.engine.null import NullEngine

        return NullEngine()
    if config.engine == "local":
        from retz.engine.local.engine import Fetching, LocalEngine

        from .containers import containers_of

        return LocalEngine(
            config.data_dir / "local",
            total=config.local_total,
            attributes=config.local_attributes,
            gpus=config.declared_gpus,
            port_range=config.local_ports,
            sample_interval_s=config.sample_interval_s,
            user=config.local_user,
            fetching=Fetching(config.fetch_timeout, config.fetch_max_size, config.fetch_cache),
            containers=containers_of(config),
        )
    if config.engine == "mesos":
        from retz.engine.mesos.engine import MesosEngine

        from .cluster import mesos_options

        return MesosEngine(config.data_dir / "mesos", mesos_options(config, uri))
    raise EngineError(f"unknown engine {config.engine!r}: use local, mesos or null")


async def _first_user(db: Database, config: ServerConfig, uri: str) -> None:
    """Make the admin at the first start, and see to it that the next terminal knows how to sign."""
    users = list(db.users.records().values())
    if not users:
        admin = User(
            key=config.access_key or secrets.token_hex(16),
            secret=config.access_secret or secrets.token_hex(32),
            admin=True,
            info="Admin user",
            created=time.time(),
        )
        await db.apply([Change("users", admin.key, admin)])
        users = [admin]
    admin = next((user for user in users if user.admin and user.enabled), users[0])
    try:
        if write_client_config(config.client_config_path, uri, admin.key, admin.secret):
            log.info("client configuration written to %s: 'retz' now finds this server", config.client_config_path)
    except ConfigError as error:
        own = config.data_dir / "client.toml"
        write_client_config(own, uri, admin.key, admin.secret, replace=True)
        log.warning("%s. For this server use 'retz -C %s'", error, own)


def _tls(config: ServerConfig) -> ssl.SSLContext | None:
    if urlsplit(config.bind).scheme != "https":
        return None
    if config.tls_certificate is None or config.tls_key is None:
        raise ConfigError("https needs retz.tls.certificate and retz.tls.key")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config.tls_certificate, config.tls_key)
    return context


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _tell_recovery(db: Database) -> None:
    recovery = db.recovery
    log.info("store opened in %.2f s, %d changes replayed", recovery.seconds, recovery.replayed)
    if recovery.torn_bytes:
        log.warning(
            "cut an unfinished record of %d bytes from %s: it was never acknowledged",
            recovery.torn_bytes,
            recovery.torn_file,
        )


if __name__ == "__main__":
    main()
