"""The Prometheus page, read as Prometheus reads it."""

from __future__ import annotations

import re

import pytest

from retz.server.http import metrics

from .http_site import Site

pytestmark = pytest.mark.anyio

SAMPLE = re.compile(r'^([a-z_:][a-z0-9_:]*)(\{(?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*\})? (\S+)$')


def parse(page: str) -> dict[str, float]:
    """Samples by name and labels; fails on anything that is not the text format."""
    kinds: dict[str, str] = {}
    helped: set[str] = set()
    samples: dict[str, float] = {}
    assert page.endswith("\n")
    for line in page.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            assert name not in helped, f"{name} twice"
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            kinds[name] = kind
        else:
            found = SAMPLE.match(line)
            assert found, line
            assert found[1] in kinds and found[1] in helped, line
            assert kinds[found[1]] != "counter" or found[1].endswith(("_total", "_sequence")), line
            key = found[1] + (found[2] or "")
            assert key not in samples, line
            samples[key] = float(found[3])
    assert all(name.startswith("retz_") for name in kinds)
    return samples


async def test_the_page_tells_the_state_of_the_queue(site: Site) -> None:
    await site.running(resources={"cpus": 2})
    ended = await site.running()
    site.engine.ended(f"{ended}.1", 1)
    await site.submit(held=True)
    await site.submit(resources={"cpus": 4})
    await site.get("/nothing")
    await site.get("/jobs/1")
    reply = await site.ask("GET", "/metrics", None)
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = parse(reply.body.decode())
    assert samples['retz_jobs{state="QUEUED"}'] == 2
    assert samples['retz_jobs{state="STARTED"}'] == 1
    assert samples["retz_queue_length"] == 1
    assert samples["retz_jobs_submitted_total"] == 4
    assert samples['retz_jobs_ended_total{result="FAILED"}'] == 1
    assert samples['retz_agent_resources_total{agent="a1",resource="cpus"}'] == 4
    assert samples['retz_agent_resources_used{agent="a1",resource="cpus"}'] == 2
    assert samples['retz_agent_resources_others{agent="a1",resource="cpus"}'] == 0
    assert samples['retz_http_requests_total{method="GET",route="/api/v2/jobs/{id}",status="200"}'] == 1
    assert samples['retz_http_requests_total{method="other",route="other",status="404"}'] == 1
    assert samples["retz_up"] == 1 and samples["retz_process_resident_bytes"] > 1e6
    assert samples["retz_journal_bytes"] > 500
    assert samples["retz_journal_sequence"] == site.core.db.durable_seq


async def test_a_failure_shows(site: Site) -> None:
    site.core.dispatcher.failed("gone")
    assert parse((await site.ask("GET", "/metrics", None)).body.decode())["retz_up"] == 0


async def test_a_page_in_many_pieces_is_the_same(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.running()
    whole = parse((await site.ask("GET", "/metrics", None)).body.decode())
    monkeypatch.setattr(metrics, "LINES", 3)
    pieces = parse((await site.ask("GET", "/metrics", None)).body.decode())
    assert {key for key in pieces if "http" not in key} == {key for key in whole if "http" not in key}
    assert pieces["retz_running"] == 1
