"""Recordings of what a real Mesos answered: requests and answers, byte for byte, in the order they went over the wire.

A recording is text: two lines that say what it is, then entries. An entry is a line ``=== [seconds] title`` and, unless
it is a note, the bytes between a line ``<<<RAW`` and a line ``>>>RAW``.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path(__file__).parent.parent / "recordings" / "mesos"

_ENTRY = re.compile(rb"^=== \[ *([\d.]+)\] ([^\n]*)\n(?:<<<RAW\n(.*?)\n>>>RAW\n)?", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(
    r"(?:(\S+) )?(REQUEST|RESPONSE HEAD|RESPONSE|STREAM chunk:|STREAM last chunk)(?: (.*))?$", re.DOTALL
)
_TARGET = re.compile(r" -> 127\.0\.0\.1:(\d+)$")
_OUTCOME = re.compile(r" \((\d{3}(?:, [\d.]+ ms)?|connection left open by the master|then the master closed)\)$")
_CLOSED = re.compile(r"(\S+) STREAM: we closed the connection$")
_BROKEN = re.compile(r"(\S+) STREAM: the peer closed the connection")
_PROXY = re.compile(r"(conn\d+) (scheduler->master|master->scheduler)$")


class Kind(enum.Enum):
    """What an entry of a recording is."""

    REQUEST = "request"
    """Bytes sent. With a stream: the request that opens it."""
    RESPONSE = "response"
    """A whole answer: head and body."""
    HEAD = "head"
    """The head of an answer whose body is a stream of events."""
    CHUNK = "chunk"
    """A chunk of a stream: one event, with the framing of HTTP and of RecordIO."""
    LAST = "last"
    """The chunk that ends a stream properly."""
    CLOSED = "closed"
    """The client dropped the stream."""
    BROKEN = "broken"
    """The server's side of the stream broke off."""
    NOTE = "note"
    """Something that happened beside the wire."""
    SENT = "sent"
    """Bytes that went from a client to the master through a proxy (recording 25)."""
    RECEIVED = "received"
    """Bytes that came back through it."""


@dataclass(frozen=True)
class Entry:
    """One entry.

    Attributes:
        at: Seconds since the recording's start.
        stream: The name of the event stream (or of the proxied connection), if it belongs to one.
        title: Of requests and answers, what is tried; of notes, their text.
        port: The recorded port a request went to; 0 if it is not told (bytes that are no plain call).
        outcome: Of answers, what was remarked on them ("202, 8.2 ms", "then the master closed").
    """

    at: float
    kind: Kind
    title: str
    stream: str = ""
    port: int = 0
    raw: bytes = b""
    outcome: str = ""


@dataclass(frozen=True)
class Recording:
    """All entries of a file. ``name`` is its short name ("04b")."""

    name: str
    about: str
    entries: tuple[Entry, ...]


def names() -> list[str]:
    """Short names of all recordings, in order."""
    return sorted(_short(path) for path in DIRECTORY.glob("*.txt"))


def load(name: str) -> Recording:
    """Read the recording of a short name.

    Raises:
        FileNotFoundError: There is none.
    """
    for path in DIRECTORY.glob(f"{name}-*.txt"):
        return parse(name, path.read_bytes())
    raise FileNotFoundError(f"no recording {name} in {DIRECTORY}")


def parse(name: str, data: bytes) -> Recording:
    """Read a recording's text."""
    head = data.split(b"\n", 2)
    return Recording(name, head[1].lstrip(b"# ").decode(), tuple(_entries(data)))


def _short(path: Path) -> str:
    return path.name.split("-", 1)[0]


def _entries(data: bytes) -> Iterator[Entry]:
    for match in _ENTRY.finditer(data):
        at, title, raw = float(match[1]), match[2].decode(), match[3]
        yield _note(at, title) if raw is None else _transfer(at, title, raw)


def _note(at: float, title: str) -> Entry:
    text = title.removeprefix("NOTE ")
    if match := _CLOSED.match(text):
        return Entry(at, Kind.CLOSED, text, stream=match[1])
    if match := _BROKEN.match(text):
        return Entry(at, Kind.BROKEN, text, stream=match[1])
    if match := _TITLE.match(title):
        return Entry(at, _KINDS[match[2]], match[3] or "", stream=match[1] or "")
    return Entry(at, Kind.NOTE, text)


def _transfer(at: float, title: str, raw: bytes) -> Entry:
    if match := _PROXY.match(title):
        kind = Kind.SENT if match[2].startswith("scheduler") else Kind.RECEIVED
        return Entry(at, kind, title, stream=match[1], raw=raw)
    match = _TITLE.match(title)
    if match is None:
        raise ValueError(f"a title that is not understood: {title!r}")
    text = match[3] or ""
    target, outcome = _TARGET.search(text), _OUTCOME.search(text)
    text = _OUTCOME.sub("", _TARGET.sub("", text))
    port, remark = int(target[1]) if target else 0, outcome[1] if outcome else ""
    return Entry(at, _KINDS[match[2]], text, match[1] or "", port, raw, remark)


_KINDS = {
    "REQUEST": Kind.REQUEST,
    "RESPONSE": Kind.RESPONSE,
    "RESPONSE HEAD": Kind.HEAD,
    "STREAM chunk:": Kind.CHUNK,
    "STREAM last chunk": Kind.LAST,
}


def unproxied(recording: Recording) -> Recording:
    """A recording of the bytes that went through a proxy, as requests, answers and events.

    The connection of the event stream becomes the stream "S". Requests come where their last byte was sent, answers
    where their last byte came.
    """
    found: list[Entry] = []
    sent: dict[str, bytes] = {}
    received: dict[str, bytes] = {}
    asked: dict[str, list[Entry]] = {}
    for entry in recording.entries:
        if entry.kind is Kind.SENT:
            data = sent.get(entry.stream, b"") + entry.raw
            requests, sent[entry.stream] = _whole(data)
            new = [_proxied_request(entry, raw) for raw in requests]
            asked.setdefault(entry.stream, []).extend(new)
            found += new
        elif entry.kind is Kind.RECEIVED:
            data = received.get(entry.stream, b"") + entry.raw
            if asked[entry.stream][0].stream:
                answers, received[entry.stream] = _stream_parts(entry.at, data, asked[entry.stream][0])
            else:
                wholes, received[entry.stream] = _whole(data)
                answers = [_proxied_answer(entry, raw, asked[entry.stream].pop(0)) for raw in wholes]
            found += answers
    return Recording(recording.name, recording.about, tuple(found))


def _whole(data: bytes) -> tuple[list[bytes], bytes]:
    """Messages that are whole, and what is left."""
    found = []
    while b"\r\n\r\n" in data:
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        size = int(length[1]) if length else 0
        if len(body) < size:
            break
        found.append(head + b"\r\n\r\n" + body[:size])
        data = body[size:]
    return found, data


def _proxied_request(entry: Entry, raw: bytes) -> Entry:
    kind = re.search(rb'"type": ?"(\w+)"', raw)
    title = kind[1].decode() if kind else raw.split(b" ", 2)[1].decode()
    return Entry(entry.at, Kind.REQUEST, title, "S" if title == "SUBSCRIBE" else "", 5050, raw)


def _proxied_answer(entry: Entry, raw: bytes, request: Entry) -> Entry:
    return Entry(entry.at, Kind.RESPONSE, request.title, raw=raw)


def _stream_parts(at: float, data: bytes, request: Entry) -> tuple[list[Entry], bytes]:
    found = []
    if data.startswith(b"HTTP/") and b"\r\n\r\n" in data:
        head, _, data = data.partition(b"\r\n\r\n")
        found.append(Entry(at, Kind.HEAD, request.title, "S", raw=head + b"\r\n\r\n"))
    while match := re.match(rb"([0-9a-f]+)\r\n", data):
        stop = match.end() + int(match[1], 16) + 2
        if len(data) < stop:
            break
        kind = re.search(rb'"type":"(\w+)"', data[:stop])
        last = match[1] == b"0"
        title = "" if last or kind is None else kind[1].decode()
        found.append(Entry(at, Kind.LAST if last else Kind.CHUNK, title, "S", raw=data[:stop]))
        data = data[stop:]
    return found, data
