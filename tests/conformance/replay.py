"""Replaying a recording: its requests are sent again, and what comes back is compared with what came then.

Requests go out in the recorded order, each as soon as everything recorded before it has come. Idle times are kept,
scaled and cut: they let things happen that the recording shows, and show that nothing happens where it shows nothing.

Free are: the order of updates of different tasks, the order of offers and their distribution over events, and whether
an event or the answer to the call that caused it comes first.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import quote

from tests.conformance import wire
from tests.conformance.bodies import compare_bodies
from tests.conformance.framework import Framework
from tests.conformance.normalise import Bindings, compare, compare_shape, own, shape
from tests.conformance.offers import Offer, Offers, agent, resources
from tests.conformance.recording import Entry, Kind, Recording
from tests.conformance.scenario import Action, Scenario, Target, caption, duplicates_first

_T = TypeVar("_T")

PATIENCE = 10.0
"""Seconds in which an expected event must come, beyond those it took when recorded."""

QUIET = 2.0
"""Recorded seconds without an event that mean: nothing comes."""

_VALUES = ("Content-Type", "Transfer-Encoding", "Location", "WWW-Authenticate", "Content-Encoding", "Allow")
_SLEEP = re.compile(r"\bsleep (\d+(?:\.\d+)?)")


@dataclass(eq=False)
class Replay:
    """One replay.

    Attributes:
        problems: The differences, each with the time of its entry.
        sent: When requests were sent (monotonic), by title.
        beside: Frameworks that a step started.
    """

    recording: Recording
    scenario: Scenario
    target: Target
    bindings: Bindings = field(default_factory=Bindings)
    streams: dict[str, list[wire.Stream]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    sent: dict[str, float] = field(default_factory=dict)
    beside: list[Framework] = field(default_factory=list)
    _offers: Offers = field(init=False)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _exchanges: dict[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=dict)
    _ends: list[tuple[Entry, list[wire.Stream]]] = field(default_factory=list)
    _order: dict[wire.Stream, dict[str, int]] = field(default_factory=dict)
    _steps: list[tuple[str, Action]] = field(default_factory=list)
    _entry: Entry | None = None
    _before: float = 0.0
    _gap: float = 0.0
    _ended: set[wire.Stream] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._offers = Offers(self.bindings)

    async def run(self) -> list[str]:
        """Replay everything; the differences, none if all is well.

        Raises:
            NotPossible: A step cannot be done here.
        """
        self._steps = list(self.scenario.steps)
        self.recording = replace(self.recording, entries=duplicates_first(self.recording.entries))
        try:
            for entry, gap in self._paced():
                self._entry, self._gap = entry, gap
                await self._take(entry, gap)
            await self._check_ends()
            self._check_events("at the end")
        finally:
            for stream in self._all_streams():
                await stream.close()
            for framework in self.beside:
                await framework.drop()
            await self.target.leave(self._frameworks())
        return self.problems

    def rewrite(self, change: Callable[[bytes], bytes]) -> None:
        """Change the bytes of the recording."""
        entries = tuple(replace(entry, raw=change(entry.raw)) for entry in self.recording.entries)
        self.recording = replace(self.recording, entries=entries)

    def problem(self, text: str) -> None:
        """Note a difference."""
        at = f"[{self._entry.at:.3f}] {self._entry.title[:80]}: " if self._entry else ""
        self.problems.append(f"{self.recording.name} {at}{text}")

    def _paced(self) -> Iterator[tuple[Entry, float]]:
        for index in range(len(self.recording.entries)):
            entry = self.recording.entries[index]
            yield entry, entry.at - self._before
            if entry.kind is not Kind.NOTE and entry.title != "HEARTBEAT":
                self._before = entry.at

    async def _take(self, entry: Entry, gap: float) -> None:
        if self._steps and re.search(self._steps[0][0], caption(entry)):
            await self._idle(gap)
            gap, self._before = 0.0, entry.at
            await self._steps.pop(0)[1](self)
            entry = self._again(entry)
        if self.scenario.skip and re.search(self.scenario.skip, caption(entry)):
            return
        match entry.kind:
            case Kind.REQUEST:
                await self._idle(gap)
                await self._request(entry)
            case Kind.CHUNK:
                await self._expect(entry)
            case Kind.LAST | Kind.BROKEN:
                self._ends.append((entry, list(self.streams[entry.stream])))
            case Kind.CLOSED:
                await self._idle(gap)
                self._ended.add(self.streams[entry.stream][-1])
                await self.streams[entry.stream][-1].close()
            case Kind.RESPONSE if entry.title in self._exchanges:
                await self._exchanged(entry)
            case _:
                pass  # answers are read with their request; notes are for readers

    def _again(self, entry: Entry) -> Entry:
        """The entry as it is after a step."""
        title = (entry.at, entry.kind, entry.title)
        return next(each for each in self.recording.entries if (each.at, each.kind, each.title) == title)

    async def _idle(self, gap: float) -> None:
        """Wait as then. If nothing came in a long time, nothing may come now."""
        await asyncio.sleep(min(gap, self.scenario.patience) * self.target.scale)
        if gap >= QUIET:
            self._check_rest(f"where nothing came for {gap:.1f} s")

    # Requests and answers

    async def _request(self, entry: Entry) -> None:
        if entry.port == 0:
            await self._exchange(entry)
            return
        if entry.stream:
            await self._check_ends(entry.stream)
        await self._named_offers(entry)
        expected = self._answer_to(entry)
        raw = self.outgoing(entry)
        address = self.target.address(entry.port)
        self.sent[entry.title] = time.monotonic()
        try:
            if entry.stream:
                live = await self._subscribe(entry, address, raw)
            else:
                live = await wire.call(address, raw, PATIENCE + 5)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            if expected is not None:
                self.problem(f"expected an answer, got {error!r}")
            return
        if expected is None:
            self.problem(f"expected no answer, got {live.start}")
        else:
            self._compare_answers(entry, wire.parse(expected.raw), live, expected.kind)

    async def _subscribe(self, entry: Entry, address: wire.Address, raw: bytes) -> wire.Message:
        opened = await wire.subscribe(address, raw, PATIENCE)
        if isinstance(opened, wire.Message):
            return opened
        opened.news = self._news
        self.streams.setdefault(entry.stream, []).append(opened)
        return opened.head

    async def _exchange(self, entry: Entry) -> None:
        """Write bytes that are no plain call, on a connection of their own; what was begun may be continued."""
        title = entry.title.removeprefix("(continued) ")
        if title not in self._exchanges:
            self._exchanges[title] = await asyncio.open_connection(*self.target.address(5050))
        self._exchanges[title][1].write(self.bindings.text(entry.raw.decode()).encode())

    async def _exchanged(self, entry: Entry) -> None:
        """Compare all answers to such bytes, and whether the connection stays open."""
        reader, writer = self._exchanges.pop(entry.title)
        try:
            async with asyncio.timeout(PATIENCE):
                for expected in wire.parse_all(entry.raw):
                    self._compare_answers(entry, expected, await wire.answer(reader), entry.kind)
            await self._check_open(reader, "left open" in entry.outcome)
        except (TimeoutError, asyncio.IncompleteReadError) as error:
            self.problem(f"no answer: {error!r}")
        finally:
            writer.close()

    async def _check_open(self, reader: asyncio.StreamReader, expected: bool) -> None:
        try:
            async with asyncio.timeout(0.1 if expected else PATIENCE):
                more = await reader.read(1)
        except TimeoutError:
            if not expected:
                self.problem("the connection stays open")
            return
        if expected or more:
            self.problem(f"expected {'an open' if expected else 'a closed'} connection, got {more!r}")

    def _answer_to(self, request: Entry) -> Entry | None:
        entries = self.recording.entries
        later = entries[entries.index(request) + 1 :]
        for entry in later:
            same = (entry.stream, entry.title) == (request.stream, request.title)
            if same and entry.kind in (Kind.RESPONSE, Kind.HEAD):
                return entry
        return None

    def outgoing(self, entry: Entry) -> bytes:
        """A recorded request as it goes out now: with the ids, the address and the pace of this cluster."""
        text = self.bindings.text(self._offers.outgoing(entry.raw.decode(errors="surrogateescape")))
        text = self._at_home(text)
        head, _, body = text.partition("\r\n\r\n")
        for pattern, replacement in self.scenario.edits:
            body = re.sub(pattern, replacement, body)
        body = _SLEEP.sub(lambda match: f"sleep {float(match[1]) * self.target.scale:.3g}", body)
        content = body.encode(errors="surrogateescape")
        host, port = self.target.address(entry.port or 5050)
        head = re.sub(r"(?m)^Host: .*(?=\r)", f"Host: {host}:{port}", head + "\r")[:-1]
        head = re.sub(r"\r\nContent-Length: \d+", f"\r\nContent-Length: {len(content)}", head)
        return head.encode() + b"\r\n\r\n" + content

    def _at_home(self, text: str) -> str:
        """Paths of the recorded agent become those of this one."""
        there = "/var/lib/mesos-x/run/a1"
        here = self.target.work_dir
        return text.replace(there, here).replace(quote(there, safe=""), quote(here, safe=""))

    def _compare_answers(self, request: Entry, expected: wire.Message, live: wire.Message, kind: Kind) -> None:
        if expected.start != live.start:
            self.problem(f"expected {expected.start}, got {live.start} {live.body[:200]!r}")
        names, here = ({name for name, _ in message.headers} for message in (expected, live))
        if names != here:
            self.problem(f"headers {sorted(here)}, expected {sorted(names)}")
        for name in _VALUES:
            then, now = expected.header(name), live.header(name)
            if then is not None and now is not None and (difference := self.bindings.match(then, now)):
                self.problem(f"header {name}: {difference}")
        if kind is Kind.HEAD:
            self._bind_stream(expected, live)
        elif expected.status == live.status:
            for difference in compare_bodies(
                self.scenario, request, (expected, live), self.bindings, self._frameworks()
            ):
                self.problem(difference)

    def _bind_stream(self, expected: wire.Message, live: wire.Message) -> None:
        then, now = expected.header("Mesos-Stream-Id"), live.header("Mesos-Stream-Id")
        if then and now and (difference := self.bindings.match(then, now)):
            self.problem(difference)

    # Events

    async def _expect(self, entry: Entry) -> None:
        data = wire.event(entry.raw)
        if data["type"] == "OFFERS":
            for offer in data["offers"]["offers"]:
                if self.scenario.free_offers:
                    await self._meet(offer, self.streams[entry.stream])
                else:
                    in_parts = not self._named_later(offer["id"]["value"])
                    await self._offered([offer], self.streams[entry.stream], in_parts)
            return
        if data["type"] == "HEARTBEAT" and self._heartbeats(entry) > 1:
            return  # the first comes at once; the others are a matter of time
        found = await self.wait(lambda: self._find(entry.stream, data))
        if found is None:
            self.problem(f"did not come: {json.dumps(data)[:400]}; waiting are {self._waiting(entry.stream)}")
            return
        stream, event = found
        event.matched = True
        for difference in self._compare_events(data, event.data):
            self.problem(f"event {difference}")
        self._check_order(stream, event)

    def _named_later(self, offer: str) -> bool:
        token = f'"{offer}"'.encode()
        return any(each.kind is Kind.REQUEST and token in each.raw for each in self.recording.entries)

    def _compare_events(self, data: Mapping[str, Any], live: Mapping[str, Any]) -> list[str]:
        if "get_state" in data.get("subscribed", {}):
            return compare_shape(shape([data]), own(live, self._frameworks()))
        return compare(data, live, self.bindings)

    def _heartbeats(self, entry: Entry) -> int:
        """How many there were since the stream was opened, this one included."""
        count = 0
        for each in self.recording.entries:
            if each.stream == entry.stream:
                count = 0 if each.kind is Kind.HEAD else count + (each.title == "HEARTBEAT")
            if each is entry:
                break
        return count

    def _find(self, name: str, data: Mapping[str, Any]) -> tuple[wire.Stream, wire.LiveEvent] | None:
        wanted = self._key(data, self.bindings.live)
        for stream in self.streams[name]:
            for event in stream.events:
                if not event.matched and self._key(event.data, {}) == wanted:
                    return stream, event
        return None

    def _key(self, data: Mapping[str, Any], live: Mapping[str, str]) -> tuple[str, ...]:
        """What tells events apart before they are compared."""
        kind = str(data["type"])
        match kind:
            case "UPDATE":
                return kind, str(data["update"]["status"]["task_id"]["value"])
            case "RESCIND":
                offer = str(data["rescind"]["offer_id"]["value"])
                return kind, live.get(offer, offer)
            case "FAILURE":
                return kind, str("executor_id" in data["failure"])
        return (kind,)

    def _check_order(self, stream: wire.Stream, event: wire.LiveEvent) -> None:
        """Events of different kinds come in the recorded order."""
        if event.data["type"] == "HEARTBEAT" or self.scenario.unordered:
            return
        kind, places = str(event.data["type"]), self._order.setdefault(stream, {})
        later = {other: place for other, place in places.items() if other != kind and place > event.place}
        if later:
            self.problem(f"{kind} came too early, before {sorted(later)}")
        places[kind] = max(places.get(kind, -1), event.place)

    async def _offered(self, recorded: Sequence[Offer], streams: Sequence[wire.Stream], in_parts: bool) -> None:
        """Wait for offers like recorded ones of one agent."""
        found = await self.wait(lambda: self._offers.match(streams, recorded, in_parts))
        if found is None:
            candidates = [
                resources([each]) for each in self._offers.waiting(streams) if agent(each) == agent(recorded[0])
            ]
            self.problem(f"no offer of {agent(recorded[0])} with {resources(recorded)}; there are {candidates}")
            return
        for difference in self._offers.take(recorded, found):
            self.problem(f"offer {difference}")

    async def _meet(self, recorded: Offer, streams: Sequence[wire.Stream]) -> None:
        """Learn the id of an agent from its first offer."""
        if recorded["agent_id"]["value"] in self.bindings.live:
            return
        found = await self.wait(lambda: self._offers.of_agent(streams, recorded))
        if found is None:
            self.problem(f"no offer of {agent(recorded)}")
        elif difference := self.bindings.match(recorded["agent_id"]["value"], found["agent_id"]["value"]):
            self.problem(difference)

    async def _named_offers(self, entry: Entry) -> None:
        """The offers that a request names must be there."""
        for recorded in self._offers.named(self.recording, entry):
            await self._offered(recorded, list(self._all_streams()), in_parts=True)

    async def first_offers(self, name: str) -> dict[str, str]:
        """Wait for offers of a stream: the role of each agent's (by rack)."""

        def split() -> dict[str, str]:
            waiting = (agent(each).partition(" ") for each in self._offers.waiting(self.streams[name]))
            return {rack: role for rack, _, role in waiting}

        return await self.wait(lambda: split() or None) or {}

    async def wait(self, find: Callable[[], _T | None]) -> _T | None:
        """Wait until something is found in what the streams brought, not for ever."""
        try:
            async with asyncio.timeout(PATIENCE + self._gap * self.target.scale):
                while (found := find()) is None:
                    self._news.clear()
                    await self._news.wait()
                return found
        except TimeoutError:
            return None

    # What is left

    def _frameworks(self) -> set[str]:
        """Ids of all frameworks that were made."""
        events = [event.data for stream in self._all_streams() for event in stream.events]
        subscribed = [event["subscribed"] for event in events if event["type"] == "SUBSCRIBED"]
        ids = {each["framework_id"]["value"] for each in subscribed if "framework_id" in each}
        return ids | {framework.id for framework in self.beside}

    def _all_streams(self) -> Iterator[wire.Stream]:
        for streams in self.streams.values():
            yield from streams

    def _waiting(self, name: str) -> list[str]:
        return [json.dumps(e.data)[:300] for s in self.streams[name] for e in s.events if not e.matched][-5:]

    def _check_rest(self, when: str) -> None:
        self._check_events(when)
        if not self.scenario.free_offers:
            self._check_offers(when)

    def _check_events(self, when: str) -> None:
        for stream in self._all_streams():
            for event in stream.events:
                if not event.matched and event.data["type"] not in ("HEARTBEAT", "OFFERS") and self._told(event.data):
                    event.matched = True
                    self.problem(f"came {when}: {json.dumps(event.data)[:400]}")

    def _told(self, data: Mapping[str, Any]) -> bool:
        """Whether the recording says how a task went on: it may have ended before the task began."""
        if data["type"] != "UPDATE" or data["update"]["status"]["source"] == "SOURCE_MASTER":
            return True
        task = json.dumps({"task_id": data["update"]["status"]["task_id"]}, separators=(",", ":"))[1:-1].encode()
        updates = [each.raw for each in self.recording.entries if each.title == "UPDATE" and task in each.raw]
        return any(b'"SOURCE_MASTER"' not in raw for raw in updates)

    def _check_offers(self, when: str) -> None:
        for offer in list(self._offers.waiting(self._all_streams())):
            self._offers.dismiss(offer)
            self.problem(f"came {when}: an offer of {agent(offer)} with {resources([offer])}")

    async def _check_ends(self, name: str | None = None) -> None:
        """Streams that ended in the recording must have ended by now, in the same way."""
        due = [each for each in self._ends if name is None or each[0].stream == name]
        self._ends = [each for each in self._ends if each not in due]
        for entry, streams in due:
            expected = "last chunk" if entry.kind is Kind.LAST else "broken"
            stream = next((each for each in streams if each not in self._ended), streams[-1])
            await self.ended(stream)
            if stream.end != expected:
                self.problem(f"stream {entry.stream}: expected its end ({expected}), got {stream.end}")

    async def ended(self, stream: wire.Stream) -> None:
        """Wait for the end of a stream, not for ever."""
        self._ended.add(stream)
        try:
            async with asyncio.timeout(PATIENCE):
                while stream.end is None:
                    stream.news.clear()
                    await stream.news.wait()
        except TimeoutError:
            return
