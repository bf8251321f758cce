"""The driver child against the double of a cluster: what a job needs of it, and what masters do to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from retz.engine.base import Task
from retz.engine.mesos.wire import (
    Accept,
    Accepted,
    Ack,
    Acknowledge,
    Entry,
    Kill,
    Launch,
    Malformed,
    MesosOffer,
    NotAccepted,
    Offers,
    Reconcile,
    Refused,
    Rescinded,
    Status,
    Statuses,
    Subscribed,
    TaskRef,
)
from retz.model.resources import Resources
from tests.doubles.mesos.cluster import Cluster
from tests.doubles.mesos.model import Timing
from tests.doubles.watched_child import Watched

CAPABILITIES = [{"type": name} for name in ("MULTI_ROLE", "PARTITION_AWARE", "TASK_KILLING_STATE", "GPU_RESOURCES")]
INFO: dict[str, Any] = {
    "name": "retz",
    "user": "root",
    "roles": ["*"],
    "checkpoint": True,
    "failover_timeout": 3600.0,
    "capabilities": CAPABILITIES,
}
QUICK = Timing(allocation_interval=0.05, executor_linger=0.01)


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await main()

    asyncio.run(whole())


def driver(cluster: Cluster, address: str = "") -> Watched:
    return Watched(address or cluster.address, "driver", info=INFO)


def offers(child: Watched) -> list[MesosOffer]:
    return [offer for message in child.of(Offers) for offer in message.offers]


def statuses(child: Watched, task: str) -> list[Status]:
    return [status for message in child.of(Statuses) for status in message.statuses if status.task == task]


def states(child: Watched, task: str) -> list[str]:
    return [status.state for status in statuses(child, task)]


def task(name: str, agent: str) -> Launch:
    mine = {"allocation_info": {"role": "*"}}
    return Launch(
        Task(id=name, agent=agent, command="sleep 1000", environment={}, resources=Resources(cpus=0.1, mem=32)),
        [Entry("cpus", 0.1, (), mine), Entry("mem", 32.0, (), mine)],
    )


async def launch(child: Watched, name: str) -> MesosOffer:
    """Run a task on the first offer, acknowledging all updates from now on."""
    await child.until(lambda: bool(offers(child)))
    offer = offers(child)[-1]

    def acknowledge(message: Any) -> None:
        child.heard.append(message)
        if isinstance(message, Statuses):
            acks = [Ack(each.task, each.agent, each.uuid) for each in message.statuses if each.uuid]
            child.child.send(Acknowledge(acks))

    child.on_message = acknowledge
    child.child.send(Accept(1, [offer.id], [task(name, offer.agent)]))
    await child.until(lambda: "TASK_RUNNING" in states(child, name))
    return offer


def test_a_task_from_offer_to_end() -> None:
    async def main() -> None:
        async with Cluster(2, timing=QUICK) as cluster, driver(cluster) as child:
            offer = await launch(child, "t")
            assert child.of(Accepted) == [Accepted(1)]
            child.child.send(Kill([TaskRef("t", offer.agent)]))
            await child.until(lambda: "TASK_KILLED" in states(child, "t"))
            assert states(child, "t") == ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"]
            child.child.send(Reconcile([TaskRef("t", offer.agent), TaskRef("never")]))
            await child.until(lambda: bool(states(child, "never")))
            assert states(child, "never") == ["TASK_UNKNOWN"]
            assert child.of(Malformed) == []
            assert cluster.teardowns == 0
        assert cluster.teardowns == 0

    run(main)


def test_a_master_that_is_killed_and_comes_back() -> None:
    async def main() -> None:
        async with Cluster(1, timing=QUICK) as cluster, driver(cluster) as child:
            await launch(child, "t")
            first = child.of(Subscribed)[0]
            await cluster.fail_over(away=0.3)
            await child.until(lambda: len(child.of(Subscribed)) == 2)
            assert child.of(Subscribed)[1].framework == first.framework
            child.child.send(Reconcile([TaskRef("t")]))
            await child.until(lambda: states(child, "t").count("TASK_RUNNING") >= 2)
            assert child.gone == [] and cluster.teardowns == 0

    run(main)


@pytest.mark.parametrize("asked", [1, 2], ids=["next-leader", "another"])
def test_another_master_leads(asked: int) -> None:
    """Redirected to the leader; when it dies the others name it for a while, and then its successor."""

    async def main() -> None:
        async with (
            Cluster(1, masters=3, timing=QUICK) as cluster,
            driver(cluster, cluster.addresses[asked]) as child,
        ):
            await launch(child, "t")
            assert child.of(Subscribed)[0].master == cluster.addresses[0]
            await cluster.fail_over_to(1, election=0.5)
            await child.until(lambda: len(child.of(Subscribed)) == 2)
            assert child.of(Subscribed)[1].master == cluster.addresses[1]
            child.child.send(Reconcile([TaskRef("t")]))
            await child.until(lambda: states(child, "t").count("TASK_RUNNING") >= 2)
            assert child.gone == [] and cluster.teardowns == 0

    run(main)


def test_streams_that_break_and_events_that_are_none() -> None:
    async def main() -> None:
        async with Cluster(1, timing=QUICK) as cluster, driver(cluster) as child:
            await launch(child, "t")
            cluster.send_raw_event(b"{")
            await child.until(lambda: bool(child.of(Malformed)))
            cluster.drop_streams()
            await child.until(lambda: len(child.of(Subscribed)) == 2)
            before = len(offers(child))
            await child.until(lambda: len(offers(child)) > before or len(child.of(Offers)) >= 2)
            assert cluster.teardowns == 0 and len(cluster.live_attempts("-")[""]) == 1

    run(main)


def test_two_with_one_id_do_not_throw_each_other_out() -> None:
    async def main() -> None:
        async with Cluster(1, timing=QUICK) as cluster, driver(cluster) as first:
            await first.until(lambda: bool(first.of(Subscribed)))
            info = INFO | {"id": {"value": first.of(Subscribed)[0].framework}}
            async with Watched(cluster.address, "driver", info=info) as second:
                await first.until(lambda: [each.kind for each in first.of(Refused)] == ["superseded"])
                await second.until(lambda: bool(offers(second)))
                first.child.send(Accept(9, ["o"], []))
                await first.until(lambda: [each.certain for each in first.of(NotAccepted)] == [True])
                assert len(cluster.bodies("SUBSCRIBE")) == 2
            assert cluster.teardowns == 0

    run(main)


def test_offers_that_are_taken_back() -> None:
    async def main() -> None:
        timing = Timing(allocation_interval=0.05, offer_timeout=0.1)
        async with Cluster(1, timing=timing) as cluster, driver(cluster) as child:
            await child.until(lambda: bool(child.of(Rescinded)))
            assert child.of(Rescinded)[0].offers == [offers(child)[0].id]

    run(main)


@pytest.mark.parametrize("secret", ["s", "wrong"])
def test_a_master_that_asks_who_we_are(secret: str) -> None:
    async def main() -> None:
        async with Cluster(1, timing=QUICK, credentials={"retz": "s"}) as cluster, driver(cluster) as child:
            await child.until(lambda: bool(child.of(Refused)))
            assert "set retz.mesos.principal" in child.of(Refused)[0].why
            info = INFO | {"principal": "retz"}
            child.child.send(child.first(principal="retz", secret=secret, framework=info))
            if secret == "s":
                await child.until(lambda: bool(child.of(Subscribed)))
            else:
                await child.until(lambda: len(child.of(Refused)) == 2)
                assert "does not accept retz.mesos.principal" in child.of(Refused)[1].why

    run(main)
