"""Child processes of the Mesos engine: kept alive, listened to in small portions, gone when the server is."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import uvloop

from retz.engine.mesos import process
from retz.engine.mesos.wire import (
    Accept,
    Connect,
    Message,
    NotAccepted,
    Refused,
    Revive,
    Subscribed,
    Suppress,
    frame,
)
from tests.doubles.scripted_master import FRAMEWORK, ScriptedMaster, record
from tests.doubles.watched_child import PATIENCE_S, Watched, wait_for

LOOPS = pytest.mark.parametrize("loop", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(process, "LONGEST_PAUSE_S", 0.05)


def run(main: Callable[[], Awaitable[None]], loop: Any = None) -> None:
    async def whole() -> None:
        await main()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(whole())


@LOOPS
def test_it_is_told_and_heard(loop: Any) -> None:
    async def main() -> None:
        async with Watched("echo") as odd:
            assert odd.child.pid is not None and os.getsid(odd.child.pid) == odd.child.pid
            assert odd.child.send(Revive(), Suppress())
            await odd.until(lambda: len(odd.heard) == 2)
            assert odd.texts() == ["Revive", "Suppress"]
        assert odd.texts()[-1] == "bye", "it was asked to end, and heard to the end"
        assert odd.gone == [] and not odd.child.send(Revive())

    run(main, loop)


@LOOPS
def test_one_that_dies_is_followed_by_another(loop: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Watched("die") as odd:
            await odd.until(lambda: len(odd.gone) >= 3)
            assert odd.gone[:3] == ["it ended with exit code 3"] * 3
            assert odd.texts()[:3] == ["last words"] * 3
        assert odd.starts >= 3

    with caplog.at_level(logging.INFO):
        run(main, loop)
    lines = [(each.levelno, each.getMessage()) for each in caplog.records if each.name.endswith(".odd")]
    assert (logging.ERROR, "something is wrong") in lines


@LOOPS
def test_one_that_is_killed(loop: Any) -> None:
    async def main() -> None:
        async with Watched("echo") as odd:
            pid = odd.child.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await odd.until(lambda: odd.gone == ["it ended with signal 9"])
            assert not odd.child.send(Revive())
            await wait_for(lambda: odd.child.pid is not None)
            assert odd.child.pid != pid and odd.child.send(Revive())
            await odd.until(lambda: odd.texts() == ["Revive"])

    run(main, loop)


def test_one_that_is_silent_is_killed() -> None:
    async def main() -> None:
        async with Watched("silent", silence_s=0.3) as odd:
            await odd.until(lambda: len(odd.gone) >= 2)
            assert "said nothing" in odd.gone[0]

    run(main)


def test_one_that_is_stopped_by_a_signal_is_killed() -> None:
    """It reads nothing either: what it is told is kept, but not without end."""

    async def main() -> None:
        async with Watched("echo", silence_s=0.6) as odd:
            pid = odd.child.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            await odd.until(lambda: bool(odd.gone))
            assert "said nothing" in odd.gone[0]

    run(main)


@LOOPS
def test_one_that_does_not_read_is_killed(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "UNREAD_BYTES", 1_000_000)

    async def main() -> None:
        async with Watched("deaf") as odd:
            await odd.until(lambda: odd.texts() == ["deaf"])
            large = Accept(1, ["o" * 1000] * 500, [])
            sent = [odd.child.send(large) for _ in range(8)]
            assert sent[0] and not sent[-1], "it never waits, and says when it is pointless"
            await odd.until(lambda: bool(odd.gone))
            assert odd.gone == ["it does not read what it is told"]

    run(main, loop)


@pytest.mark.parametrize("first", ["garbage", "nonsense"])
def test_one_that_sends_garbage_is_killed(first: str) -> None:
    async def main() -> None:
        async with Watched(first) as odd:
            await odd.until(lambda: bool(odd.gone))
            assert "cannot be understood" in odd.gone[0]

    run(main)


def test_one_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_WITHIN_S", 0.1)

    async def main() -> None:
        async with Watched("stubborn") as odd:
            pid = odd.child.pid
            assert pid is not None
        assert odd.texts() == ["no"] and odd.gone == []

    run(main)


def test_a_fault_in_the_server_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Watched("echo") as odd:

            def fault(message: Message) -> None:
                odd.on_message = odd.heard.append
                raise RuntimeError("a fault of ours")

            odd.on_message = fault
            odd.child.send(Revive(), Suppress())
            await odd.until(lambda: odd.texts() == ["Suppress"])

    run(main)
    assert "a fault of ours" in caplog.text


@LOOPS
def test_a_flood_never_holds_the_loop(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message takes two milliseconds of a clock of our own: no turn of the loop deals with more than a few."""
    now = 0.0
    turns: list[int] = []
    monkeypatch.setattr(process, "time", SimpleNamespace(perf_counter=lambda: now, monotonic=time.monotonic))

    async def main() -> None:
        nonlocal now
        async with Watched("flood 3000") as odd:
            in_turn = 0

            def slow(message: Message) -> None:
                nonlocal now, in_turn
                now += 0.002
                in_turn += 1
                odd.heard.append(message)

            def turn() -> None:
                nonlocal in_turn
                turns.append(in_turn)
                in_turn = 0
                if len(odd.heard) < 3000:
                    asyncio.get_running_loop().call_soon(turn)

            odd.on_message = slow
            turn()
            await odd.until(lambda: len(odd.heard) == 3000)
            assert odd.texts() == [str(number) for number in range(3000)]

    run(main, loop)
    assert 1 < max(turns) <= 6, "two portions, if bytes came in the same turn"


def test_what_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    spawn, failures = process._spawn, [OSError("no memory"), OSError("no memory")]

    def failing(module: str) -> subprocess.Popen[bytes]:
        if odd_started and failures:
            raise failures.pop()
        return spawn(module)

    odd_started: list[bool] = []
    monkeypatch.setattr(process, "_spawn", failing)

    async def main() -> None:
        async with Watched("echo") as odd:
            odd_started.append(True)
            os.kill(odd.child.pid or 0, signal.SIGKILL)
            await wait_for(lambda: odd.starts == 2)
            assert failures == []

    run(main)


def test_stopping_while_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "FIRST_PAUSE_S", 3600.0)
    monkeypatch.setattr(process, "LONGEST_PAUSE_S", 3600.0)

    async def main() -> None:
        async with Watched("die") as odd:
            await odd.until(lambda: bool(odd.gone))
        await odd.child.stop()

    run(main)


# -- the driver itself -----------------------------------------------------------------------------------------


def test_the_driver_subscribes_and_leaves_without_a_teardown() -> None:
    async def main() -> None:
        with ScriptedMaster() as master:
            async with Watched(master.address, "driver") as driver:
                await driver.until(lambda: driver.of(Subscribed) == [Subscribed(FRAMEWORK, master.address, "1.12.0")])
                driver.child.send(Revive())
                await asyncio.to_thread(master.wait_for, "REVIVE")
            assert master.types() == ["SUBSCRIBE", "REVIVE"]

    run(main)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_do_not_end_the_driver(number: signal.Signals) -> None:
    async def main() -> None:
        with ScriptedMaster() as master:
            async with Watched(master.address, "driver") as driver:
                await driver.until(lambda: bool(driver.of(Subscribed)))
                os.kill(driver.child.pid or 0, number)
                driver.child.send(Suppress())
                await asyncio.to_thread(master.wait_for, "SUPPRESS")
                assert driver.gone == []
            assert "TEARDOWN" not in master.types()

    run(main)


def test_a_killed_driver_is_followed_by_one_that_subscribes_again() -> None:
    async def main() -> None:
        with ScriptedMaster() as master:
            async with Watched(master.address, "driver") as driver:
                for life in (1, 2):
                    await driver.until(lambda count=life: len(driver.of(Subscribed)) == count)  # type: ignore[misc]
                    os.kill(driver.child.pid or 0, signal.SIGKILL)
                await driver.until(lambda: len(driver.of(Subscribed)) == 3)
            assert set(master.types()) == {"SUBSCRIBE"}

    run(main)


def test_garbage_on_the_stream_does_not_end_the_driver() -> None:
    async def main() -> None:
        with ScriptedMaster() as master:
            async with Watched(master.address, "driver") as driver:
                await driver.until(lambda: bool(driver.of(Subscribed)))
                stream = master.wait_for("SUBSCRIBE")
                stream.send(record(b"\xff{") + record(b"[]") + b"no chunk")
                await driver.until(lambda: len(driver.of(Subscribed)) == 2)
                assert driver.gone == []
            assert set(master.types()) == {"SUBSCRIBE"}

    run(main)


def test_an_address_that_cannot_be() -> None:
    async def main() -> None:
        async with Watched("https://master:5050", "driver") as driver:
            await driver.until(lambda: bool(driver.of(Refused)))
            driver.child.send(Accept(1, ["o"], []))
            await driver.until(lambda: bool(driver.of(NotAccepted)))

    run(main)


SERVER = """
import asyncio, msgspec, sys
from retz.engine.mesos.process import Child
from retz.engine.mesos.wire import *

async def main():
    busy = [Connect(sys.argv[1], {"name": "retz", "user": "root"})]
    def heard(message):
        if isinstance(message, Subscribed):
            child.send(Kill([TaskRef("t")]))
            print(child.pid, flush=True)
    child = Child("driver", "driver", msgspec.msgpack.Decoder(FromDriver),
                  on_start=lambda: busy, on_message=heard, on_gone=print)
    await child.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("in_a_call", [False, True])
def test_the_driver_dies_with_the_server(in_a_call: bool) -> None:
    """Also while it waits for an answer of the master; and no TEARDOWN is its last word."""
    with ScriptedMaster() as master:
        if in_a_call:
            master.on_call = lambda request: None
        server = subprocess.Popen([sys.executable, "-c", SERVER, master.address], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            pid = int(server.stdout.readline())
            master.wait_for("KILL")
            driver = psutil.Process(pid)
            server.kill()
            run(lambda: wait_for(lambda: ended(driver)))
        finally:
            server.kill()
            server.wait()
            server.stdout.close()
        assert set(master.types()) == {"SUBSCRIBE", "KILL"}


def ended(process: psutil.Process) -> bool:
    """Whoever inherited it may be slow to reap it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_the_driver_starts_anew_when_the_thread_of_pymesos_ends() -> None:
    """Whatever it is that nobody foresaw."""
    code = (
        "from retz.engine.mesos import driver, stream\n"
        "def fault(_): raise RuntimeError('unforeseen')\n"
        "stream.Stream.read = fault\n"
        "driver.say_alive.__defaults__ = (0.05,)\n"
        "driver.main()"
    )
    with ScriptedMaster() as master:
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert child.stdin is not None
        child.stdin.write(frame([Connect(master.address, {"name": "retz", "user": "root"})]))
        child.stdin.flush()
        _, errors = communicate(child)
        assert child.returncode == 70, errors
        assert b"starting anew" in errors
        assert master.types() == ["SUBSCRIBE"]


def communicate(child: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Wait for its end without closing its input, which would end it."""
    child.wait(PATIENCE_S)
    assert child.stdout is not None and child.stderr is not None and child.stdin is not None
    with child.stdin, child.stdout, child.stderr:
        return child.stdout.read(), child.stderr.read()
