"""The replay itself: a server that plays a recording back has no differences; one that changes a word has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.conformance.recording import Entry, Kind, Recording, load
from tests.conformance.replay import Replay
from tests.conformance.scenario import Scenario
from tests.conformance.target import Cluster

PLAIN = ["01", "02", "02b", "03", "04", "04c", "05", "06", "07", "08b", "09", "10", "13", "14", "23", "24"]
"""Recordings in which nothing happens beside the requests."""


class Playback:
    """Answers each request with the recorded bytes, and writes the events recorded before the next request."""

    def __init__(self, recording: Recording, change: Callable[[bytes], bytes]) -> None:
        self.entries = list(recording.entries)
        self.change = change
        self.streams: dict[str, list[asyncio.StreamWriter]] = {}
        self.place = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        request = self._next_request()
        for entry in self._until_next_request():
            await self._write(entry, request, writer)

    def _next_request(self) -> Entry:
        while self.entries[self.place].kind is not Kind.REQUEST:
            self.place += 1
        self.place += 1
        return self.entries[self.place - 1]

    def _until_next_request(self) -> list[Entry]:
        rest = self.entries[self.place :]
        requests = [i for i, entry in enumerate(rest) if entry.kind is Kind.REQUEST]
        return rest[: requests[0]] if requests else rest

    async def _write(self, entry: Entry, request: Entry, writer: asyncio.StreamWriter) -> None:
        match entry.kind:
            case Kind.HEAD:
                self.streams.setdefault(entry.stream, []).append(writer)
            case Kind.CHUNK | Kind.LAST:
                writer = self.streams[entry.stream][0]
                if entry.kind is Kind.LAST:
                    self.streams[entry.stream].pop(0)
            case Kind.RESPONSE:
                pass
            case _:
                return
        writer.write(self.change(entry.raw))
        await writer.drain()


async def _replay(name: str, change: Callable[[bytes], bytes]) -> list[str]:
    recording = load(name)
    playback = Playback(recording, change)
    server = await asyncio.start_server(playback.serve, "127.0.0.1", 0, limit=1 << 22)
    cluster = Cluster()
    cluster.scale = 0.0
    port = server.sockets[0].getsockname()[1]
    cluster.addresses = {5050: ("127.0.0.1", port), 5051: ("127.0.0.1", port)}
    try:
        return await Replay(recording, Scenario(), cluster).run()
    finally:
        server.close()
        for writer in playback.writers:
            writer.close()


@pytest.mark.parametrize("name", PLAIN)
def test_a_recording_does_not_differ_from_itself(name: str) -> None:
    assert asyncio.run(_replay(name, lambda raw: raw)) == []


@pytest.mark.parametrize(
    ("name", "then", "now", "told"),
    [
        ("02", b"TASK_FINISHED", b"TASK_RUINED!!", "expected 'TASK_FINISHED', got 'TASK_RUINED!!'"),
        ("02", b"HTTP/1.1 202 Accepted", b"HTTP/1.1 200 Accepted", "expected HTTP/1.1 202 Accepted"),
        ("02", b"Content-Length: 0", b"content-length: 0", "headers"),
        ("06", b"No offers specified", b"No offers whatever.", "No offers"),
        ("13", b"Framework cannot be found", b"Framework cannot be seen.", "Framework cannot be"),
        ("23", b'"value":2048.0', b'"value":2049.0', "no offer of r"),
    ],
)
def test_a_changed_answer_is_told(
    name: str, then: bytes, now: bytes, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.conformance.replay.PATIENCE", 0.3)
    problems = asyncio.run(_replay(name, lambda raw: raw.replace(then, now)))
    assert any(told in problem for problem in problems), problems
