"""The Mesos driver's process dies, hangs or has a fault while jobs run: no job notices, and nothing is torn down."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from retz.engine.mesos import engine as mesos_engine
from retz.engine.mesos import process
from retz.engine.mesos.process import Child
from tests.doubles.mesos.cluster import Cluster, ClusterThread
from tests.server_process import ServerProcess
from tests.wire import Wire

from .mesos_site import PATIENCE_S, MesosSite, cluster_of, mesos

pytestmark = pytest.mark.anyio

SILENCE_S = 1.0


class QuickChild(Child):
    """Starts a driver that says often that it lives, and does not wait long for it."""

    def __init__(self, name: str, module: str, *args: Any, **more: Any) -> None:
        if module == "driver":
            module, more["silence_s"] = "tests.doubles.faulty_driver", SILENCE_S
        super().__init__(name, module, *args, **more)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(process, "LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(mesos_engine, "Child", QuickChild)


def driver_pid(site: MesosSite) -> int:
    pid = site.engine._driver.pid
    assert pid is not None
    return pid


def subscriptions(cluster: Cluster) -> list[str]:
    """The framework id of each, as it asked; empty for a new one."""
    infos = [body["subscribe"]["framework_info"] for body in cluster.bodies("SUBSCRIBE")]
    return [info.get("id", {}).get("value", "") for info in infos]


async def replaced(site: MesosSite, pid: int, framework: str) -> None:
    """Wait until another driver is subscribed, as the same framework."""
    await site.until(lambda: site.engine._driver.pid not in (None, pid))
    await site.connected()
    assert set(subscriptions(site.cluster)[1:]) == {framework}
    assert site.cluster.framework().id == framework
    assert site.cluster.teardowns == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "silent"])
async def test_a_driver_that_dies_or_hangs(tmp_path: Path, number: signal.Signals) -> None:
    async with mesos(tmp_path) as site:
        framework, pid = site.cluster.framework().id, driver_pid(site)
        runs, ends = await site.running(), await site.running("brief")
        os.kill(pid, number)
        queued = await site.submit("exit 3")
        await replaced(site, pid, framework)
        assert (await site.ended(ends)).state == "FINISHED"
        assert (await site.ended(queued)).exit_code == 3
        for job in (runs, ends, queued):
            assert [attempt.number for attempt in site.job(job).attempts] == [1]
        await site.until(lambda: site.live() == [f"{runs}.1"])
        assert not psutil.pid_exists(pid)
        await site.kill(runs)
        assert (await site.ended(runs)).state == "KILLED"


async def test_a_callback_that_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pymesos by itself would tear the framework down, and Mesos kill all its jobs."""
    monkeypatch.setenv("RETZ_TEST_FAULT", "TASK_FAILED")
    async with mesos(tmp_path) as site:
        framework, pid = site.cluster.framework().id, driver_pid(site)
        runs = await site.running()
        fails = await site.submit("exit 3")
        # Mesos tells it again and again, until a driver takes it.
        await site.until(lambda: len(subscriptions(site.cluster)) >= 3)
        assert site.job(fails).state == "STARTED"
        monkeypatch.delenv("RETZ_TEST_FAULT")
        assert (await site.ended(fails)).exit_code == 3
        await replaced(site, pid, framework)
        await site.until(lambda: site.live() == [f"{runs}.1"])
        assert len(site.job(runs).attempts) == 1


def wait_until(condition: Callable[[], object]) -> None:
    """For what happens in other processes."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_server_is_killed(tmp_path: Path) -> None:
    """Its driver goes with it, without a word to the master; the next server takes the jobs up."""
    with ClusterThread(lambda: cluster_of(2)) as cluster:
        settings = {"RETZ_MESOS_MASTER": cluster.address}
        server = ServerProcess(tmp_path / "home", engine="mesos", settings=settings)
        try:
            server.start()
            wire = Wire(server.uri, *server.credentials())
            status, answer = wire.call("POST", "/api/v2/jobs", {"jobs": [{"command": "wait"}]})
            assert status == 201
            wait_until(lambda: cluster.do(lambda each: each.live_attempts("retz.job")))
            assert server.process is not None
            children = psutil.Process(server.process.pid).children()
            assert len(children) >= 2
            wire.close()
            server.kill()
            _, alive = psutil.wait_procs(children, PATIENCE_S)
            assert alive == []
            wait_until(lambda: not cluster.do(lambda each: each.framework().connected))
            server.start()
            wire = Wire(server.uri, *server.credentials())
            job = f"/api/v2/jobs/{answer['ids'][0]}"
            assert wire.call("DELETE", job)[0] == 202
            wire.call("GET", f"{job}/wait?timeout_s=20")
            _, ended = wire.call("GET", job)
            wire.close()
            assert ended["state"] == "KILLED" and len(ended["attempts"]) == 1
            assert server.stop() == 0
        finally:
            server.destroy()
        first, *others = cluster.do(subscriptions)
        assert first == "" and others == [cluster.do(lambda each: each.framework().id)]
        assert cluster.do(lambda each: each.teardowns) == 0
