"""From a guess to a size, with jobs that really allocate memory: real server, real processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from retz.client import Client
from tests.server_process import ServerProcess

from .terminal import retz

EATER = """
import sys, time
held = bytearray(int(sys.argv[1]) << 20)
for place in range(0, len(held), 4096):
    held[place] = 1
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def eater(tmp_path: Path) -> str:
    script = tmp_path / "eater.py"
    script.write_text(EATER)
    return str(script)


def out(server: ServerProcess, *words: str) -> str:
    done = retz(server, *words)
    assert done.code == 0, done.err
    return done.out


def ran(server: ServerProcess, eater: str, megabytes: int, *options: str, seconds: float = 0.0) -> dict[str, Any]:
    """A job of pipeline etl that held so much; 1.5 GB are asked for."""
    words = ("--pipeline", "etl", "-N", "train", "--cpus", "2", "--mem", "1500m", *options)
    out(server, "run", *words, "--", sys.executable, eater, str(megabytes), str(seconds))
    job: dict[str, Any] = json.loads(out(server, "get-job", "last", "--json"))["jobs"][0]
    return job


def test_a_guess_becomes_a_size_and_a_job_that_outgrows_it_is_made_good(server: ServerProcess, eater: str) -> None:
    # The first ends between two samples: only the kernel knows its peak.
    for megabytes in (150, 156, 147):
        assert ran(server, eater, megabytes)["sized"] is None
    told = out(server, "predict", "etl")
    assert "train: asks for 1.5G, 2 cpus; --predicted gives" in told and "how sure" in told
    drawn = out(server, "predict", "etl", "--text")
    assert "the next should get" in drawn and "asks for 1.46 GB; used" in drawn and "% less" in drawn
    picture = Path(server.home) / "etl.png"
    out(server, "predict", "etl", "--png", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    sized = ran(server, eater, 150, "--predicted")
    given = sized["resources"]["mem"]
    assert 150 < given < 400
    assert (sized["state"], sized["sized"]["asked"]["mem"], sized["sized"]["runs"]) == ("FINISHED", 1500, 3)
    server.kill()
    server.start()  # the book is made again
    outgrown = ran(server, eater, 700, "--predicted", "--retries", "0", seconds=0.5)
    assert (outgrown["state"], outgrown["losses"], outgrown["sized"]["outgrew"]) == ("FINISHED", 0, 1)
    assert [attempt["reason"] for attempt in outgrown["attempts"]] == ["oom", None]
    assert outgrown["resources"]["mem"] == 1500
    steps = json.loads(out(server, "predict", "etl", "--json"))["sizes"]["steps"]
    assert steps[0]["given"]["mem"] > 700
    assert [past["outcome"] for past in steps[0]["past"]] == ["finished"] * 5
    key, secret = server.credentials()
    with Client(uri=server.uri, key=key, secret=secret) as client:
        (step,) = client.sizes("etl").steps
        assert step.given is not None and step.given.mem == steps[0]["given"]["mem"]
        assert step.past[-1].peak_mb is not None and step.past[-1].peak_mb >= 700
        again = client.run([sys.executable, eater, "10", "0"], pipeline="etl", name="train", predicted=True)
        assert again.sized is not None and again.sized.runs == 5
