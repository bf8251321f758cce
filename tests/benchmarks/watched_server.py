"""``retz-server`` that watches its own loop: SIGUSR1 writes what it saw since the last time to ``loop.json``."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import time
from pathlib import Path

from retz.config_server import ServerConfig
from retz.server import main as server

EVERY_S = 0.001
"""Between two looks."""

WORTH_S = 0.003
"""Shorter turns are counted only: to tell of all of them would hold the loop for longer than any other turn."""


class LoopWatch:
    """How long the loop's thread let nobody else have a turn.

    A turn's length by the clock counts what other processes took meanwhile; the processor time that the thread used
    in it does not, so the truth on a busy machine lies between the two.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, path: Path) -> None:
        self._loop, self._path = loop, path
        self._gc_began = 0.0
        self._forget()
        loop.add_signal_handler(signal.SIGUSR1, self._tell)
        gc.callbacks.append(self._collecting)
        loop.call_soon(self._look)

    def _forget(self) -> None:
        self._looks = 0
        self._clock: list[float] = []
        self._processor = 0.0
        self._gc = 0.0
        self._seen = time.perf_counter()
        self._used = time.thread_time()

    def _look(self) -> None:
        now, used = time.perf_counter(), time.thread_time()
        self._looks += 1
        if now - self._seen - EVERY_S > WORTH_S:
            self._clock.append(now - self._seen - EVERY_S)
        self._processor = max(self._processor, used - self._used)
        self._seen, self._used = now, used
        self._loop.call_later(EVERY_S, self._look)

    def _collecting(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._gc_began = time.perf_counter()
        else:
            self._gc = max(self._gc, time.perf_counter() - self._gc_began)

    def _tell(self) -> None:
        longest = sorted(self._clock, reverse=True) or [0.0]
        p999 = longest[min(len(longest) - 1, self._looks // 1000)]
        found = {"held_max": longest[0], "held_p999": p999, "held_cpu_max": self._processor, "gc_max": self._gc}
        text = json.dumps({name: round(seconds * 1e3, 1) for name, seconds in found.items()})
        temporary = self._path.with_suffix(".new")
        temporary.write_text(text)
        temporary.rename(self._path)
        self._forget()


_really = server._run


async def _run(config: ServerConfig) -> None:
    LoopWatch(asyncio.get_running_loop(), Path(os.environ["HOME"]) / "loop.json")
    await _really(config)


if __name__ == "__main__":
    server._run = _run
    server.main()
