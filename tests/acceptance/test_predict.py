"""Recurring work, end to end with real processes: runs are marked, remembered, and the next one is predicted."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest

from retz.client import ApiError, AsyncClient, Client
from retz.client.types import History
from tests.server_process import ServerProcess

from .terminal import job, retz, until

WORK_S = 2.5
WORK = f"import time; block = bytearray(60_000_000)\nwhile time.process_time() < {WORK_S}: pass"
"""Two and a half seconds of one processor, however long it takes to get them, and 60 MB."""


def client(server: ServerProcess) -> Client:
    key, secret = server.credentials()
    return Client(uri=server.uri, key=key, secret=secret)


def workers(server: ServerProcess) -> list[psutil.Process]:
    assert server.process is not None
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [child for child in children if "estimator.worker" in " ".join(_words(child))]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def loaded(server: ServerProcess, *libraries: str) -> list[str]:
    """Which of these the server's process has mapped."""
    assert server.process is not None
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    return [library for library in libraries if f"/{library}/" in maps]


def seconds(*jobs: dict[str, Any]) -> float:
    """From the first start to the last end."""
    begun = min(datetime.fromisoformat(each["attempts"][0]["started"]) for each in jobs)
    return (max(datetime.fromisoformat(each["ended"]) for each in jobs) - begun).total_seconds()


def test_from_the_first_run_to_a_picture(server: ServerProcess) -> None:
    assert retz(server, "pipelines", "--json").json["pipelines"] == []
    unknown = retz(server, "predict", "nightly")
    assert (unknown.code, unknown.out) == (1, "") and "mark jobs with --pipeline nightly" in unknown.err
    assert workers(server) == [] and loaded(server, "numpy", "scipy", "matplotlib") == []
    step = ["schedule", "--wait", "--pipeline", "nightly", "--run", "monday", "--mem", "300m"]
    assert retz(server, *step, "--", sys.executable, "-c", WORK).code == 0
    assert retz(server, *step, "--cpus", "2", "-c", "exit 3").code == 3, "a failed step belongs to the run"
    thin = retz(server, "predict", "nightly")
    assert thin.code == 1 and "has 1 run so far" in thin.err and "2 are needed" in thin.err
    lines = server.home / "lines"
    here, there = server.home / "here", server.home / "there"
    meet = "touch {0}; until test -e {1}; do sleep 0.05; done; sleep {2}\n"
    lines.write_text(meet.format(here, there, 2) + meet.format(there, here, 3))
    both = retz(server, "schedule", "--wait", "--pipeline", "nightly", "--mem", "300m", "--each-line", str(lines))
    assert both.code == 0

    runs = {run["run"]: run for run in retz(server, "pipelines", "nightly", "--json").json["runs"]}
    assert len(runs) == 2
    monday, fresh = runs.pop("monday"), next(iter(runs.values()))
    assert monday["allocated"]["memory"] == 300 and monday["allocated"]["vcores"] in (1, 2)
    worked, failed, *sleepers = [job(server, number) for number in (1, 2, 3, 4)]
    # A peak is no less than the mean; a tenth of a second at the end may not be measured.
    mean = (WORK_S - 0.1) / seconds(worked)
    assert 57 <= monday["used"]["memory"] <= 300 and mean <= monday["used"]["vcores"] <= 1.5
    assert -0.01 < monday["duration_s"] - seconds(worked, failed) < 1.01
    assert fresh["allocated"] == {"memory": 600, "vcores": 2}
    assert -0.01 < fresh["duration_s"] - seconds(*sleepers) < 1.01

    prediction = retz(server, "predict", "nightly", "--json").json["prediction"]
    assert prediction["runs"] == ["monday", fresh["run"]]
    assert prediction["skyline"]["resourceAllocation"]["0"] == {"memory": 600, "vcores": 2}
    said = retz(server, "predict", "nightly")
    assert said.code == 0 and said.err == ""
    for words in ("from 2 runs", "FROM", "600M", "reserved by the last run", "needed at most", "how sure"):
        assert words in said.out, said.out
    picture = server.home / "next.png"
    assert retz(server, "predict", "nightly", "--png", str(picture)).code == 0
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000
    sizes = retz(server, "predict", "nightly", "--text")
    assert sizes.code == 0 and "plan" in sizes.out, "no step was measured twice: the plan of the run is drawn"
    assert retz(server, "predict", "nightly", "--png", str(picture), "--resource", "vcores").code == 0
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000
    drawn = retz(server, "predict", "nightly", "--text", "--kind", "used")
    assert drawn.code == 0 and "fixed request" in drawn.out
    assert loaded(server, "numpy", "scipy", "matplotlib") == [], "heavy libraries are for workers"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["run", "--run", "x", "--", "true"], 2, "name that too with --pipeline"),
        (["schedule", "--pipeline", "*", "--", "true"], 1, "pipeline: must be a name"),
        (["predict"], 2, "PIPELINE"),
        (["predict", "p", "--json", "--text"], 2, "one of --json, --png and --text"),
        (["predict", "p", "--png", "x.gif"], 2, "must end in .png, .svg, .pdf"),
        (["predict", "p", "--resource", "vcores"], 2, "--resource goes with"),
        (["predict", "p", "--solver", "mine"], 1, "must be one of fast"),
        (["pipelines", "no/such"], 1, "no run of a pipeline 'no/such'"),
    ],
)
def test_refusals_help(shared: ServerProcess, words: list[str], code: int, sentence: str) -> None:
    said = retz(shared, *words)
    assert (said.code, said.out) == (code, ""), said
    assert sentence in said.err


def test_a_run_that_ended_just_before_a_kill_is_remembered(server: ServerProcess) -> None:
    assert retz(server, "schedule", "--wait", "--pipeline", "p", "--run", "r1", "--", "sleep", "1").code == 0
    server.kill()
    server.start()
    assert _run_names(server) == ["r1"]
    assert retz(server, "schedule", "--wait", "--pipeline", "p", "--run", "r1", "--", "sleep", "1").code == 0
    with client(server) as retz_client:
        until(lambda: retz_client.pipeline("p").runs[0].duration_s >= 2, "the same run, longer")
    (run,) = _history(server).runs
    assert run.duration_s >= 2, "the run went on across the kill"


def _run_names(server: ServerProcess) -> list[str]:
    with client(server) as retz_client:

        def names() -> list[str]:
            try:
                return [run.run for run in retz_client.pipeline("p").runs]
            except ApiError as error:
                assert error.status == 404
                return []

        found: list[str] = until(names, "a run in the history")
        return found


def _history(server: ServerProcess) -> History:
    with client(server) as retz_client:
        return retz_client.pipeline("p")


def test_killed_workers_are_replaced_and_the_queue_does_not_notice(server: ServerProcess) -> None:
    with client(server) as retz_client:
        for _ in range(2):
            assert retz_client.run("sleep 1", pipeline="p").ok
        assert retz_client.prediction("p").runs
        for worker in workers(server):
            worker.kill()
        assert retz_client.run("true").ok
        retz_client.delete_pipeline("p", retz_client.pipeline("p").runs[0].run)
        assert len(retz_client.pipeline("p").runs) == 1


def test_a_worker_whose_server_died_in_the_middle_of_a_request_ends() -> None:
    worker = subprocess.Popen(
        [sys.executable, "-P", "-m", "estimator.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    try:
        worker.communicate((100).to_bytes(8, "big") + b"half a request", timeout=30)
        assert worker.returncode == 1
    finally:
        worker.kill()
        worker.wait()


def test_idle_workers_end(make_server: Any) -> None:
    running = make_server(settings={"RETZ_LOCAL_CPUS": "4", "RETZ_LOCAL_MEM": "4g", "RETZ_ESTIMATOR_IDLE": "1s"})
    running.start()
    assert retz(running, "schedule", "--wait", "--pipeline", "p", "--", "sleep", "1").code == 0
    until(lambda: retz(running, "pipelines", "--json").json["pipelines"], "a history")
    until(lambda: not workers(running), "the end of the workers")
    assert running.stop() == 0
    assert workers_of(running.data) == []


def workers_of(data: Path) -> list[psutil.Process]:
    """Workers whose environment or arguments name a data directory: none outlives its server."""
    return [p for p in psutil.process_iter() if "estimator.worker" in _words(p) and str(data) in " ".join(_words(p))]


def test_a_directory_that_cannot_be_written_stops_nothing(server: ServerProcess) -> None:
    place = server.data / "skylines"
    until(place.is_dir, "the histories' directory")
    place.rmdir()
    place.write_text("in the way")
    assert retz(server, "schedule", "--wait", "--pipeline", "p", "--", "sleep", "1").code == 0
    until(lambda: "ESTIMATOR" in retz(server, "status").out, "a word about it")
    assert retz(server, "run", "--", "echo", "on").out == "on\n"
    until(lambda: failures(server) >= 3, "more tries")
    told = re.findall("cannot keep the skylines.*", server.log())
    assert sum("Not a directory" in line for line in told) == 1, "of the run that cannot be written"
    assert sum("File exists" in line for line in told) == len(told) - 1 <= 1, "and perhaps of the mark: each once"
    place.unlink()
    until(lambda: retz(server, "pipelines", "--json").json["pipelines"], "a history after all")


def failures(server: ServerProcess) -> int:
    with urlopen(f"{server.uri}/metrics", timeout=30) as answer:
        (found,) = re.findall(r"^retz_skylines_failures_total (\d+)", answer.read().decode(), re.MULTILINE)
    return int(found)


@pytest.mark.anyio
async def test_the_asynchronous_client_too(server: ServerProcess) -> None:
    key, secret = server.credentials()
    async with AsyncClient(uri=server.uri, key=key, secret=secret) as retz_client:
        for _ in range(2):
            job = await retz_client.run("sleep 1", pipeline="a/b", mem="100m")
            assert job.run is not None
        (pipeline,) = await retz_client.pipelines()
        assert (pipeline.name, pipeline.runs) == ("a/b", 2)
        history = await retz_client.pipeline("a/b")
        assert all(run.allocated == {"memory": 100, "vcores": 1} for run in history.runs)
        prediction = await retz_client.prediction("a/b", interval=2)
        assert prediction.skyline.steps[0] == {"memory": 100, "vcores": 1}
        assert prediction.confidence is not None and prediction.confidence.runs == 2
        assert (await retz_client.prediction_plot("a/b", "svg", resource="vcores")).startswith(b"<?xml")
        await retz_client.delete_pipeline("a/b")
        assert await retz_client.pipelines() == ()
