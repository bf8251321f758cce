"""Files of sandboxes, read from agents of the double that run commands."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from retz.engine.base import FileRefused, FilesUnavailable
from retz.engine.mesos import sandbox
from retz.engine.mesos.sandbox import Sandboxes, SandboxReader
from tests.doubles.mesos.agent import Agent
from tests.doubles.mesos.agent_api import AgentEndpoints
from tests.doubles.mesos.model import Framework, Timing

pytestmark = pytest.mark.anyio

FRAMEWORK = "4c95f3e0-7e50-4a8d-9a42-30a41fe9e001-0002"
RESOURCES = [
    {"name": "cpus", "type": "SCALAR", "scalar": {"value": 4.0}, "role": "*"},
    {"name": "mem", "type": "SCALAR", "scalar": {"value": 4096.0}, "role": "*"},
]


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (what another process does is no event)
            await asyncio.sleep(0.005)


class Site:
    """One agent with its endpoints, and a reader of its files."""

    def __init__(self, agent: Agent, sandboxes: Sandboxes) -> None:
        self.agent = agent
        self.sandboxes = sandboxes

    @property
    def url(self) -> str:
        """As offers have it."""
        return f"http://{self.agent.ip}:{self.agent.port}{self.agent.path}"

    def launch(self, task_id: str, command: str) -> None:
        """Run a command."""
        framework = Framework(FRAMEWORK, {"user": "", "name": "Retz", "checkpoint": True})
        info: dict[str, Any] = {
            "name": task_id,
            "task_id": {"value": task_id},
            "agent_id": {"value": self.agent.id},
            "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}],
            "command": {"value": command, "shell": True},
        }
        self.agent.launch(framework, info)

    async def done(self, task_id: str, command: str) -> Path:
        """Run a command to its end; where its sandbox is."""
        self.launch(task_id, command)
        (run,) = [run for run in self.agent.runs.values() if run.task_id == task_id]
        await _until(lambda: run.state in ("TASK_FINISHED", "TASK_FAILED"))
        assert run.state == "TASK_FINISHED", run
        return self.agent.directory(run)

    async def open(self, task_id: str, path: str) -> SandboxReader:
        """Open one of its files."""
        return await self.sandboxes.open_file(self.url, [FRAMEWORK], task_id, path)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    agent = Agent(RESOURCES, work_dir=tmp_path / "agent", timing=Timing(executor_linger=0.0, agent_recovery=0.0))
    agent.id = "4c95f3e0-7e50-4a8d-9a42-30a41fe9e001-S0"
    endpoints = AgentEndpoints()
    endpoints.add(agent)
    await endpoints.open("127.0.0.1")
    sandboxes = Sandboxes(principal=None, secret=None, timeout_s=5.0)
    await sandboxes.start()
    yield Site(agent, sandboxes)
    await sandboxes.close()
    await agent.stop()
    await endpoints.close()


async def _all_of(reader: SandboxReader, piece: int = 256 * 1024) -> bytes:
    got = bytearray()
    while data := await reader.read(len(got), piece):
        got += data
    reader.close()
    return bytes(got)


async def test_a_sandbox_is_listed_and_read(site: Site) -> None:
    await site.done(
        "7.1", "echo hello; mkdir -p deep/er; printf abc > deep/er/file; mkfifo pipe; ln -s /etc/passwd out"
    )
    entries = {entry.path: entry for entry in await site.sandboxes.list_files(site.url, [FRAMEWORK], "7.1", "")}
    assert sorted(entries) == list(entries)
    assert {"stdout", "stderr", "deep", "pipe"} <= set(entries)
    assert [entries[name].type for name in ("stdout", "deep", "pipe")] == ["file", "directory", "other"]
    assert entries["stdout"].size == 6
    below = await site.sandboxes.list_files(site.url, ["older", FRAMEWORK], "7.1", "deep/er/")
    assert [(entry.path, entry.size) for entry in below] == [("deep/er/file", 3)]
    assert await site.sandboxes.list_files(site.url, [FRAMEWORK], "7.1", "./deep/er/file") == below
    assert await _all_of(await site.open("7.1", "deep/er/file")) == b"abc"
    with pytest.raises(FileRefused, match="not a plain file"):
        await site.open("7.1", "deep")
    with pytest.raises(FileRefused, match="out of the sandbox"):
        await site.open("7.1", "out")
    with pytest.raises(FileNotFoundError):
        await site.open("7.1", "none")
    with pytest.raises(FileNotFoundError):
        await site.open("8.1", "stdout")


async def test_any_bytes_by_pages_and_as_a_stream(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = await site.done("7.1", "true")
    data = random.Random(7).randbytes(3_000_001) + "é".encode()
    (directory / "data").write_bytes(data)
    assert await _all_of(await site.open("7.1", "data")) == data
    monkeypatch.setattr(sandbox, "STREAM_FROM", 10**9)
    assert await _all_of(await site.open("7.1", "data"), 300_000) == data
    reader = await site.open("7.1", "data")
    for offset in (0, 65_535, 65_537, 2_999_999, 3_000_002):
        assert await reader.read(offset, 1000) == data[offset : offset + 1000]


async def test_a_stream_is_left_for_a_read_elsewhere(site: Site) -> None:
    directory = await site.done("7.1", "true")
    data = random.Random(8).randbytes(3_000_000)
    (directory / "data").write_bytes(data)
    reader = await site.open("7.1", "data")
    assert data.startswith(await reader.read(0, 100_000))
    assert await reader.read(2_999_990, 100) == data[-10:]
    assert await reader.read(0, 65_536) == data[:65_536]
    assert await _all_of(reader) == data


async def test_a_file_that_a_task_writes_is_followed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "LOOK_S", 0.0)
    site.launch("7.1", "for n in 1 2 3; do echo line $n; while [ ! -e go$n ]; do sleep 0.01; done; done")
    (run,) = site.agent.runs.values()
    directory = site.agent.directory(run)
    await _until(lambda: (directory / "stdout").exists())
    reader = await site.open("7.1", "stdout")
    got = b""
    for number in (1, 2, 3):
        async with asyncio.timeout(20):
            while len(got) < 7 * number:
                size = await reader.refresh()
                assert reader.size == size
                got += await reader.read(len(got), size)
        assert got == b"".join(b"line %d\n" % n for n in range(1, number + 1))
        (directory / f"go{number}").touch()


async def test_a_file_that_is_appended_to_while_it_is_downloaded(site: Site) -> None:
    directory = await site.done("7.1", "true")
    data = random.Random(9).randbytes(2_000_000)
    (directory / "data").write_bytes(data)
    reader = await site.open("7.1", "data")
    first = await reader.read(0, 100_000)
    (directory / "data").write_bytes(data + b"and more")
    got = bytearray(first)
    while piece := await reader.read(len(got), 262_144):
        got += piece
    assert bytes(got) == data + b"and more"


async def test_an_agent_that_is_away_comes_back_with_its_files(site: Site) -> None:
    await site.done("7.1", "echo hello")
    reader = await site.open("7.1", "stdout")
    site.agent.crash()
    with pytest.raises(FilesUnavailable, match=f"agent 127.0.0.1:{site.agent.port}.*cannot be reached"):
        await reader.read(0, 10)
    with pytest.raises(FilesUnavailable):
        await site.sandboxes.list_files(site.url, [FRAMEWORK], "7.1", "")
    site.agent.restart()

    async def answers() -> bool:
        try:
            return await reader.read(0, 10) == b"hello\n"
        except FilesUnavailable:
            return False

    async with asyncio.timeout(20):
        while not await answers():  # noqa: ASYNC110 (nobody tells when a port is open again)
            await asyncio.sleep(0.01)


async def test_a_slow_agent_is_named(site: Site) -> None:
    await site.done("7.1", "echo hello")
    slow = Sandboxes(principal=None, secret=None, timeout_s=0.2)
    await slow.start()
    site.agent.slow(1.0)
    with pytest.raises(FilesUnavailable, match=f"127.0.0.1:{site.agent.port} did not answer within 0.2 s"):
        await slow.open_file(site.url, [FRAMEWORK], "7.1", "stdout")
    await slow.close()


async def test_an_agent_asks_who_we_are(site: Site) -> None:
    await site.done("7.1", "echo hello")
    site.agent.credentials = ("retz", "sécret")
    with pytest.raises(FilesUnavailable, match=r"retz\.mesos\.principal"):
        await site.open("7.1", "stdout")
    known = Sandboxes(principal="retz", secret="sécret")
    await known.start()
    reader = await known.open_file(site.url, [FRAMEWORK], "7.1", "stdout")
    assert await reader.read(0, 10) == b"hello\n"
    await known.close()


async def test_downloads_are_not_all_an_agent_can_do(site: Site) -> None:
    directory = await site.done("7.1", "true")
    data = random.Random(10).randbytes(2_000_000)
    (directory / "data").write_bytes(data)
    readers = [await site.open("7.1", "data") for _ in range(sandbox.STREAMS + 4)]
    begun = await asyncio.gather(*[reader.read(0, 100_000) for reader in readers])
    assert all(data.startswith(piece) and piece for piece in begun)
    assert await _all_of(await site.open("7.1", "stdout")) == b""
    for reader in readers:
        reader.close()
    assert await _all_of(await site.open("7.1", "data")) == data


@pytest.mark.parametrize("name", ["a b%2e+c#?é&d=e", "quote'\"\\", "new\nline", "byte\udcff"])
async def test_names_of_any_kind(site: Site, name: str) -> None:
    directory = await site.done("7.1", "true")
    (directory / name).write_bytes(b"text")
    listed = [entry.path for entry in await site.sandboxes.list_files(site.url, [FRAMEWORK], "7.1", "")]
    assert name in listed
    assert await _all_of(await site.open("7.1", name)) == b"text"
