"""The service as a program: in the foreground, or started, stopped and looked at in the background.

The background service leaves ``service.pid`` (its pid, when that process began, its address) and ``service.log`` in
the store's directory.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection, HTTPException
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil
from aiohttp import web

from .child_process import command, environment
from .config import ALIASES, EstimatorConfig
from .errors import EstimatorError
from .lanes import Lanes
from .service import PREFIX, build_app
from .service.guard import guard

PID_FILE, LOG_FILE = "service.pid", "service.log"
NOT_RUNNING = 3
"""Exit status of ``status`` for a service that does not run, as init scripts have it."""

_STOP_S = 40.0
_ASK_S = 5.0
_ENDING_S = 2.0
_LOOK_S = 0.02

Echo = Callable[[str], None]


def _say(text: str) -> None:
    print(text, flush=True)


# -- in the foreground --------------------------------------------------------------------------------------------


def serve(config: EstimatorConfig, *, echo: Echo = _say, listening: Callable[[str], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status.

    Args:
        echo: Told ``listening on http://...`` once requests are answered.
        listening: Told the address before that.

    Raises:
        EstimatorError: the address cannot be used, or the directory cannot be made.
    """
    return asyncio.run(_serve(config, echo, listening))


async def _serve(config: EstimatorConfig, echo: Echo, listening: Callable[[str], None] | None) -> int:
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    with _place(config) as place:
        runner = await _runner(config, place)
        try:
            address = await _listen(runner, config)
            if listening is not None:
                listening(address)
            echo(f"listening on {address}")
            await stop.wait()
        finally:
            await runner.cleanup()
    return 0


@contextmanager
def _place(config: EstimatorConfig) -> Iterator[Path]:
    """Where the store lies; for one "in memory" a directory of this service's own, gone when it ends."""
    if ALIASES.get(config.store, config.store) == ALIASES["memory"]:
        # Not in this process's memory: numpy stays out of here, and the two workers must see the same.
        with tempfile.TemporaryDirectory(prefix="retz-estimator-") as directory:
            yield Path(directory)
    else:
        yield _made(config.directory)


def _made(directory: Path) -> Path:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EstimatorError(f"{directory}: cannot be made: {error.strerror}; choose another with --store") from error
    return directory.absolute()


async def _runner(config: EstimatorConfig, place: Path) -> web.AppRunner:
    lanes = Lanes(config)

    async def store_for(request: web.Request) -> Path:
        return place

    async def closing(app: web.Application) -> None:
        await lanes.close()

    app = web.Application(middlewares=[guard(config.bind)])
    app.add_subapp(PREFIX, build_app(lanes, store_for, config))
    app.on_shutdown.append(closing)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_ENDING_S)
    await runner.setup()
    return runner


async def _listen(runner: web.AppRunner, config: EstimatorConfig) -> str:
    try:
        await web.TCPSite(runner, config.bind, config.port).start()
    except OSError as error:
        raise EstimatorError(
            f"cannot listen on {config.bind}, port {config.port}: {error.strerror or error}. If another program has "
            "it ('retz-estimator status' tells whether that is a service of ours), choose another port with "
            "--port or resourceestimator.service-port; 0 takes any free one"
        ) from error
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


# -- in the background --------------------------------------------------------------------------------------------


class Running(NamedTuple):
    """A service in the background.

    Attributes:
        began: When its process began, epoch seconds: pids are used again.
    """

    pid: int
    began: float
    address: str


def start(config: EstimatorConfig, *, echo: Echo = _say) -> int:
    """Start a service in the background and wait until it answers; one that runs already is left alone.

    Raises:
        EstimatorError: it could not be started; the text says why.
    """
    directory = _made(config.directory)
    logs = tuple(each.absolute() for each in config.log_directories)
    with _one_at_a_time(directory):
        running = find(directory)
        if running is not None:
            echo(f"running already at {running.address} (pid {running.pid})")
            return 0
        first = _first_line(replace(config, directory=directory, log_directories=logs), directory / LOG_FILE)
    if not first.startswith("listening"):
        raise EstimatorError(f"{first or 'the service ended at once'}; its log is {directory / LOG_FILE}")
    echo(f"{first}; its log is {directory / LOG_FILE}")
    return 0


@contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """Until the service has left its pid file: of two started at once, ``stop`` would know only one."""
    with _appending(directory / LOG_FILE) as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        yield


@contextmanager
def _appending(path: Path) -> Iterator[int]:
    """A descriptor for a log; it is not handed down to other processes."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise EstimatorError(
            f"{path}: cannot be written: {error.strerror}; choose another store with --store"
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _first_line(config: EstimatorConfig, log: Path) -> str:
    """Start the process; what it says first: where it listens, or why it does not."""
    with _appending(log) as descriptor:
        process = subprocess.Popen(
            command("estimator.daemon"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=descriptor,
            env=environment(),
            cwd="/",
            start_new_session=True,
        )
    assert process.stdin is not None and process.stdout is not None
    with process.stdin, process.stdout:
        process.stdin.write(pickle.dumps(config))
        process.stdin.close()
        return process.stdout.readline().decode(errors="replace").strip()


def stop(config: EstimatorConfig, *, echo: Echo = _say) -> int:
    """End the background service and wait until it has ended.

    Raises:
        EstimatorError: it does not end, or may not be ended by this user.
    """
    running = find(config.directory)
    if running is None:
        echo("not running")
        return 0
    try:
        os.kill(running.pid, signal.SIGTERM)
    except PermissionError as error:
        raise EstimatorError(f"process {running.pid} belongs to another user") from error
    except ProcessLookupError:
        pass  # it was quicker
    end = time.monotonic() + _STOP_S
    while find(config.directory) is not None:
        if time.monotonic() > end:
            raise EstimatorError(f"process {running.pid} does not end; 'kill -9 {running.pid}' ends it")
        time.sleep(_LOOK_S)
    (config.directory / PID_FILE).unlink(missing_ok=True)
    echo("stopped")
    return 0


def status(config: EstimatorConfig, *, echo: Echo = _say) -> int:
    """Say whether the background service runs and where; return 0 if it does and answers, else 3."""
    running = find(config.directory)
    if running is None:
        echo(f"not running (store: {config.directory})")
        return NOT_RUNNING
    try:
        number = len(_ask(running.address, "pipelines"))
        release = _ask(running.address, "health")["version"]
    except (OSError, HTTPException, ValueError, KeyError) as error:
        echo(f"process {running.pid} runs, but does not answer at {running.address}: {error}")
        return NOT_RUNNING
    echo(
        f"running at {running.address} (pid {running.pid}, version {release}), "
        f"{number} pipeline{'' if number == 1 else 's'} in {config.directory}"
    )
    return 0


def find(directory: Path) -> Running | None:
    """The background service of a store; what a service left that was killed counts for nothing.

    Raises:
        EstimatorError: the pid file cannot be read.
    """
    path = directory / PID_FILE
    try:
        running = Running(**json.loads(path.read_text()))
        process = psutil.Process(running.pid)
        same = abs(process.create_time() - running.began) < 2 and process.status() != psutil.STATUS_ZOMBIE
        return running if same else None
    except (FileNotFoundError, NotADirectoryError, psutil.NoSuchProcess):
        return None
    except OSError as error:
        raise EstimatorError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise EstimatorError(f"{path}: damaged; remove it if no service runs") from error


def _ask(address: str, what: str) -> Any:
    parts = urlsplit(address)
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    host = parts.hostname or ""
    connection = HTTPConnection(anywhere.get(host, host), parts.port, timeout=_ASK_S)
    try:
        connection.request("GET", f"{PREFIX}/{what}")
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise ValueError(f"HTTP {response.status} for {what}")
        return json.loads(content)
    finally:
        connection.close()


def main() -> int:
    """The background service's process: configuration pickled on its input, its first line to who started it."""
    config: EstimatorConfig = pickle.load(sys.stdin.buffer)
    path = config.directory / PID_FILE

    def listening(address: str) -> None:
        mine = Running(os.getpid(), psutil.Process().create_time(), address)
        temporary = path.with_name(f".{PID_FILE}.{mine.pid}")
        temporary.write_text(json.dumps(mine._asdict()))
        temporary.replace(path)

    def first_line(text: str) -> None:
        _say(text)
        os.dup2(2, 1)  # who started this is gone after the first line

    try:
        print(f"retz-estimator {version('retz')}, pid {os.getpid()}, begins", file=sys.stderr)
        status = serve(config, echo=first_line, listening=listening)
    except EstimatorError as error:
        print(error, file=sys.stderr)
        _say(str(error))
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
