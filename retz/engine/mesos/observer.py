"""The child process that looks at the cluster: agents, what is held on them, what our tasks and the GPUs use.

It reads what to look at from its standard input and writes what is new to its standard output (:mod:`.wire`). It
ends with its input, whatever it is doing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec

from . import measuring, wire
from .agent_book import AgentBook
from .failures import words_of
from .master_http import MasterHttp, credentials
from .operator_stream import FAILURES, OperatorStream
from .rounds import Rounds
from .wire import Frames, Message, Observe, Sample, Telemetry, Watch

_log = logging.getLogger(__name__)

PUMP_S = 0.25
"""News wait so long for company."""
ALIVE_S = 5.0
MAX_SAMPLES = 300_000
"""Kept for a server that does not listen; what comes then is dropped."""
_CONNECT_S = 10.0
_PLAIN = {"Accept-Encoding": "identity"}
"""To compress costs the master more than the network saves: all its frameworks wait meanwhile."""


class Observer:
    """Everything the child knows. :meth:`take` brings messages in, :meth:`news` fetches those that are to go out."""

    def __init__(self) -> None:
        self._book = AgentBook()
        self._observe: Observe | None = None
        self._watched: dict[str, str] = {}
        self._samples: list[Sample] = []
        self._telemetry: dict[str, Telemetry] = {}
        self._telemetry_news: dict[str, None] = {}
        self._troubles: dict[str, str] = {}
        self._trouble_told = ""
        self._looking: asyncio.Task[None] | None = None

    def take(self, message: Observe | Watch) -> None:
        """The server says whom to look at."""
        if isinstance(message, Watch):
            for agent_id in message.idle:
                self._watched.pop(agent_id, None)
            self._watched.update(message.run)
        elif message != self._observe:
            self._observe = message
            if self._looking is not None:
                self._looking.cancel()
            self._looking = None
            self._troubles.clear()
            if message.master:
                self._looking = asyncio.get_running_loop().create_task(self._look(message))
                self._looking.add_done_callback(_ended)

    def news(self) -> list[Message]:
        """What the server does not know yet."""
        messages = self._book.news()
        found, self._samples = self._samples, []
        messages += (wire.Samples(part) for part in measuring.chunks(found, wire.ITEMS))
        messages += (self._telemetry[agent_id] for agent_id in self._telemetry_news)
        self._telemetry_news.clear()
        trouble = "; ".join(filter(None, self._troubles.values()))
        if trouble != self._trouble_told:
            self._trouble_told = trouble
            messages.append(wire.Trouble(trouble))
        return messages

    async def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    # -- looking

    async def _look(self, observe: Observe) -> None:
        headers = credentials(observe.principal, observe.secret)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        # To agents no connection is kept: thousands, asked every ten seconds, would use up our file descriptors.
        to_agents = aiohttp.TCPConnector(limit=0, force_close=True)
        async with (
            aiohttp.ClientSession(read_bufsize=1 << 20, timeout=timeout, headers=_PLAIN) as masters,
            aiohttp.ClientSession(connector=to_agents, timeout=timeout, headers=_PLAIN) as agents,
            asyncio.TaskGroup() as group,
        ):
            master = MasterHttp(masters, observe.master, headers)
            stream = OperatorStream(master, self._book, observe.framework, self._trouble_of("master"))
            group.create_task(stream.run())
            group.create_task(stream.poll(observe.poll_s))

            async def measure(_: str, url: str) -> None:
                body = await measuring.fetch(
                    agents, f"{url}/containers", headers, measuring.MAX_CONTAINERS, "the agent"
                )
                self._measured(measuring.samples(body, observe.framework, time.time()))

            async def ask_exporter(agent_id: str, url: str) -> None:
                try:
                    body = await measuring.fetch(agents, url, {}, measuring.MAX_METRICS, "the GPU exporter")
                except FAILURES as error:
                    self._hear(Telemetry(agent_id, [], f"the GPU exporter at {url} does not answer: {words_of(error)}"))
                    raise
                self._hear(Telemetry(agent_id, measuring.gpus(body)))

            def exporters() -> dict[str, str]:
                template = observe.exporter or ""
                return {key: template.replace("{host}", _host(host)) for key, host in self._book.with_gpus().items()}

            containers = Rounds(
                "the use of their tasks", observe.sample_s, lambda: self._watched, measure, self._trouble_of("agents")
            )
            group.create_task(containers.run())
            if observe.exporter:
                gpus = Rounds("their GPUs", observe.sample_s, exporters, ask_exporter, lambda _: None)
                group.create_task(gpus.run())

    def _trouble_of(self, source: str) -> Callable[[str], None]:
        def trouble(why: str) -> None:
            self._troubles[source] = why

        return trouble

    def _measured(self, samples: list[Sample]) -> None:
        if len(self._samples) < MAX_SAMPLES:
            self._samples += samples

    def _hear(self, telemetry: Telemetry) -> None:
        if self._telemetry.get(telemetry.agent) != telemetry:
            self._telemetry[telemetry.agent] = telemetry
            self._telemetry_news[telemetry.agent] = None


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _ended(task: asyncio.Task[None]) -> None:
    """A fault of ours: the server starts us again, and logs this."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the observer failed", exc_info=error)
        os._exit(1)


# -- the process -----------------------------------------------------------------------------------------------------


def _listen(fd: int, heard: Callable[[Any], None]) -> None:
    """Read messages until the end of the pipe, which is the end of us: a thread, for the loop may be busy."""
    decoder = msgspec.msgpack.Decoder(wire.ToObserver)
    frames = Frames()
    status = 1
    try:
        while data := os.read(fd, 1 << 16):
            frames.feed(data)
            while (body := frames.next()) is not None:
                message = decoder.decode(body)
                if isinstance(message, wire.Stop):
                    break
                heard(message)
            else:
                continue
            break
        status = 0
    except (ValueError, msgspec.MsgspecError) as error:
        print(f"the server is not understood: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


async def _pump(observer: Observer, fd: int) -> None:
    """Write news as long as the server reads."""
    loop = asyncio.get_running_loop()
    alive = loop.time()
    messages: list[Message] = [wire.Alive()]
    while True:
        if messages:
            await asyncio.to_thread(_write, fd, wire.frame(messages))
        await asyncio.sleep(PUMP_S)
        messages = observer.news()
        if loop.time() - alive >= ALIVE_S:
            alive = loop.time()
            messages.append(wire.Alive())


async def _run(input_fd: int, output_fd: int) -> None:
    loop = asyncio.get_running_loop()
    observer = Observer()

    def heard(message: Any) -> None:
        loop.call_soon_threadsafe(observer.take, message)

    threading.Thread(target=_listen, args=(input_fd, heard), daemon=True).start()
    await _pump(observer, output_fd)


def main() -> None:
    """The child's main; see the module's text."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server decides when we end, by closing the pipe
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    output = os.dup(1)
    os.dup2(2, 1)  # whatever prints does not print between the messages
    try:
        asyncio.run(_run(0, output))
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
