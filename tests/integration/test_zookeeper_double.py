"""The double of ZooKeeper, seen by the client library that looks for masters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.doubles.zookeeper import GET_CHILDREN, GET_CHILDREN2, ZooKeeper

kazoo_client = pytest.importorskip("kazoo.client")
kazoo_exceptions = pytest.importorskip("kazoo.exceptions")
watchers = pytest.importorskip("kazoo.recipe.watchers")

pytestmark = pytest.mark.anyio


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (the client's threads have no event for it)
            await asyncio.sleep(0.005)


@pytest.fixture
async def zookeeper() -> AsyncIterator[ZooKeeper]:
    async with ZooKeeper(longest_session_s=2.0) as server:
        yield server


@pytest.fixture
async def client(zookeeper: ZooKeeper) -> AsyncIterator[Any]:
    client = kazoo_client.KazooClient(
        f"{zookeeper.hosts}/mesos", 2.0, connection_retry={"max_tries": -1, "delay": 0.05}
    )
    await asyncio.to_thread(client.start)
    yield client
    await asyncio.to_thread(client.stop)
    await asyncio.to_thread(client.close)


async def test_masters_are_found_as_recorded(zookeeper: ZooKeeper, client: Any) -> None:
    zookeeper.add_log_replicas()
    zookeeper.add_master("127.0.0.1", 5050, id="a9ff391f-4b58-4a71-807d-95bbf19d1a7b")
    zookeeper.add_master("127.0.0.1", 5060)
    names = sorted(await asyncio.to_thread(client.get_children, "/"))
    assert names == ["json.info_0000000000", "json.info_0000000001", "log_replicas"]
    data, stat = await asyncio.to_thread(client.get, f"/{names[0]}")
    assert data == (
        b'{"address":{"hostname":"127.0.0.1","ip":"127.0.0.1","port":5050},"capabilities":[{"type":"AGENT_UPDATE"},'
        b'{"type":"AGENT_DRAINING"},{"type":"QUOTA_V2"}],"hostname":"127.0.0.1",'
        b'"id":"a9ff391f-4b58-4a71-807d-95bbf19d1a7b","ip":16777343,"pid":"master@127.0.0.1:5050","port":5050,'
        b'"version":"1.12.0"}'
    )
    assert (stat.ephemeralOwner != 0, stat.dataLength) == (True, len(data))


async def test_nodes_are_made_changed_and_removed(client: Any) -> None:
    assert await asyncio.to_thread(client.create, "/a", b"1") == "/a"
    path = await asyncio.to_thread(lambda: client.create("/a/n_", b"x", ephemeral=True, sequence=True))
    assert path == "/a/n_0000000000"
    assert (await asyncio.to_thread(client.exists, path)).ephemeralOwner == client.client_id[0]
    assert await asyncio.to_thread(client.exists, "/none") is None
    assert (await asyncio.to_thread(client.set, "/a", b"22")).version == 1
    assert (await asyncio.to_thread(client.get, "/a"))[0] == b"22"
    for error, call in (
        ("NodeExistsError", lambda: client.create("/a", b"")),
        ("NotEmptyError", lambda: client.delete("/a")),
        ("NoNodeError", lambda: client.get("/none")),
        ("BadVersionError", lambda: client.set("/a", b"", version=7)),
        ("NoChildrenForEphemeralsError", lambda: client.create(f"{path}/below", b"")),
        ("UnimplementedError", lambda: client.get_acls("/a")),
    ):
        with pytest.raises(getattr(kazoo_exceptions, error)):
            await asyncio.to_thread(call)
    await asyncio.to_thread(client.delete, path)
    await asyncio.to_thread(client.delete, "/a")


async def test_changes_are_seen_by_watches(zookeeper: ZooKeeper, client: Any) -> None:
    seen: list[list[str]] = []
    told: list[Any] = []
    await asyncio.to_thread(watchers.ChildrenWatch, client, "/", lambda names: seen.append(sorted(names)))
    first = zookeeper.add_master("127.0.0.1", 5050)
    await _until(lambda: seen[-1:] == [["json.info_0000000000"]])
    await asyncio.to_thread(watchers.DataWatch, client, "/json.info_0000000000", lambda data, _stat: told.append(data))
    zookeeper.set_data(first, b'{"changed":1}', -1)
    await _until(lambda: told[-1:] == [b'{"changed":1}'])
    zookeeper.remove(first)
    await _until(lambda: seen[-1:] == [[]] and told[-1:] == [None])


async def test_watches_outlast_a_broken_connection_and_an_expired_session(zookeeper: ZooKeeper, client: Any) -> None:
    seen: list[list[str]] = []
    await asyncio.to_thread(watchers.ChildrenWatch, client, "/", lambda names: seen.append(sorted(names)))
    session = client.client_id[0]
    zookeeper.drop_connections()
    await _until(lambda: zookeeper.sessions[session].connection is None)
    zookeeper.add_master("127.0.0.1", 5050)
    await _until(lambda: seen[-1:] == [["json.info_0000000000"]])
    assert client.client_id[0] == session
    zookeeper.expire_sessions()
    zookeeper.add_master("127.0.0.1", 5060)
    await _until(lambda: len(seen[-1]) == 2)
    assert client.client_id[0] != session


async def test_a_session_without_a_connection_expires_and_takes_its_nodes_along(zookeeper: ZooKeeper) -> None:
    client = kazoo_client.KazooClient(f"{zookeeper.hosts}/mesos", 0.2)
    await asyncio.to_thread(client.start)
    await asyncio.to_thread(lambda: client.create("/mine", b"", ephemeral=True))
    assert zookeeper.children("/mesos") == ["mine"]
    (session,) = zookeeper.sessions.values()
    zookeeper.silent = True  # so that it does not come back in time
    zookeeper.drop_connections()
    await _until(lambda: session.id not in zookeeper.sessions)
    assert zookeeper.children("/mesos") == []
    zookeeper.silent = False
    await asyncio.to_thread(client.stop)
    await asyncio.to_thread(client.close)


async def test_a_client_that_closes_takes_its_nodes_along(zookeeper: ZooKeeper) -> None:
    client = kazoo_client.KazooClient(f"{zookeeper.hosts}/mesos", 2.0)
    await asyncio.to_thread(client.start)
    await asyncio.to_thread(lambda: client.create("/mine", b"", ephemeral=True))
    await asyncio.to_thread(client.stop)
    await asyncio.to_thread(client.close)
    assert (zookeeper.children("/mesos"), zookeeper.sessions) == ([], {})


async def test_away_and_back_on_the_same_port(zookeeper: ZooKeeper, client: Any) -> None:
    session = client.client_id[0]
    hosts = zookeeper.hosts
    await zookeeper.go_away()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*hosts.split(":"))
    zookeeper.add_master("127.0.0.1", 5050)
    await zookeeper.come_back()
    assert zookeeper.hosts == hosts
    await _until(lambda: zookeeper.sessions[session].connection is not None)
    zookeeper.log.clear()
    assert await asyncio.to_thread(client.get_children, "/") == ["json.info_0000000000"]
    assert [(kind in (GET_CHILDREN, GET_CHILDREN2), path) for kind, path in zookeeper.log] == [(True, "/mesos")]
    assert json.loads(zookeeper.node("/mesos/json.info_0000000000").data)["port"] == 5050
