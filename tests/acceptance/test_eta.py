"""When? Asked of a real server on this machine, before a job is submitted and after."""

from __future__ import annotations

import asyncio

import psutil

from retz.client import AsyncClient, Client
from retz.client.types import Eta, Plan
from tests.server_process import ServerProcess

from .terminal import retz


def workers(server: ServerProcess) -> list[psutil.Process]:
    assert server.process is not None
    found = psutil.Process(server.process.pid).children(recursive=True)
    return [child for child in found if "retz.server.forecasting.worker" in child.cmdline()]


def test_before_and_after_a_submit(server: ServerProcess) -> None:
    assert workers(server) == [], "nobody has asked: there is no worker"
    free = retz(server, "plan", "--cpus", "3", "--timeout", "10m", "--", "sleep", "600")
    assert free.code == 0 and "starts  now" in free.out and "all of its time limit" in free.out
    assert "ahead   0 jobs" in free.out
    runs = retz(server, "schedule", "--cpus", "3", "--timeout", "10m", "-N", "long", "--", "sleep", "600").out.strip()
    full = retz(server, "plan", "--cpus", "2", "--json", "--", "true").json
    assert (full["kind"], full["agents"]["fit"], full["could"]) == ("plan", 0, 1)
    assert full["source"] == "guess"
    waits = retz(server, "schedule", "--cpus", "2", "--timeout", "1h", "--", "true").out.strip()
    assert f"job {runs} (long) ends about" in retz(server, "eta", runs).out
    said = retz(server, "eta", waits).out
    assert said.startswith(f"job {waits} starts about") and "ends about" in said
    table = retz(server, "eta").out
    assert "START" in table and "END" in table and "time limit" in table
    answer = retz(server, "eta", "--json", waits).json
    assert answer["etas"][0]["start"]["p50"] <= answer["etas"][0]["start"]["p90"]
    assert len(workers(server)) == 1
    never = retz(server, "plan", "--attributes", "moon", "--", "true")
    assert never.code == 1 and "no agent here could ever take it" in never.out
    refused = retz(server, "plan", "--after", "999", "--", "true")
    assert (refused.code, refused.err) == (1, "retz: after[0]: no such job: 999\n")
    array = retz(server, "plan", "--array", "1-90%2", "--timeout", "10m", "--", "true")
    assert array.code == 0 and "memory, each of 90 tasks" in array.out and "\nends " in array.out
    assert "runs    at most 2 of 90 tasks at a time, on 1 machine\n" in array.out
    asked(server, int(waits))
    retz(server, "kill", runs, waits)
    process = workers(server)[0]
    server.stop()
    assert not process.is_running()


def asked(server: ServerProcess, job_id: int) -> None:
    """The same by the SDK."""
    key, secret = server.credentials()
    with Client(uri=server.uri, key=key, secret=secret) as client:
        found = client.eta(job_id)
        assert found.start is not None and found.start.p50 <= found.start.p90 and found.source == "limit"
        assert job_id in {each.id for each in client.etas().etas}
        assert client.plan("true", cpus=4).could == 1

    async def again() -> tuple[Eta, Plan]:
        async with AsyncClient(uri=server.uri, key=key, secret=secret) as client:
            assert (await client.etas(str(job_id))).trouble is None
            return await client.eta(job_id), await client.plan(["true"], mem="100m")

    eta, plan = asyncio.run(again())
    assert eta.id == job_id and plan.resources.mem == 100
