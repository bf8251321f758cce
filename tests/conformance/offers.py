"""Finding the offers of now that stand for recorded ones.

An offer is told by its agent (by the attribute ``rack``) and its role, and must hold the recorded resources. How much
of an agent is free at a tick of the allocator is often chance, so that several offers may stand for several others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tests.conformance import wire
from tests.conformance.normalise import Bindings, compare
from tests.conformance.recording import Entry, Kind, Recording

Offer = Mapping[str, Any]

_OFFER_IDS = re.compile(r'"offer_ids": (\[[^\]]*\])')


class Offers:
    """The offers of one replay."""

    def __init__(self, bindings: Bindings) -> None:
        self._bindings = bindings
        self._taken: set[str] = set()
        self._parts: dict[str, list[str]] = {}

    def waiting(self, streams: Iterable[wire.Stream]) -> Iterator[Offer]:
        """Offers that came and stand for no recorded one yet."""
        for event in (event for stream in streams for event in stream.events if event.data["type"] == "OFFERS"):
            for offer in event.data["offers"]["offers"]:
                if offer["id"]["value"] not in self._taken:
                    yield offer

    def dismiss(self, offer: Offer) -> None:
        """It stands for nothing."""
        self._taken.add(offer["id"]["value"])

    def of_agent(self, streams: Iterable[wire.Stream], recorded: Offer) -> Offer | None:
        """Any waiting offer of the recorded one's agent and role."""
        return next((each for each in self.waiting(streams) if agent(each) == agent(recorded)), None)

    def match(self, streams: Iterable[wire.Stream], recorded: Sequence[Offer], in_parts: bool) -> list[Offer] | None:
        """Waiting offers that hold as much as recorded ones of one agent: a single one, or (in parts) several."""
        wanted = resources(recorded)
        candidates = [each for each in self.waiting(streams) if agent(each) == agent(recorded[0])]
        for each in candidates:
            if resources([each]) == wanted:
                return [each]
        return candidates if in_parts and candidates and resources(candidates) == wanted else None

    def take(self, recorded: Sequence[Offer], found: Sequence[Offer]) -> list[str]:
        """From now on these stand for the recorded ones; what differs in anything but resources."""
        ids = [each["id"]["value"] for each in found]
        self._taken |= set(ids)
        for place, each in enumerate(recorded):
            self._parts[each["id"]["value"]] = ids if place == 0 else []
        return compare({**recorded[0], "resources": []}, {**found[0], "resources": []}, self._bindings)

    def named(self, recording: Recording, request: Entry) -> list[list[Offer]]:
        """Recorded offers that a request names and for which none stand yet, by agent."""
        found: dict[str, list[Offer]] = {}
        known = _recorded(recording)
        for id in dict.fromkeys(_named_ids(request.raw.decode(errors="replace"))):
            if id in known and id not in self._parts:
                found.setdefault(agent(known[id]), []).append(known[id])
        return list(found.values())

    def outgoing(self, body: str) -> str:
        """A request's body with the ids of all the offers that stand for those it names."""

        def ids(match: re.Match[str]) -> str:
            named = [id for id in _named_ids(match[0]) for id in self._parts.get(id, [self._bindings.text(id)])]
            return f'"offer_ids": {json.dumps([{"value": id} for id in named])}'

        return _OFFER_IDS.sub(ids, body)


def _recorded(recording: Recording) -> dict[str, Offer]:
    events = (wire.event(e.raw) for e in recording.entries if e.kind is Kind.CHUNK and e.title == "OFFERS")
    return {offer["id"]["value"]: offer for event in events for offer in event["offers"]["offers"]}


def _named_ids(text: str) -> list[str]:
    found = _OFFER_IDS.search(text)
    return [each["value"] for each in json.loads(found[1])] if found else []


def agent(offer: Offer) -> str:
    """What tells an agent, here and in the recording, and the role."""
    racks = [each["text"]["value"] for each in offer.get("attributes", ()) if each["name"] == "rack"]
    return " ".join([*racks, offer.get("allocation_info", {}).get("role", "")])


def resources(offers: Sequence[Offer]) -> str:
    """What offers of one agent hold together."""
    scalars: dict[str, float] = {}
    ranges = set()
    for resource in (each for offer in offers for each in offer["resources"]):
        allocated = resource.get("allocation_info", {}).get("role", "")
        key = " ".join([resource["name"], resource["type"], resource["role"], allocated]).strip()
        if "scalar" in resource:
            scalars[key] = round(scalars.get(key, 0.0) + resource["scalar"]["value"], 3)
        else:
            ranges.add(f"{key}: {resource['ranges']['range']}")
    return "; ".join([*(f"{key}: {value}" for key, value in sorted(scalars.items())), *sorted(ranges)])
