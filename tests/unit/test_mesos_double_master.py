"""Frameworks, offers, launches, reconciliation: the double's master answers as the recordings of a real one say."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.doubles.mesos.cluster import AgentSpec, Cluster
from tests.doubles.mesos.scheduler import (
    CAPABLE,
    CAPABLE_INFO,
    PLAIN_INFO,
    Json,
    first_offer,
    play,
    quick,
    scalar,
    subscribed,
    task,
    turns,
)

# -- subscription ------------------------------------------------------------------------------------------------------


def test_subscribed_heartbeat_offers() -> None:
    specs = [AgentSpec(gpus=2, attributes={"rack": "r1", "level": 3.0}), AgentSpec(gpus=2)]

    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        await scheduler.next("OFFERS")
        assert [event["type"] for event in scheduler.events[:2]] == ["SUBSCRIBED", "HEARTBEAT"]
        assert scheduler.head.headers == ["Date", "Transfer-Encoding", "Mesos-Stream-Id", "Content-Type"]
        first = scheduler.events[0]["subscribed"]
        assert list(first) == ["framework_id", "heartbeat_interval_seconds", "master_info"]
        assert first["master_info"]["ip"] == 16777343
        offers = {offer["agent_id"]["value"]: offer for offer in scheduler.events[2]["offers"]["offers"]}
        offer = offers[cluster.agents[0].id]
        assert list(offer) == [
            *("id", "framework_id", "agent_id", "hostname", "url", "resources", "attributes", "allocation_info")
        ]
        assert [each["name"] for each in offer["resources"]] == ["ports", "cpus", "mem", "disk", "gpus"]
        assert offer["resources"][1] == scalar("cpus", 2.0, role="*", allocation_info={"role": "team"})
        assert offer["attributes"] == [
            {"name": "rack", "type": "TEXT", "text": {"value": "r1"}},
            {"name": "level", "type": "SCALAR", "scalar": {"value": 3.0}},
        ]
        await scheduler.close()

    play(scene, specs)


def test_without_multi_role_nothing_says_for_which_role_it_is() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, PLAIN_INFO)
        event = await scheduler.next("OFFERS")
        assert "allocation_info" not in json.dumps(event)
        assert first_offer(cluster).role == "*"
        await scheduler.close()

    play(scene)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (
            {"roles": ["eng"]},
            "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable",
        ),
        (
            {"role": "eng", "capabilities": CAPABLE},
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable",
        ),
        ({"roles": ["a", "a"], "capabilities": CAPABLE}, "'FrameworkInfo.roles' contains duplicate items: { a }"),
        (
            {"roles": ["-x"], "capabilities": CAPABLE},
            "'FrameworkInfo.roles' contains invalid role: Role component '-x' is invalid because it starts with a dash",
        ),
    ],
)
def test_a_framework_that_is_refused_gets_one_error_and_the_last_chunk(info: Json, message: str) -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**PLAIN_INFO, **info})
        await scheduler.until(lambda: scheduler.ended is not None)
        assert scheduler.head.status == 200
        assert scheduler.events == [{"type": "ERROR", "error": {"message": message}}]
        assert scheduler.ended == "last chunk"
        await scheduler.close()

    play(scene, 0)


def test_a_second_stream_takes_over() -> None:
    async def scene(cluster: Cluster) -> None:
        old = await subscribed(cluster)
        await old.next("OFFERS")
        new = await subscribed(cluster, {**CAPABLE_INFO, "id": {"value": old.id}})
        await old.until(lambda: old.ended is not None)
        assert old.events[-1] == {"type": "ERROR", "error": {"message": "Framework failed over"}}
        assert old.ended == "last chunk"
        assert (await old.call("REVIVE")).status == 400
        assert (new.id, cluster.framework().offers) == (old.id, {})
        assert (await new.call("REVIVE")).status == 202
        await new.next("OFFERS")
        await old.close()
        await new.close()

    play(scene)


def test_an_id_nobody_saw_is_accepted() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "id": {"value": "my-own"}})
        assert scheduler.id == "my-own"
        await scheduler.close()

    play(scene, 0)


def test_a_disconnected_framework_waits_for_its_failover_timeout() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        running = await scheduler.run(cluster)
        framework = cluster.framework()
        await scheduler.close()
        await turns(lambda: not framework.connected)
        reply = await scheduler.call("TEARDOWN")
        assert (reply.status, reply.body) == (403, "Framework is not subscribed")
        assert framework.offers == {}
        again = await subscribed(cluster, {**CAPABLE_INFO, "id": {"value": scheduler.id}})
        assert (await again.reconcile("t-1"))["state"] == "TASK_RUNNING"
        assert (await again.reconcile("t-1"))["container_status"] == running["container_status"]
        await again.close()

    play(scene)


def test_unacknowledged_updates_come_again_at_once_after_resubscription() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        offer = first_offer(cluster)
        await scheduler.launch([offer.id], offer.agent_id, task("t-1", "true"))
        starting = await scheduler.status()
        await scheduler.close()
        assert cluster.unacknowledged() == ["t-1"]
        again = await subscribed(cluster, {**CAPABLE_INFO, "id": {"value": scheduler.id}})
        assert await again.status() == starting
        for state in ("TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"):
            assert starting["state"] == state
            await again.acknowledge(starting)
            starting = starting if state == "TASK_FINISHED" else await again.status()
        assert cluster.unacknowledged() == []
        assert cluster.framework().tasks == {}
        await again.close()

    play(scene)


@pytest.mark.parametrize("how", ["teardown", "timeout"])
def test_a_removed_framework_never_comes_back(how: str) -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "failover_timeout": 0.0})
        await scheduler.run(cluster)
        seen = len(scheduler.events)
        framework = cluster.framework()
        if how == "teardown":
            assert (await scheduler.call("TEARDOWN")).status == 202
            await scheduler.until(lambda: scheduler.ended is not None)
            assert (scheduler.ended, len(scheduler.events)) == ("last chunk", seen)
        await scheduler.close()
        await turns(lambda: not cluster.master.frameworks)
        assert [(task.id, task.state) for task in framework.completed_tasks] == [("t-1", "TASK_KILLED")]
        assert cluster.live_attempts("job") == {}
        assert cluster.teardowns == (1 if how == "teardown" else 0)
        assert (await scheduler.call("REVIVE")).body == "Framework cannot be found"
        again = await subscribed(cluster, {**CAPABLE_INFO, "id": {"value": scheduler.id}})
        assert again.events == [{"type": "ERROR", "error": {"message": "Framework has been removed"}}]
        await again.close()

    play(scene)


# -- offers ------------------------------------------------------------------------------------------------------------


def test_filters_suppression_and_revival() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        master, framework = cluster.master, cluster.framework()

        async def decline(filters: Json | None = None) -> int:
            """Offers of the next round."""
            offer = first_offer(cluster)
            message: Json = {"offer_ids": [{"value": offer.id}]}
            await scheduler.call("DECLINE", decline=message if filters is None else {**message, "filters": filters})
            assert framework.offers == {}
            master.allocate()
            return len(framework.offers)

        assert await decline({"refuse_seconds": 0}) == 1
        for filters in (None, {"refuse_seconds": -1}, {"refuse_seconds": 5}):
            assert await decline(filters) == 0
            [[(until, _)]] = master.allocator.filters.values()
            assert 4000 < until - asyncio.get_running_loop().time() <= 5000
            await scheduler.call("REVIVE")
            assert len(framework.offers) == 1
        await scheduler.call("SUPPRESS")
        assert len(framework.offers) == 1
        assert await decline({"refuse_seconds": 0}) == 0
        await scheduler.call("REVIVE", revive={"roles": ["team"]})
        assert len(framework.offers) == 1
        await scheduler.call("SUPPRESS", suppress={"roles": ["nosuchrole"]})
        assert await decline({"refuse_seconds": 0}) == 1
        await scheduler.close()

    play(scene)


def test_a_filter_ends_and_holds_back_only_what_was_refused() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        framework = cluster.framework()
        offer = first_offer(cluster)
        await scheduler.launch([offer.id], offer.agent_id, task("t-1", "sleep 0"), filters={"refuse_seconds": 3600})
        cluster.master.allocate()
        assert framework.offers == {}
        for _ in range(3):
            await scheduler.acknowledge(await scheduler.status())
        cluster.master.allocate()
        [more] = framework.offers.values()
        assert more.amount.scalars == offer.amount.scalars
        await scheduler.call("DECLINE", decline={"offer_ids": [{"value": more.id}]})
        cluster.master.allocate()
        assert framework.offers == {}
        for refused in cluster.master.allocator.filters.values():
            refused[:] = [(asyncio.get_running_loop().time(), bundle) for _, bundle in refused]
        cluster.master.allocate()
        assert (len(framework.offers), cluster.master.allocator.filters) == (1, {})
        await scheduler.close()

    play(scene)


def test_gpu_agents_are_not_offered_to_frameworks_without_the_capability() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, PLAIN_INFO)
        await scheduler.next("OFFERS")
        assert first_offer(cluster).agent_id == cluster.agents[1].id
        assert list(cluster.unoffered()) == [cluster.agents[0].id]
        await scheduler.close()

    play(scene, [AgentSpec(gpus=2), AgentSpec()])


def test_roles_share_agents() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "roles": ["eng", "ops"]}, suppressed_roles=[])
        await scheduler.next("OFFERS")
        assert {offer.role for offer in cluster.framework().offers.values()} == {"eng", "ops"}
        other = await subscribed(cluster, {**CAPABLE_INFO, "id": {"value": scheduler.id}}, suppressed_roles=["team"])
        cluster.master.allocate()
        assert cluster.framework().offers == {}
        await scheduler.close()
        await other.close()

    play(scene, 2)


def test_reserved_resources_are_offered_to_their_role_only() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        cluster.master.allocate()
        assert cluster.framework().offers == {}
        other = await subscribed(cluster, {**CAPABLE_INFO, "roles": ["eng"]})
        event = await other.next("OFFERS")
        roles = {each["role"] for each in event["offers"]["offers"][0]["resources"]}
        assert roles == {"eng"}
        await scheduler.close()
        await other.close()

    play(scene, [AgentSpec(role="eng")])


def test_offers_time_out() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        offered = (await scheduler.next("OFFERS"))["offers"]["offers"][0]
        rescinded = await scheduler.next("RESCIND")
        assert rescinded == {"type": "RESCIND", "rescind": {"offer_id": offered["id"]}}
        await scheduler.launch([offered["id"]["value"]], offered["agent_id"]["value"], task("t-1"))
        assert (await scheduler.status())["reason"] == "REASON_INVALID_OFFERS"
        await scheduler.close()

    play(scene, timing=quick(offer_timeout=0.0))


# -- launching ---------------------------------------------------------------------------------------------------------


def test_a_task_from_launch_to_end() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        offer = first_offer(cluster)
        reply = await scheduler.launch([offer.id], offer.agent_id, task("t-1", "true"))
        assert reply.status == 202
        states = []
        for _ in range(3):
            status = await scheduler.status()
            states.append((status["state"], status.get("message"), status["source"]))
            await scheduler.acknowledge(status)
        assert states == [
            ("TASK_STARTING", None, "SOURCE_EXECUTOR"),
            ("TASK_RUNNING", None, "SOURCE_EXECUTOR"),
            ("TASK_FINISHED", "Command exited with status 0", "SOURCE_EXECUTOR"),
        ]
        assert (await scheduler.reconcile("t-1", offer.agent_id))["state"] == "TASK_GONE"
        await scheduler.close()

    play(scene)


def refused_tasks() -> list[Any]:
    more = "cpus(allocated: team):2; mem(allocated: team):2048; disk(allocated: team):4096"
    available = f"more than available ports(allocated: team):[31000-31100]; {more}"
    other = {"allocation_info": {"role": "other"}}
    return [
        (
            task("t-1", cpus=100),
            "Total resources cpus(allocated: team):100; mem(allocated: team):32 required by task and its executor is "
            + available,
        ),
        (
            {**task("t-1"), "resources": [scalar("cpus", 0.1, **other), scalar("mem", 32, **other)]},
            "Total resources cpus(allocated: other):0.1; mem(allocated: other):32 required by task and its executor is "
            + available,
        ),
        (task("t/slash"), "'t/slash' contains invalid characters"),
        (task(""), "ID must not be empty"),
        (task("x" * 256), "ID must not be greater than 255 characters"),
        (task("t-1", agent_id={"value": "nobody"}), "Task uses invalid agent nobody while agent AGENT is expected"),
        (
            task("t-1", None),
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
        ),
        ({**task("t-1"), "resources": []}, "Task uses no resources"),
        (task("t-1", cpus=-1), "Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0"),
        (
            {**task("t-1"), "resources": [scalar("gpus", 0.5)]},
            "Task uses invalid resources: Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer",
        ),
    ]


@pytest.mark.parametrize(("info", "message"), refused_tasks())
@pytest.mark.parametrize("aware", [True, False])
def test_a_task_that_is_refused(info: Json, message: str, aware: bool) -> None:
    async def scene(cluster: Cluster) -> None:
        capabilities = [each for each in CAPABLE if aware or each["type"] != "PARTITION_AWARE"]
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "capabilities": capabilities})
        offer = first_offer(cluster)
        await scheduler.launch([offer.id], offer.agent_id, info)
        status = await scheduler.status()
        assert list(status) == ["task_id", "state", "message", "source", "reason", "agent_id", "timestamp"]
        assert (status["state"], status["reason"]) == ("TASK_ERROR", "REASON_TASK_INVALID")
        assert status["message"] == message.replace("AGENT", offer.agent_id)
        assert cluster.framework().tasks == {}
        await scheduler.close()

    play(scene)


def test_earlier_tasks_use_up_the_offer_and_a_duplicate_id_is_no_end() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        offer = first_offer(cluster)
        infos = [task("t-1", cpus=1.5), task("t-2", cpus=1.5), task("t-1", cpus=0.1), task("t-3", cpus=0.5)]
        await scheduler.launch([offer.id], offer.agent_id, *infos)
        errors = [await scheduler.status() for _ in range(2)]
        assert [(each["task_id"]["value"], each["state"]) for each in errors] == [
            ("t-2", "TASK_ERROR"),
            ("t-1", "TASK_ERROR"),
        ]
        assert "cpus(allocated: team):0.5" in errors[0]["message"]
        assert errors[1]["message"] == "Task has duplicate ID: t-1"
        assert list(cluster.framework().tasks) == ["t-1", "t-3"]
        await scheduler.close()

    play(scene)


@pytest.mark.parametrize(("aware", "state"), [(True, "TASK_DROPPED"), (False, "TASK_LOST")])
def test_offers_that_are_not_valid(aware: bool, state: str) -> None:
    async def scene(cluster: Cluster) -> None:
        capabilities = [each for each in CAPABLE if aware or each["type"] != "PARTITION_AWARE"]
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "capabilities": capabilities})
        framework = cluster.framework()

        async def refused(offers: list[str], agent: str) -> str:
            await scheduler.launch(offers, agent, task("t-1"))
            status = await scheduler.status()
            assert (status["state"], status["reason"]) == (state, "REASON_INVALID_OFFERS")
            assert status["agent_id"]["value"] == agent
            return str(status["message"]).removeprefix("Task launched with invalid offers: ")

        first_offer(cluster)
        one, two = framework.offers.values()
        assert await refused(["zzz"], one.agent_id) == "Offer zzz is no longer valid"
        assert await refused([], one.agent_id) == "No offers specified"
        assert await refused([one.id, two.id], one.agent_id) == (
            "Aggregated offers must belong to one single agent."
            f" Offer {two.id} uses agent {two.agent_id} and agent {one.agent_id}"
        )
        assert framework.offers == {}
        again = first_offer(cluster)
        assert await refused([again.id, again.id], again.agent_id) == f"Duplicate offer {again.id} in offer list"
        assert await refused([again.id], again.agent_id) == f"Offer {again.id} is no longer valid"
        assert (
            await scheduler.call("ACCEPT", accept={"offer_ids": [{"value": "zzz"}], "operations": []})
        ).status == 202
        await scheduler.close()

    play(scene, 2)


def test_several_offers_of_one_agent_make_one_launch() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        framework = cluster.framework()
        offer = first_offer(cluster)
        now = {"refuse_seconds": 0}
        await scheduler.launch([offer.id], offer.agent_id, task("t-1", "true", cpus=1.5), filters=now)
        cluster.master.allocate()
        for _ in range(3):
            await scheduler.acknowledge(await scheduler.status())
        cluster.master.allocate()
        assert sorted(each.amount.amount("cpus") for each in framework.offers.values()) == [500, 1500]
        await scheduler.launch(list(framework.offers), offer.agent_id, task("t-2", cpus=2))
        assert (await scheduler.status())["state"] == "TASK_STARTING"
        await scheduler.close()

    play(scene)


def test_a_group_starts_whole_or_not_at_all() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)

        async def launch(*tasks: Json) -> list[tuple[str, str]]:
            offer = first_offer(cluster)
            infos = [{"name": "t", "agent_id": {"value": offer.agent_id}, **each} for each in tasks]
            executor = {"type": "DEFAULT", "executor_id": {"value": "ex"}, "resources": [scalar("cpus", 0.1)]}
            group = {"executor": executor, "task_group": {"tasks": infos}}
            operations = [{"type": "LAUNCH_GROUP", "launch_group": group}]
            offers = [{"value": offer.id}]
            no_filter = {"refuse_seconds": 0}
            accept = {"offer_ids": offers, "operations": operations, "filters": no_filter}
            await scheduler.call("ACCEPT", accept=accept)
            statuses = [await scheduler.status() for _ in tasks]
            return sorted((each["task_id"]["value"], each["state"]) for each in statuses)

        assert await launch(task("p1"), task("p2", cpus=3)) == [("p1", "TASK_ERROR"), ("p2", "TASK_ERROR")]
        assert await launch(task("p3"), task("p4")) == [("p3", "TASK_STARTING"), ("p4", "TASK_STARTING")]
        await scheduler.close()

    play(scene)


# -- reconciliation and kill -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aware", [True, False])
def test_reconciliation(aware: bool) -> None:
    async def scene(cluster: Cluster) -> None:
        capabilities = [each for each in CAPABLE if aware or each["type"] != "PARTITION_AWARE"]
        scheduler = await subscribed(cluster, {**CAPABLE_INFO, "capabilities": capabilities, "checkpoint": True})
        agent = cluster.agents[0].id
        await scheduler.run(cluster)

        async def asked(name: str, where: str | None = None) -> tuple[str, str]:
            status = await scheduler.reconcile(name, where)
            assert (status["source"], status["reason"]) == ("SOURCE_MASTER", "REASON_RECONCILIATION")
            assert "uuid" not in status
            return status["state"], str(status["message"]).removeprefix("Reconciliation: ")

        def lost(state: str) -> str:
            return state if aware else "TASK_LOST"

        for where in (agent, None, "nosuch-S9"):
            assert await asked("t-1", where) == ("TASK_RUNNING", "Latest task state")
        assert await asked("xx", agent) == (lost("TASK_GONE"), "Task is unknown to the agent")
        assert await asked("yy") == (lost("TASK_UNKNOWN"), "Task is unknown")
        assert await asked("zz", "nosuch-S9") == (lost("TASK_UNKNOWN"), "Task is unknown")
        await scheduler.call("RECONCILE", reconcile={"tasks": []})
        assert (await scheduler.status())["task_id"]["value"] == "t-1"
        cluster.agents[0].crash()
        await scheduler.next("FAILURE")
        assert (await scheduler.status())["state"] == lost("TASK_UNREACHABLE")
        await scheduler.call("RECONCILE", reconcile={"tasks": []})
        status = await scheduler.reconcile("t-1", agent)
        assert (status["state"], status["message"]) == (
            lost("TASK_UNREACHABLE"),
            "Reconciliation: Task is unreachable",
        )
        assert "unreachable_time" in status
        assert cluster.master.mark_gone(agent)
        assert await asked("t-1", agent) == (lost("TASK_GONE_BY_OPERATOR"), "Task is gone")
        await scheduler.close()

    play(scene, timing=quick(agent_ping_timeout=0.0))


def test_kill() -> None:
    async def scene(cluster: Cluster) -> None:
        scheduler = await subscribed(cluster)
        await scheduler.run(cluster)

        async def kill(name: str, agent: str | None = None) -> Json:
            message: Json = {"task_id": {"value": name}}
            if agent is not None:
                message["agent_id"] = {"value": agent}
            assert (await scheduler.call("KILL", kill=message)).status == 202
            return await scheduler.status()

        killed = await kill("t-1")
        assert (killed["state"], killed["message"]) == ("TASK_KILLED", "Command terminated with signal Terminated")
        await scheduler.acknowledge(killed)
        agent = cluster.agents[0].id
        assert (await kill("t-1", agent))["state"] == "TASK_GONE"
        unknown = await kill("never")
        assert (unknown["state"], unknown["message"]) == ("TASK_UNKNOWN", "Reconciliation: Task is unknown")
        assert "agent_id" not in unknown
        await scheduler.close()

    play(scene)
