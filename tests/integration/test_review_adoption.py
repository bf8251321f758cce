"""What happens to the local engine's tasks in the moments between two launchers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retz.engine.base import EngineError
from retz.engine.local import engine as local_engine
from retz.engine.local import system
from retz.engine.local.engine import LocalEngine
from retz.engine.local.link import Link

from .engine_contract.site import Recorder, Site


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Site]:
    place = Site("local", tmp_path / "engine")
    yield place
    place.clean()


def engine_of(site: Site) -> LocalEngine:
    assert isinstance(site.engine, LocalEngine)
    return site.engine


def test_a_launch_between_hello_and_adoption_is_settled_and_runs_nowhere(
    local: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record became durable at that moment; the hello, written before, does not name it."""

    async def scenario(site: Site) -> None:
        engine = engine_of(site)
        offer = await site.recorder.offer()
        engine.assign(offer, site.task("").resources, site.task("").assignment)
        adopt, send = engine._adopt, engine._link.send
        sent: list[Any] = []

        def late(hello: list[Any]) -> None:
            monkeypatch.setattr(engine._link, "send", sent.extend)
            engine.launch(offer, [site.task("echo ran; sleep 60", "1.1")])
            engine.kill("1.1", 0.0)
            monkeypatch.setattr(engine._link, "send", send)
            adopt(hello)

        monkeypatch.setattr(engine, "_adopt", late)
        os.kill(site.launcher_pid(), signal.SIGKILL)
        end = await site.recorder.final("1.1")
        assert (end.kind, sent) == ("not_started", [])  # what is sent now could start before it is settled
        assert await engine.usage(["1.1"]) == {}  # an answer from the launcher: it has read what came before
        assert (site.sandbox() / "stdout").read_text() == ""

    local.play(scenario)


def test_a_full_disk_during_adoption_does_not_end_the_engine(local: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(site: Site) -> None:
        offer = await site.recorder.offer()
        engine = engine_of(site)

        def full(path: str, dir_fd: int) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(local_engine, "claim", full)
        engine._link.send = lambda messages: None  # type: ignore[method-assign]
        engine.launch(offer, [site.task("true", "1.1")])
        del engine._link.send
        os.kill(site.launcher_pid(), signal.SIGKILL)
        assert (await site.recorder.final("1.1")).kind == "lost"
        monkeypatch.undo()
        assert (await site.run("true", "2.1")).exit_code == 0

    local.play(scenario)


def test_whatever_keeps_a_launcher_from_starting_is_tried_again(local: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(site: Site) -> None:
        recorder: Recorder = site.recorder
        await recorder.offer()
        recorder.standing.clear()

        async def no_descriptors() -> bool:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(engine_of(site)._link, "_start_launcher", no_descriptors)
        os.kill(site.launcher_pid(), signal.SIGKILL)
        await recorder.until(lambda: recorder.failures)
        monkeypatch.undo()
        await recorder.until(lambda: recorder.recoveries)
        assert (await site.run("true", "1.1")).exit_code == 0

    local.play(scenario)


def test_a_launcher_that_hangs_does_not_hang_whoever_calls_it(tmp_path: Path) -> None:
    """A connection to a Unix socket blocks when the queue of callers is full, unless told not to."""

    async def call() -> bool:
        directory = os.open(tmp_path, os.O_RDONLY)
        link = Link(tmp_path, directory, 1.0, lambda messages: None, lambda: None)
        try:
            return link._connect()
        finally:
            link.close()
            os.close(directory)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / system.SOCKET))
        listener.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(8)]
        for caller in waiting:
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect(str(tmp_path / system.SOCKET))
        assert asyncio.run(call()) is False
        for caller in waiting:
            caller.close()


def test_a_path_that_is_not_utf8_stops_no_job(local: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(site: Site) -> None:
        task = site.task("true", "1.1")
        del task.environment["PATH"]  # the server's own is used
        await site.launch(task)
        assert (await site.recorder.final("1.1")).exit_code == 0

    monkeypatch.setenv("PATH", os.fsdecode(b"/usr/bin:/bin:/caf\xe9"))
    local.play(scenario)


def test_a_directory_that_is_not_utf8_is_refused_at_the_start(tmp_path: Path) -> None:
    site = Site("local", tmp_path / os.fsdecode(b"caf\xe9"))
    with pytest.raises(EngineError, match="not UTF-8"):
        asyncio.run(site.start())


def test_a_launcher_that_hangs_does_not_hang_a_question_about_usage(
    local: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(site: Site) -> None:
        os.kill(site.launcher_pid(), signal.SIGSTOP)
        try:
            assert await site.engine.usage(["1.1"]) == {}
            assert not engine_of(site)._requests
        finally:
            os.kill(site.launcher_pid(), signal.SIGCONT)

    monkeypatch.setattr(local_engine, "USAGE_PATIENCE_S", 0.01)
    local.play(scenario)
