"""Agents and masters of the double that fail and come back: what the framework hears, as recorded of a real one."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.doubles.mesos.agent import Agent
from tests.doubles.mesos.cluster import Cluster, ClusterThread
from tests.doubles.mesos.scheduler import (
    CAPABLE,
    CAPABLE_INFO,
    SUBSCRIBE,
    Json,
    ask,
    first_offer,
    play,
    quick,
    request,
    subscribed,
    task,
    turns,
)

# -- agents ------------------------------------------------------------------------------------------------------------


def agent_of(cluster: Cluster) -> Agent:
    return cluster.agents[0]


@pytest.mark.parametrize("aware", [True, False])
def test_an_agent_lost_and_back_with_checkpoint(aware: bool) -> None:
    async def scene(cluster: Cluster) -> None:
        capabilities = [each for each in CAPABLE if aware or each["type"] != "PARTITION_AWARE"]
        info = {**CAPABLE_INFO, "capabilities": capabilities, "checkpoint": True}
        scheduler = await subscribed(cluster, info)
        await scheduler.run(cluster)
        await scheduler.call("REVIVE")
        offer = first_offer(cluster)
        seen = len(scheduler.events)
        agent_of(cluster).crash()
        await scheduler.next("FAILURE")
        rescind, update, failure = scheduler.events[seen:]
        assert rescind == {"type": "RESCIND", "rescind": {"offer_id": {"value": offer.id}}}
        status = update["update"]["status"]
        assert status["state"] == ("TASK_UNREACHABLE" if aware else "TASK_LOST")
        assert (status["reason"], status["message"]) == ("REASON_AGENT_REMOVED", "health check timed out")
        assert "unreachable_time" in status
        assert failure == {"type": "FAILURE", "failure": {"agent_id": {"value": offer.agent_id}}}
        assert await scheduler.status() == status
        agent_of(cluster).restart()
        back = await scheduler.status()
        assert (back["state"], back["reason"], back["message"]) == (
            "TASK_RUNNING",
            "REASON_AGENT_REREGISTERED",
            "Unreachable agent re-reregistered",
        )
        assert "uuid" not in back
        assert list(cluster.framework().tasks) == ["t-1"]
        assert cluster.framework().unreachable_tasks == {}
        await scheduler.close()

    play(scene, timing=quick(agent_ping_timeout=0.01, agent_recovery=0.0))


def test_an_agent_back_in_time_says_nothing() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "checkpoint": True})
        await scheduler.run(cluster)
        agent = agent_of(cluster)
        agent.crash()
        record = cluster.master.agents[agent.id]
        agent.restart()
        await turns(lambda: record.connected)
        assert (await scheduler.reconcile("t-1"))["message"] == "Reconciliation: Latest task state"
        assert cluster.states() == {"TASK_RUNNING": 1}
        await scheduler.close()

    play(scene, timing=quick(agent_recovery=0.0))


def test_what_a_partition_swallowed_is_made_up_for() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "checkpoint": True})
        await scheduler.run(cluster)
        await scheduler.call("REVIVE")
        offer = first_offer(cluster)
        agent_of(cluster).lose()
        await scheduler.launch([offer.id], offer.agent_id, task("t-2"))
        await scheduler.call("KILL", kill={"task_id": {"value": "t-1"}})
        assert cluster.states() == {"TASK_RUNNING": 1, "TASK_STAGING": 1}
        agent_of(cluster).find()
        ends: Json = {}
        while len(ends) < 2:
            status = await scheduler.status()
            ends[status["task_id"]["value"]] = status["state"]
        assert ends == {"t-1": "TASK_KILLED", "t-2": "TASK_DROPPED"}
        await scheduler.close()

    play(scene)


def test_an_agent_that_is_found_while_the_master_hangs_registers_when_it_goes_on() -> None:
    async def scene(cluster: Cluster) -> None:
        agent = agent_of(cluster)
        agent.lose()
        cluster.stall()
        await turns(lambda: agent.id in cluster.master.unreachable)
        agent.find()
        cluster.resume()
        await turns(lambda: agent.id in cluster.master.agents)

    play(scene, timing=quick(agent_ping_timeout=0.01))


def test_without_checkpoint_tasks_are_lost_at_once() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        await scheduler.run(cluster)
        agent_of(cluster).crash()
        status = await scheduler.status()
        assert (status["state"], status["reason"]) == ("TASK_LOST", "REASON_AGENT_DISCONNECTED")
        assert status["message"] == "Agent 127.0.0.1 disconnected"
        assert cluster.states() == {"TASK_LOST": 1}
        await scheduler.close()

    play(scene)


def test_a_graceful_end_gone_and_drained() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "checkpoint": True})
        await scheduler.next("OFFERS")
        offers = list(cluster.framework().offers.values())
        for number, offer in enumerate(offers):
            await scheduler.launch([offer.id], offer.agent_id, task(f"t-{number}"), filters={"refuse_seconds": 0})
        cluster.master.allocate()
        by_id = {agent.id: agent for agent in cluster.agents}
        seen = len(scheduler.events)
        by_id[offers[0].agent_id].shutdown_gracefully()
        assert cluster.master.mark_gone(offers[1].agent_id)
        assert not cluster.master.mark_gone("nobody")
        await scheduler.next("FAILURE")
        await scheduler.next("FAILURE")
        news = [event for event in scheduler.events[seen:] if event["type"] != "OFFERS"]
        ends = [event for event in news if "uuid" not in json.dumps(event)]
        assert [event["type"] for event in ends] == ["UPDATE", "RESCIND", "FAILURE"] * 2
        statuses = [event["update"]["status"] for event in ends if event["type"] == "UPDATE"]
        assert [(each["state"], each["reason"], each["message"]) for each in statuses] == [
            ("TASK_LOST", "REASON_AGENT_REMOVED", "Agent 127.0.0.1 removed: the agent unregistered"),
            ("TASK_GONE_BY_OPERATOR", "REASON_AGENT_REMOVED_BY_OPERATOR", "Agent has been marked gone"),
        ]
        last = offers[2].agent_id
        record = cluster.master.agents[last]
        assert cluster.master.drain(last, {"max_grace_period": {"seconds": 2}})
        assert (await scheduler.next("RESCIND"))["rescind"]
        while record.tasks:
            status = await scheduler.status()
            if "uuid" in status:
                await scheduler.acknowledge(status)
        assert record.draining is not None
        assert record.draining["state"] == "DRAINED"
        cluster.master.allocate()
        assert cluster.framework().offers == {}
        assert cluster.master.reactivate(last)
        cluster.master.allocate()
        assert len(cluster.framework().offers) == 1
        await scheduler.close()

    play(scene, 3)


# -- masters -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("persistent", [True, False])
def test_a_master_killed_and_started_again(persistent: bool) -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "checkpoint": True})
        await scheduler.run(cluster)
        agent, address = agent_of(cluster).id, cluster.address
        away = asyncio.create_task(cluster.fail_over(agents_after=0.5))
        await scheduler.until(lambda: scheduler.ended is not None)
        assert scheduler.ended == "connection lost"
        await turns(lambda: cluster.master.ready)
        assert cluster.address == address
        assert (await scheduler.call("REVIVE")).body == "Framework cannot be found"
        again = await subscribed(cluster, {**CAPABLE_INFO, "checkpoint": True, "id": {"value": scheduler.id}})
        assert again.id == scheduler.id
        await again.call(
            "RECONCILE", reconcile={"tasks": [{"task_id": {"value": "t-1"}, "agent_id": {"value": agent}}]}
        )
        await away
        if persistent:
            offers = await again.next("OFFERS")
            assert offers["offers"]["offers"][0]["agent_id"]["value"] == agent
            assert not any(event["type"] == "UPDATE" for event in again.events)
        else:
            assert (await again.status())["state"] == "TASK_UNKNOWN"
            back = await again.status()
            assert (back["state"], back["message"]) == ("TASK_RUNNING", "Unknown agent reregistered")
        assert (await again.reconcile("t-1"))["state"] == "TASK_RUNNING"
        await again.close()
        await scheduler.close()

    play(scene, persistent=persistent)


def test_a_result_that_nobody_acknowledged_outlives_the_master() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "checkpoint": True})
        offer = first_offer(cluster)
        await scheduler.launch([offer.id], offer.agent_id, task("t-1", "false"))
        for _ in range(2):
            await scheduler.acknowledge(await scheduler.status())
        end = await scheduler.status()
        assert end["state"] == "TASK_FAILED"
        await scheduler.close()
        await cluster.fail_over()
        assert cluster.states() == {"TASK_FAILED": 1}
        again = await subscribed(cluster, {**CAPABLE_INFO, "checkpoint": True, "id": {"value": scheduler.id}})
        assert await again.status() == end
        await again.acknowledge(end)
        assert cluster.framework().tasks == {}
        assert cluster.unacknowledged() == []
        await again.close()

    play(scene)


def test_a_master_that_recovers_says_503() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.timing.recovery = 1000.0
        away = asyncio.create_task(cluster.fail_over())
        await turns(lambda: cluster.master.recovering)
        reply = await ask(cluster.address, request(SUBSCRIBE))
        assert (reply.status, reply.body) == (503, "Master has not finished recovery")
        away.cancel()

    play(scene, 0)


def test_followers_redirect_to_the_leader_even_when_it_is_dead() -> None:
    async def scene(cluster: Cluster) -> None:
        first, second, third = cluster.addresses
        reply = await ask(second, request(b"not even JSON"))
        assert (reply.status, reply.body) == (307, "")
        assert reply.values["Location"] == f"//{first}/master/api/v1/scheduler"
        for address in (first, second):
            reply = await ask(address, request(method="GET", path="/redirect"))
            assert reply.values["Location"] == f"//{first}"
        away = asyncio.create_task(cluster.fail_over_to(1, election=0.2))
        await turns(lambda: not cluster.masters[0].leading)
        reply = await ask(third, request(SUBSCRIBE))
        assert reply.values["Location"] == f"//{first}/master/api/v1/scheduler"
        await away
        reply = await ask(third, request(SUBSCRIBE))
        assert reply.values["Location"] == f"//{second}/master/api/v1/scheduler"
        await cluster.revive(0)
        scheduler = await subscribed(cluster)
        assert (await scheduler.next("OFFERS"))["offers"]["offers"][0]["agent_id"]["value"] == agent_of(cluster).id
        assert cluster.address == second
        await scheduler.close()

    play(scene, masters=3)


def test_a_stalled_master_answers_when_it_goes_on() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        await scheduler.next("OFFERS")
        cluster.stall()
        waiting = asyncio.create_task(scheduler.call("SUPPRESS"))
        cluster.send_raw_event(b'{"type":"WHATEVER"}')
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        assert scheduler.events[-1]["type"] == "OFFERS"
        cluster.resume()
        assert (await waiting).status == 202
        await scheduler.next("WHATEVER")
        await scheduler.close()

    play(scene)


def test_streams_are_dropped_and_updates_disturbed() -> None:
    async def scene(cluster: Cluster) -> None:
        cluster.disturb_updates(duplicate=1.0, delay=(0.001, 0.002))
        scheduler = await subscribed(cluster)
        offer = first_offer(cluster)
        await scheduler.launch([offer.id], offer.agent_id, task("t-1", "true"))
        first, second = await scheduler.status(), await scheduler.status()
        assert first == second
        cluster.calm_updates()
        await scheduler.acknowledge(first)
        assert (await scheduler.status())["state"] == "TASK_RUNNING"
        cluster.drop_streams()
        await scheduler.until(lambda: scheduler.ended is not None)
        assert scheduler.ended == "connection lost"
        await scheduler.close()

    play(scene)


def test_a_call_on_the_streams_own_connection_is_done() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        body = {"framework_id": {"value": scheduler.id}, "type": "SUPPRESS"}
        scheduler._writer.write(request(body, headers={"Mesos-Stream-Id": scheduler.head.values["Mesos-Stream-Id"]}))
        await turns(lambda: cluster.framework().suppressed)
        scheduler._reading.cancel()
        scheduler._writer.close()

    play(scene, 0)


def test_a_cluster_in_a_thread_of_its_own() -> None:
    with ClusterThread(lambda: Cluster(3, timing=quick())) as thread:
        assert thread.do(lambda cluster: len(cluster.master.agents)) == 3
        assert thread.address.startswith("127.0.0.1:")
        thread.do(lambda cluster: cluster.fail_over())
        assert thread.do(lambda cluster: sorted(cluster.unoffered()) == sorted(cluster.master.agents))
