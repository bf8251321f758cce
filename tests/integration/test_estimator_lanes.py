"""The estimator's worker processes, for real: sharing, cancelling, dying, ending."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from estimator import lanes as lanes_module
from estimator.config import EstimatorConfig
from estimator.errors import BadArgument, Busy, InvalidInput, RecurrenceIdNotFound, WorkerFailed
from estimator.lanes import Lanes, LaneState
from estimator.operations import Outcome
from tests.doubles.estimator_store import NAME, VARIABLE, Gate

Test = Callable[[Lanes, Gate, Path], Awaitable[None]]
DEADLINE_S = 30.0


def _history(pipeline: str, *runs: str) -> bytes:
    """Runs of 20 s, four containers and then two."""
    steps = {"0": {"memory": 4096, "vcores": 4}, "10": {"memory": 2048, "vcores": 2}, "20": {"memory": 0, "vcores": 0}}
    return json.dumps(
        [
            [
                {"pipelineId": pipeline, "runId": run},
                [
                    {
                        "jobId": run,
                        "jobInputDataSize": 0.0,
                        "jobSubmissionTime": 0,
                        "jobFinishTime": 20,
                        "containerSpec": {"memory": 1024, "vcores": 1},
                        "skylineList": {"resourceAllocation": steps},
                    }
                ],
            ]
            for run in runs
        ]
    ).encode()


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Test], None]:
    """Runs a test on lanes over a gated store that knows two runs each of ``slow`` and ``quick``."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))

    def run(test: Test, idle_s: float = 60.0) -> None:
        before = set(psutil.Process().children(recursive=True))  # of other tests in this process

        async def main() -> None:
            lanes = Lanes(EstimatorConfig(store=NAME, solver="max", workers_idle_s=idle_s))
            try:
                for pipeline in ("slow", "quick"):
                    await lanes.call(tmp_path, "add_history", document=_history(pipeline, "a", "b"))
                async with asyncio.timeout(2 * DEADLINE_S):
                    await test(lanes, Gate(tmp_path), tmp_path)
            finally:
                await lanes.close()
            assert not set(psutil.Process().children(recursive=True)) - before

        asyncio.run(main())

    return run


def _solve(lanes: Lanes) -> LaneState:
    return lanes.states()[1]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.005)


def _asking(lanes: Lanes, place: Path, pipeline: str = "slow", **wishes: object) -> asyncio.Task[Outcome]:
    return asyncio.create_task(lanes.call(place, "estimate", pipeline=pipeline, **wishes))


def test_errors_come_back_as_they_were_raised(play: Callable[[Test], None]) -> None:
    async def test(lanes: Lanes, gate: Gate, place: Path) -> None:
        with pytest.raises(InvalidInput, match="no run of pipeline 'unknown' is known"):
            await lanes.call(place, "estimate", pipeline="unknown")
        with pytest.raises(RecurrenceIdNotFound, match="non-existing recurring pipeline"):
            await lanes.call(place, "delete_history", pipeline="quick", run="c")
        with pytest.raises(BadArgument, match="alpha must be from 0 to 1"):
            await lanes.call(place, "estimate", pipeline="quick", alpha=2.0)
        with pytest.raises(BadArgument, match=r"there is no solver 'os\.system'"):
            await lanes.call(place, "estimate", pipeline="quick", solver="os.system")
        with pytest.raises(BadArgument, match="the body cannot be used"):
            await lanes.call(place, "add_history", document=b'[[{"pipelineId":')
        with pytest.raises(BadArgument, match="there is no operation"):
            await lanes.call(place, "destroy")

    play(test)


def test_a_fault_in_a_users_class_fails_its_call_only(play: Callable[[Test], None]) -> None:
    async def test(lanes: Lanes, gate: Gate, place: Path) -> None:
        with pytest.raises(WorkerFailed, match="a fault in somebody's own class"):
            await lanes.call(place, "estimate", pipeline="broken")
        pid = _solve(lanes).pid
        assert b"resourceAllocation" in (await lanes.call(place, "estimate", pipeline="quick")).body
        assert _solve(lanes).pid == pid

    play(test)


def test_identical_requests_share_one_execution(play: Callable[[Test], None]) -> None:
    async def test(lanes: Lanes, gate: Gate, place: Path) -> None:
        first = _asking(lanes, place, full=True)
        reader = await gate.somebody()
        others = [_asking(lanes, place, full=True) for _ in range(4)]
        await _until(lambda: _solve(lanes).shared == 4)
        different = _asking(lanes, place, full=False)
        await _until(lambda: _solve(lanes).waiting == 1)
        os.close(reader)
        bodies = {(await each).body for each in (first, *others)}
        assert len(bodies) == 1
        await different  # is stored by now: nothing is read for it
        assert gate.asked() == ["slow"]

    play(test)


def test_who_has_written_is_not_answered_with_what_was_before(play: Callable[[Test], None]) -> None:
    async def test(lanes: Lanes, gate: Gate, place: Path) -> None:
        before = _asking(lanes, place, full=True)
        reader = await gate.somebody()
        await lanes.call(place, "add_history", document=_history("slow", "c"))
        after = _asking(lanes, place, full=True)
        await _until(lambda: _solve(lanes).waiting == 1)
        os.close(reader)
        await before
        os.close(await gate.somebody())
        assert json.loads((await after).body)["runs"] == ["a", "b", "c"]

    play(test)


def test_what_nobody_waits_for_is_killed_and_the_line_goes_on(play: Callable[[Test], None]) -> None:
    async def test(lanes: Lanes, gate: Gate, place: Path) -> None:
        abandoned = _asking(lanes, place)
        reader = await gate.somebody()
        next_one = _asking(lanes, place, "quick")
        await _until(lambda: _solve(lanes).waiting == 1)
        pid = _solve(lanes).pid
        abandoned.cancel()
        assert b"resourceAllocation" in (await next_one).body
        os.close(reader)
        assert pid is not None and not psutil.pid_exists(pid)
        assert _solve(lanes).pid != pid and _solve(lanes).cancelled == 1 and _solve(lanes).failed == 0

    play(test)


def test_who_is_next_does_not_get_a_worker_that_was_just_killed(play: Callable[[Test], None]) -> None:
    async def test(lanes: Lanes, gate: Gate, place: Path) -> None:
        abandoned = _asking(lanes, place)
        reader = await gate.somebody()
        next_one = _asking(lanes, place, "quick")
        await _until(lambda: _solve(lanes).waiting == 1)
        worker = lanes._lanes[1]._worker
        assert worker is not None and worker._process.stdout is not None
        pipe = worker._process._transport.get_pipe_transport(1).get_extra_info("pipe")  # type: ignore[attr-defined]
        os.close(reader)
        # Its answer is there, and this process has not looked yet: the loop stands still here.
        assert select.select([pipe], [], [], DEADLINE_S)[0]
        abandoned.cancel()
        assert b"resourceAllocation" in (await next_one).body
        assert abandoned.cancelled() and _solve(lanes).failed == 0

    play(test)


def test_it_goes_on_while_one_of_several_waits(play: Callable[[Test], None]) -> None:
    async def test(lanes: Lanes, gate: Gate, place: Path) -> None:
        one, other = _asking(lanes, place), _asking(lanes, place)
        reader = await gate.somebody()
        pid = _solve(lanes).pid
        one.cancel()
        await asyncio.wait([one])
        os.close(reader)
        assert b"resourceAllocation" in (await other).body
        assert one.cancelled() and _solve(lanes).pid == pid

    play(test)


def test_a_call_given_up_in_the_line_is_never_done(play: Callable[[Test], None]) -> None:
    async def test(lanes: Lanes, gate: Gate, place: Path) -> None:
        running, waiting = _asking(lanes, place), _asking(lanes, place, "quick")
        reader = await gate.somebody()
        await _until(lambda: _solve(lanes).waiting == 1)
        waiting.cancel()
        await asyncio.wait([waiting])
        os.close(reader)
        await running
        assert gate.asked() == ["slow"] and _solve(lanes).waiting == 0

    play(test)


def test_quick_operations_do_not_wait_for_solves(play: Callable[[Test], None]) -> None:
    async def test(lanes: Lanes, gate: Gate, place: Path) -> None:
        await lanes.call(place, "estimate", pipeline="quick")
        running = _asking(lanes, place)
        reader = await gate.somebody()
        listed = json.loads((await lanes.call(place, "pipelines")).body)
        assert [each["pipelineId"] for each in listed] == ["quick", "slow"]
        # Stored and current: no solve, no waiting.
        assert b"resourceAllocation" in (await lanes.call(place, "estimate", pipeline="quick")).body
        assert not running.done()
        os.close(reader)
        await running

    play(test)


def test_a_killed_worker_fails_its_call_and_the_next_gets_a_new_one(play: Callable[[Test], None]) -> None:
    async def test(lanes: Lanes, gate: Gate, place: Path) -> None:
        running = _asking(lanes, place)
        reader = await gate.somebody()
        pid = _solve(lanes).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerFailed, match=r"ended \(Killed\); try again"):
            await running
        os.close(reader)
        assert b"resourceAllocation" in (await lanes.call(place, "estimate", pipeline="quick")).body
        # One that dies with nothing to do is not even noticed.
        pid = _solve(lanes).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await _until(lambda: _solve(lanes).pid is None)
        assert b"resourceAllocation" in (await lanes.call(place, "estimate", pipeline="quick", alpha=0.5)).body
        assert _solve(lanes).failed == 1 and _solve(lanes).started == 3

    play(test)


def test_a_line_that_is_too_long_is_refused(play: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "MAX_WAITING", 2)

    async def test(lanes: Lanes, gate: Gate, place: Path) -> None:
        running = _asking(lanes, place)
        reader = await gate.somebody()
        waiting = [_asking(lanes, place, "quick", alpha=alpha) for alpha in (0.2, 0.3)]
        await _until(lambda: _solve(lanes).waiting == 2)
        with pytest.raises(Busy, match="2 requests are waiting already"):
            await _asking(lanes, place, "quick", alpha=0.4)
        os.close(reader)
        await asyncio.gather(running, *waiting)

    play(test)


def test_closing_does_not_wait_for_solves(play: Callable[[Test], None]) -> None:
    async def test(lanes: Lanes, gate: Gate, place: Path) -> None:
        running, waiting = _asking(lanes, place), _asking(lanes, place, "quick")
        reader = await gate.somebody()
        await lanes.close()
        for each in (running, waiting):
            with pytest.raises(Busy, match="closing"):
                await each
        with pytest.raises(Busy, match="closing"):
            await lanes.call(place, "pipelines")
        os.close(reader)

    play(test)


def test_workers_are_apart_niced_and_end_when_idle(tmp_path: Path) -> None:
    before = set(psutil.Process().children())  # of other tests in this process

    async def main() -> None:
        lanes = Lanes(EstimatorConfig(workers_idle_s=60.0))
        await lanes.call(tmp_path, "pipelines")
        pid = lanes.states()[0].pid
        assert pid is not None
        assert os.getsid(pid) == pid  # Ctrl-C at the terminal does not reach it
        assert psutil.Process(pid).nice() == min(19, psutil.Process().nice() + 10)
        await lanes.close()
        impatient = Lanes(EstimatorConfig(workers_idle_s=0.0))
        await impatient.call(tmp_path, "pipelines")
        await _until(lambda: set(psutil.Process().children()) <= before)
        await impatient.call(tmp_path, "pipelines")
        assert impatient.states()[0].started == 2
        await impatient.close()

    asyncio.run(main())


SERVING = """
import asyncio, sys
from pathlib import Path
from estimator.config import EstimatorConfig
from estimator.lanes import Lanes
import estimator.service, estimator.daemon, estimator.config_files

async def main():
    lanes = Lanes(EstimatorConfig(store=sys.argv[2]))
    task = asyncio.create_task(lanes.call(Path(sys.argv[1]), "estimate", pipeline="slow"))
    while lanes.states()[1].pid is None:
        await asyncio.sleep(0.005)
    print(lanes.states()[1].pid, flush=True)
    try:
        await task
    except Exception as error:
        print(error)
    heavy = {"numpy", "scipy", "matplotlib"} & {name.partition(".")[0] for name in sys.modules}
    print("heavy:", sorted(heavy))
    await lanes.close()

asyncio.run(main())
"""


def test_a_serving_process_loads_nothing_heavy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVING, str(tmp_path), "files"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "no run of pipeline 'slow' is known" in done.stdout
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_a_worker_ends_with_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    gate = Gate(tmp_path)

    async def main() -> None:
        parent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SERVING, str(tmp_path), NAME), stdout=asyncio.subprocess.PIPE
        )
        assert parent.stdout is not None
        worker = psutil.Process(int(await parent.stdout.readline()))
        reader = await gate.somebody()  # it is in the middle of its work
        parent.kill()
        await parent.wait()
        await _until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
        os.close(reader)

    asyncio.run(main())
