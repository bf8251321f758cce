"""Tasks that are gone without a word: whoever does not ask never learns of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retz.engine.mesos.reconciling import IMPLICIT_EVERY_S

from .mesos_site import MesosSite, mesos

pytestmark = pytest.mark.anyio


def forget(site: MesosSite, task: str) -> str:
    """Master and agent know nothing of a task any more; its agent's id."""
    framework = site.cluster.framework()
    record = framework.tasks[task]
    site.cluster.master.remove_task(framework, record)
    for agent in site.cluster.agents:
        if agent.id == record.agent_id:
            agent._end(agent.runs[framework.id, task])
    return record.agent_id


async def test_a_task_that_is_forgotten_is_missed_at_the_next_round_of_questions(tmp_path: Path) -> None:
    async with mesos(tmp_path) as site:
        job_id = await site.running()
        await site.until(lambda: site.cluster.bodies("RECONCILE"))  # of the subscription
        forget(site, f"{job_id}.1")
        site.clock.ahead += IMPLICIT_EVERY_S + 61.0
        await site.until(lambda: site.live() == [f"{job_id}.2"])
        lost = site.job(job_id).attempts[0]
        assert lost.reason == "lost" and "does not know it" in (lost.message or "")


async def test_a_task_that_went_with_its_agent_is_missed_at_once(tmp_path: Path) -> None:
    async with mesos(tmp_path) as site:
        job_id = await site.running()
        agent = forget(site, f"{job_id}.1")
        failure = {"type": "FAILURE", "failure": {"agent_id": {"value": agent}}}
        site.cluster.send_raw_event(json.dumps(failure).encode())
        await site.until(lambda: site.live() == [f"{job_id}.2"])
        assert site.job(job_id).attempts[0].reason == "lost"
