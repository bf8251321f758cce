"""A child process of the Mesos engine under a test's eyes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import msgspec
import psutil

from retz.engine.mesos.process import Child
from retz.engine.mesos.wire import Connect, Disconnected, FromDriver, Message

PATIENCE_S = 30.0
ODD = "tests.doubles.odd_child"
INFO = {"name": "retz", "user": "root"}
M = TypeVar("M")


class Watched:
    """A child, and all that was heard of it.

    Args:
        first: The ``master`` of its first message: where the driver connects, how :mod:`.odd_child` behaves.
        info: The FrameworkInfo.
    """

    def __init__(
        self, first: str, module: str = ODD, silence_s: float = 30.0, info: dict[str, Any] | None = None
    ) -> None:
        self.heard: list[Message] = []
        self.gone: list[str] = []
        self.starts = 0
        self.on_message: Callable[[Any], None] = self.heard.append
        self._first = Connect(first, info or INFO)
        self._news = asyncio.Event()
        self.child = Child(
            "odd",
            module,
            msgspec.msgpack.Decoder(FromDriver),
            on_start=self._started,
            on_message=self._message,
            on_gone=self._gone,
            silence_s=silence_s,
        )

    async def __aenter__(self) -> Self:
        await self.child.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        pid = self.child.pid
        await self.child.stop()
        assert self.child.pid is None
        assert pid is None or not psutil.pid_exists(pid)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for it; looks whenever there is news."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await self._news.wait()
                self._news.clear()

    def first(self, **changes: Any) -> Connect:
        """Its first message, with changes."""
        return msgspec.structs.replace(self._first, **changes)

    def texts(self) -> list[str]:
        """Why it was disconnected, every time."""
        return [message.why for message in self.heard if isinstance(message, Disconnected)]

    def of(self, kind: type[M]) -> list[M]:
        """All heard messages of a kind."""
        return [message for message in self.heard if isinstance(message, kind)]

    def _started(self) -> Sequence[Message]:
        self.starts += 1
        return [self._first]

    def _message(self, message: Message) -> None:
        self.on_message(message)
        self._news.set()

    def _gone(self, why: str) -> None:
        self.gone.append(why)
        self._news.set()


async def wait_for(condition: Callable[[], bool]) -> None:
    """For what nobody tells of."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.01)
