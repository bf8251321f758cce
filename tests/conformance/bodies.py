"""Comparing the bodies of answers: JSON value by value or in its shape, texts to the letter, pages not at all."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Collection

from tests.conformance import wire
from tests.conformance.normalise import Bindings, compare, compare_shape, own, shape
from tests.conformance.recording import Entry, Kind
from tests.conformance.scenario import Scenario, matches

_VARIED = re.compile(r"/(?:flags|metrics/snapshot|files/debug)(?:\?|$)")
_WHOLE = re.compile(
    r"/(?:state|state-summary|frameworks|roles|slaves|tasks|containers|quota|monitor/statistics|weights"
    r"|maintenance/status|api/v1)(?:\?|$)"
)
_PAGES = re.compile(r"/(?:help/.*)?$")
_JSONP = re.compile(rb"^cb\((.*)\);?$", re.DOTALL)


def compare_bodies(
    scenario: Scenario,
    request: Entry,
    answers: tuple[wire.Message, wire.Message],
    bindings: Bindings,
    frameworks: Collection[str],
) -> list[str]:
    """What differs in the bodies of the recorded answer and of the one that came.

    Args:
        frameworks: Ids of the frameworks of this replay; what belongs to others is left out where all is told.
    """
    path = request.raw.split(b" ", 2)[1].decode() if request.kind is Kind.REQUEST else "/metrics/snapshot"
    if _PAGES.search(path.partition("?")[0]):
        return []
    then, now = (_JSONP.sub(rb"\1", _plain(answer)) for answer in answers)
    if re.search("json|javascript", answers[0].header("Content-Type") or ""):
        return _compare_json(scenario, request, path, (_json(then), _json(now)), bindings, frameworks)
    difference = bindings.match(_decoded(then), _decoded(now))
    return [f"body: {difference}"] if difference else []


def _compare_json(
    scenario: Scenario,
    request: Entry,
    path: str,
    values: tuple[object, object],
    bindings: Bindings,
    frameworks: Collection[str],
) -> list[str]:
    recorded, live = values
    if matches(scenario.growing, request) and isinstance(recorded, dict) and isinstance(live, dict):
        size = min(len(recorded["data"]), len(live["data"]))
        recorded, live = ({**each, "data": each["data"][:size]} for each in (recorded, live))
    whole = scenario.history and _WHOLE.search(path)
    if whole:
        live = own(live, frameworks)
    if whole or _VARIED.search(path) or matches(scenario.shaped, request):
        return compare_shape(shape([recorded]), live)
    return compare(recorded, live, bindings)


def _plain(message: wire.Message) -> bytes:
    gzipped = message.header("Content-Encoding") == "gzip"
    return gzip.decompress(message.body) if gzipped else message.body


def _decoded(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _json(data: bytes) -> object:
    """JSON as Mesos writes it: strings may hold any bytes."""
    try:
        value: object = json.loads(_decoded(data))
    except ValueError:
        return _decoded(data)
    return value
