"""Events of the scheduler API, from bytes of the stream to messages for the server. No I/O.

Only what is needed is decoded, so that what Mesos adds one day does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from retz.model.agent import AttributeValue

from .wire import (
    ITEMS,
    AgentLost,
    Entry,
    Malformed,
    MesosOffer,
    Message,
    Offers,
    Refused,
    Rescinded,
    Status,
    Statuses,
)

MAX_RECORD = 1 << 30
MAX_DIGITS = 12
RESOURCES = frozenset({"cpus", "mem", "disk", "gpus", "ports"})
IGNORED = frozenset(
    {
        "HEARTBEAT",
        "INVERSE_OFFERS",
        "RESCIND_INVERSE_OFFER",
        "UPDATE_OPERATION_STATUS",
        "MESSAGE",
    }
)
AGENT_PORT = 5051


class Records:
    """Cuts RecordIO (a decimal length, a newline, so many bytes) into records."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take more bytes; yields the records that are whole now.

        Raises:
            ValueError: this is not RecordIO.
        """
        buffer, at = self._buffer, 0
        buffer += data
        try:
            while (newline := buffer.find(b"\n", at, at + MAX_DIGITS + 1)) >= 0:
                length = _length(bytes(buffer[at:newline]))
                end = newline + 1 + length
                if len(buffer) < end:
                    break
                record = bytes(memoryview(buffer)[newline + 1 : end])
                at = end
                yield record
            else:
                if len(buffer) - at > MAX_DIGITS:
                    raise ValueError("a record without a length")
        finally:
            del buffer[:at]


def _length(digits: bytes) -> int:
    if not digits.isdigit() or int(digits) > MAX_RECORD:
        raise ValueError(f"a record of length {digits!r}")
    return int(digits)


class _Id(Struct, frozen=True):
    value: str


class _Scalar(Struct):
    value: float


class _Range(Struct):
    begin: int
    end: int


class _Ranges(Struct):
    range: list[_Range] = []


class _Set(Struct):
    item: list[str] = []


class _Text(Struct):
    value: str


class _Allocation(Struct):
    role: str = "*"


class _Resource(Struct):
    name: str
    scalar: _Scalar | None = None
    ranges: _Ranges | None = None
    role: str = "*"
    reservation: dict[str, Any] | None = None
    reservations: list[dict[str, Any]] = []
    allocation_info: _Allocation | None = None
    disk: Any = None
    revocable: Any = None
    shared: Any = None


class _Attribute(Struct):
    name: str
    text: _Text | None = None
    scalar: _Scalar | None = None
    ranges: _Ranges | None = None
    set: _Set | None = None


class _Address(Struct):
    port: int
    ip: str = ""
    hostname: str = ""


class _Url(Struct):
    address: _Address
    scheme: str = "http"
    path: str = ""


class _Offer(Struct):
    id: _Id
    agent_id: _Id
    hostname: str = ""
    url: _Url | None = None
    allocation_info: _Allocation | None = None
    resources: list[_Resource] = []
    attributes: list[_Attribute] = []


class _Offers(Struct):
    # Each is decoded by itself: one that is odd must not take thousands along, which nobody would ever decline.
    offers: list[msgspec.Raw] = []


class _OfferId(Struct):
    id: _Id


class _Rescind(Struct):
    offer_id: _Id


class _Time(Struct):
    nanoseconds: int


class _Status(Struct):
    task_id: _Id
    state: str
    agent_id: _Id = _Id("")
    source: str = ""
    reason: str = ""
    message: str = ""
    timestamp: float = 0.0
    uuid: str | None = None
    unreachable_time: _Time | None = None


class _Update(Struct):
    status: _Status


class _Failure(Struct):
    agent_id: _Id | None = None
    executor_id: _Id | None = None


class _Error(Struct):
    message: str = ""


class _Master(Struct, frozen=True):
    version: str = ""


class Subscription(Struct):
    """What SUBSCRIBED says."""

    framework_id: _Id
    heartbeat_interval_seconds: float = 15.0
    master_info: _Master = _Master()


class _Event(Struct):
    type: str
    subscribed: Subscription | None = None
    offers: _Offers | None = None
    rescind: _Rescind | None = None
    update: _Update | None = None
    failure: _Failure | None = None
    error: _Error | None = None


_EVENT = msgspec.json.Decoder(_Event, strict=False)
_OFFER = msgspec.json.Decoder(_Offer, strict=False)
_OFFER_ID = msgspec.json.Decoder(_OfferId, strict=False)


class Read(Struct):
    """An event, understood.

    Attributes:
        messages: For the server.
        unreadable: Ids of offers that could not be understood and must be declined.
        subscription: Of a SUBSCRIBED.
        refusal: Of an ERROR; the stream ends behind it.
    """

    messages: Sequence[Message] = ()
    unreadable: Sequence[str] = ()
    subscription: Subscription | None = None
    refusal: Refused | None = None


def read(record: bytes) -> Read:
    """Understand a record of the stream.

    Raises:
        msgspec.MsgspecError: it is not JSON, or not such an event.
        UnicodeDecodeError: it is not UTF-8.
    """
    event = _EVENT.decode(record)
    if event.update is not None:
        return Read([Statuses([_status(event.update.status)])])
    if event.offers is not None:
        return _offers(event.offers.offers)
    if event.rescind is not None:
        return Read([Rescinded([event.rescind.offer_id.value])])
    if event.subscribed is not None:
        return Read(subscription=event.subscribed)
    if event.error is not None:
        return Read(refusal=Refused(_kind(event.error.message), event.error.message))
    if event.failure is not None:
        return Read(_failure(event.failure))
    if event.type in IGNORED:
        return Read()
    return Read([Malformed(f"event {event.type[:100]!r} is not known or has no content")])


def _kind(message: str) -> str:
    if "Framework failed over" in message:
        return "superseded"
    return "removed" if "Framework has been removed" in message else "other"


def _failure(failure: _Failure) -> Sequence[Message]:
    """That of an executor says nothing which the updates of its tasks do not say."""
    lost = failure.agent_id is not None and failure.executor_id is None
    return [AgentLost(failure.agent_id.value)] if lost and failure.agent_id else []


def _status(status: _Status) -> Status:
    since = status.unreachable_time
    return Status(
        status.task_id.value,
        status.agent_id.value,
        status.state,
        status.source,
        status.reason,
        status.message,
        status.timestamp,
        status.uuid or None,
        since.nanoseconds / 1e9 if since else None,
    )


def _offers(raws: Iterable[msgspec.Raw]) -> Read:
    offers: list[MesosOffer] = []
    unreadable: list[str] = []
    messages: list[Message] = [Offers(offers)]
    for raw in raws:
        try:
            offers.append(_offer(_OFFER.decode(raw)))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            messages.append(Malformed(f"an offer: {error}"))
            unreadable += _id_of(raw)
    return Read(messages, unreadable)


def _id_of(raw: msgspec.Raw) -> list[str]:
    try:
        return [_OFFER_ID.decode(raw).id.value]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []


def _offer(offer: _Offer) -> MesosOffer:
    return MesosOffer(
        offer.id.value,
        offer.agent_id.value,
        offer.hostname,
        _url(offer),
        _role(offer),
        tuple(_entry(resource) for resource in offer.resources if _usable(resource)),
        {attribute.name: _attribute(attribute) for attribute in offer.attributes},
    )


def _url(offer: _Offer) -> str:
    url = offer.url
    if url is None:
        return f"http://{offer.hostname}:{AGENT_PORT}"
    host = url.address.ip or url.address.hostname or offer.hostname
    return f"{url.scheme}://{f'[{host}]' if ':' in host else host}:{url.address.port}{url.path}"


def _role(offer: _Offer) -> str:
    if offer.allocation_info is not None:
        return offer.allocation_info.role
    return next((r.allocation_info.role for r in offer.resources if r.allocation_info is not None), "*")


def _usable(resource: _Resource) -> bool:
    """Volumes and special disks, and what may be taken away again, are not for jobs that merely need room."""
    special = (resource.disk, resource.revocable, resource.shared)
    return resource.name in RESOURCES and all(each is None for each in special)


def _entry(resource: _Resource) -> Entry:
    marks = _marks(resource)
    if resource.ranges is not None:
        ranges = tuple((part.begin, part.end) for part in resource.ranges.range)
        return Entry(resource.name, float(sum(end - begin + 1 for begin, end in ranges)), ranges, marks)
    return Entry(resource.name, resource.scalar.value if resource.scalar else 0.0, (), marks)


def _marks(resource: _Resource) -> dict[str, Any]:
    if resource.reservations:
        return {"reservations": resource.reservations}
    if resource.role == "*":
        return {}
    if resource.reservation is None:
        return {"role": resource.role}
    return {"role": resource.role, "reservation": resource.reservation}


def _attribute(attribute: _Attribute) -> AttributeValue:
    if attribute.scalar is not None:
        return attribute.scalar.value
    if attribute.ranges is not None:
        return ",".join(f"{part.begin}-{part.end}" for part in attribute.ranges.range)
    if attribute.set is not None:
        return ",".join(attribute.set.item)
    return attribute.text.value if attribute.text else ""


T = TypeVar("T")


def coalesce(messages: Iterable[Message]) -> Iterator[Message]:
    """The same news in few messages: neighbours of one kind joined, :data:`~.wire.ITEMS` in each at most."""
    offers: list[MesosOffer] = []
    statuses: list[Status] = []
    rescinded: list[str] = []
    for message in messages:
        if not isinstance(message, Statuses):
            yield from map(Statuses, _pieces(statuses))
        if not isinstance(message, Offers):
            yield from map(Offers, _pieces(offers))
        if not isinstance(message, Rescinded):
            yield from map(Rescinded, _pieces(rescinded))
        match message:
            case Statuses():
                statuses += message.statuses
            case Offers():
                offers += message.offers
            case Rescinded():
                rescinded += message.offers
            case _:
                yield message
    yield from map(Statuses, _pieces(statuses))
    yield from map(Offers, _pieces(offers))
    yield from map(Rescinded, _pieces(rescinded))


def _pieces(items: list[T]) -> Iterator[list[T]]:
    """Take everything out of the list, in pieces."""
    whole = items[:]
    items.clear()
    for at in range(0, len(whole), ITEMS):
        yield whole[at : at + ITEMS]
