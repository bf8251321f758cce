"""Several processes on one store of skylines: nothing is lost, and a killed writer leaves what can be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from estimator.model import RecurrenceId
from estimator.skylinestore.files import FileStore

WRITER = """
import sys
from pathlib import Path
from estimator.model import RecurrenceId, ResourceSkyline
from estimator.skyline import Skyline
from estimator.skylinestore.files import FileStore

place, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store = FileStore(place)
skyline = Skyline.sampled([[number % 7, number % 5] for number in range(300)], 5)
print("ready", flush=True)
sys.stdin.readline()
number = 0
while number != count:
    job = ResourceSkyline(f"{name}.{number}", skyline)
    store.add_history(RecurrenceId("shared", "one run"), [job])
    store.put_history(RecurrenceId("shared", f"{name}.{number}"), [job])
    assert store.get_history(RecurrenceId("shared", f"{name}.{number}"))
    number += 1
    print(number, flush=True)
"""


def writer(place: Path, name: str, count: int) -> subprocess.Popen[str]:
    """A process that adds so many runs (-1: until it is killed), and tells after each."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(place), name, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert told(process) == "ready"
    return process


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def names(place: Path) -> tuple[set[str], set[str]]:
    """Jobs of the run that all write to, and the other runs."""
    history = FileStore(place).get_history(RecurrenceId("shared", "*")) or {}
    together = {job.job_id for job in history.pop(RecurrenceId("shared", "one run"), [])}
    assert all([job.job_id for job in jobs] == [run.run] for run, jobs in history.items())
    return together, {run.run for run in history}


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    with writer(tmp_path, "a", 25) as first, writer(tmp_path, "b", 25) as second:
        for process in (first, second):
            go(process)
        reader = FileStore(tmp_path)
        seen = 0
        while first.poll() is None or second.poll() is None:
            runs = len(reader.get_history(RecurrenceId("shared", "*")) or {})
            assert runs >= seen
            seen = runs
            for process in (first, second):
                told(process)
        assert (first.wait(60), second.wait(60)) == (0, 0)
    expected = {f"{name}.{number}" for name in "ab" for number in range(25)}
    assert names(tmp_path) == (expected, expected)
    assert sorted(each.name for each in tmp_path.iterdir()) == [".lock", "shared.json"]


@pytest.mark.parametrize("after", [1, 2, 5, 9])
def test_kill_9_while_writing_leaves_what_was_told(tmp_path: Path, after: int) -> None:
    with writer(tmp_path, "a", -1) as process:
        go(process)
        while told(process) != str(after):
            assert process.poll() is None
        process.kill()
        process.wait(60)
        assert process.stdout is not None
        done = max([after, *(int(line) for line in process.stdout.read().split())])
    expected = {f"a.{number}" for number in range(done)}
    for found in names(tmp_path):
        assert expected <= found <= expected | {f"a.{done}"}
    with writer(tmp_path, "b", 1) as survivor:  # neither lock nor temporary file is in its way
        go(survivor)
        assert survivor.wait(60) == 0
    together, runs = names(tmp_path)
    assert "b.0" in together & runs
    assert sorted(each.name for each in tmp_path.iterdir()) == [".lock", "shared.json"]
