"""The estimator's service in the background: start, status, stop, and what a killed one leaves."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from estimator import daemon
from estimator.config import EstimatorConfig
from estimator.errors import EstimatorError
from tests.doubles.estimator_service import SERVE, TWO_RUNS, Client


@pytest.fixture
def config(tmp_path: Path) -> Iterator[EstimatorConfig]:
    """Of a service that is ended after the test, whatever happens in it."""
    config = EstimatorConfig(directory=tmp_path / "store", port=0)
    yield config
    daemon.stop(config)


def _said(function: object, config: EstimatorConfig) -> tuple[int, str]:
    lines: list[str] = []
    code: int = function(config, echo=lines.append)  # type: ignore[operator]
    return code, "\n".join(lines)


def _running(config: EstimatorConfig) -> daemon.Running:
    running = daemon.find(config.directory)
    assert running is not None
    return running


def _reap(pid: int) -> None:
    """Started by the test itself, so nobody else takes note of its end."""
    with contextlib.suppress(ChildProcessError):  # whoever starts another process has seen to it by then
        os.waitpid(pid, 0)


def test_from_start_to_stop(config: EstimatorConfig) -> None:
    assert _said(daemon.status, config) == (3, f"not running (store: {config.directory})")
    code, text = _said(daemon.start, config)
    running = _running(config)
    log = config.directory / "service.log"
    assert (code, text) == (0, f"listening on {running.address}; its log is {log}")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert _said(daemon.start, config) == (0, f"running already at {running.address} (pid {running.pid})")
    Client(running.address).ask("POST", "translator", TWO_RUNS.encode())
    code, text = _said(daemon.status, config)
    assert code == 0
    assert text.startswith(f"running at {running.address} (pid {running.pid}, version ")
    assert text.endswith(f"), 1 pipeline in {config.directory}")
    assert _said(daemon.stop, config) == (0, "stopped")
    _reap(running.pid)
    assert not (config.directory / "service.pid").exists()
    assert _said(daemon.stop, config) == (0, "not running")
    assert "begins" in log.read_text() and "Traceback" not in log.read_text()


def test_a_killed_service_leaves_nothing_in_the_way(config: EstimatorConfig) -> None:
    daemon.start(config)
    first = _running(config)
    os.kill(first.pid, signal.SIGKILL)
    _reap(first.pid)
    assert _said(daemon.status, config)[0] == 3
    daemon.start(config)
    second = _running(config)
    assert second.pid != first.pid and _said(daemon.status, config)[0] == 0
    daemon.stop(config)
    _reap(second.pid)


def test_a_pid_that_is_used_again_is_somebody_else(config: EstimatorConfig) -> None:
    config.directory.mkdir()
    me = psutil.Process()
    stale = {"pid": me.pid, "began": me.create_time() - 100, "address": "http://127.0.0.1:1"}
    (config.directory / daemon.PID_FILE).write_text(json.dumps(stale))
    assert _said(daemon.status, config)[0] == 3
    assert _said(daemon.stop, config) == (0, "not running")  # and this process goes on


def test_one_that_does_not_answer_is_not_called_running(config: EstimatorConfig) -> None:
    config.directory.mkdir()
    me = psutil.Process()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    mine = {"pid": me.pid, "began": me.create_time(), "address": f"http://127.0.0.1:{port}"}
    path = config.directory / daemon.PID_FILE
    path.write_text(json.dumps(mine))
    code, text = _said(daemon.status, config)
    path.unlink()
    assert code == 3 and text.startswith(f"process {me.pid} runs, but does not answer at http://127.0.0.1:{port}: ")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"pid": 1}', '{"pid": "x", "began": 1, "address": ""}', "\x00"])
def test_a_damaged_pid_file_is_named(config: EstimatorConfig, content: str) -> None:
    config.directory.mkdir()
    path = config.directory / daemon.PID_FILE
    path.write_text(content)
    for function in (daemon.status, daemon.start, daemon.stop):
        with pytest.raises(EstimatorError, match=r"service\.pid: damaged; remove it"):
            function(config)
    path.unlink()


def test_a_port_that_is_taken_is_explained(config: EstimatorConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EstimatorError, match=f"cannot listen on 127.0.0.1, port {port}: .*choose another port"):
            daemon.start(replace(config, port=port))
    assert daemon.find(config.directory) is None


def test_of_two_starts_at_once_one_starts(config: EstimatorConfig) -> None:
    """On any free port nothing else would keep the second one from starting, and from being forgotten."""
    with ThreadPoolExecutor(4) as pool:
        said = sorted(text for _, text in pool.map(lambda _: _said(daemon.start, config), range(4)))
    running = _running(config)
    assert said[0].startswith(f"listening on {running.address}; ")
    assert said[1:] == [f"running already at {running.address} (pid {running.pid})"] * 3
    daemon.stop(config)
    _reap(running.pid)


def test_a_log_that_cannot_be_written_is_explained(config: EstimatorConfig) -> None:
    (config.directory / daemon.LOG_FILE).mkdir(parents=True)
    with pytest.raises(EstimatorError, match=r"service\.log: cannot be written: Is a directory; choose another store"):
        daemon.start(config)


def test_a_directory_that_cannot_be_made_is_explained(config: EstimatorConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EstimatorError, match=r"cannot be made: .*choose another with --store"):
        daemon.start(replace(config, directory=tmp_path / "file" / "store"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_a_signal_ends_it_cleanly(config: EstimatorConfig, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    with process:
        process.stdin.write(pickle.dumps(config))
        process.stdin.close()
        address = process.stdout.readline().decode().split()[-1]
        Client(address).ask("POST", "translator", TWO_RUNS.encode())
        workers = psutil.Process(process.pid).children()
        process.send_signal(number)
        assert process.wait(30) == 0
        assert process.stderr.read() == b""
    assert workers and not any(worker.is_running() for worker in workers)
