"""Comparing what was recorded with what came: ids, times, addresses and versions may differ, all else may not.

An id that was recorded is bound to the one that came the first time it is met, and must be the same ever after.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
ID = re.compile(rf"{_UUID}(?:-[OS]?\d+)?")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{22}==")
_WORK_DIR = "/var/lib/mesos-x/run/a1"

_LOOSE = (
    (re.compile(re.escape(_WORK_DIR)), r"/[^\\s'\"]*?"),
    (re.compile(r"127\.0\.0\.1:\d+"), r"[\\w.-]+:\\d+"),
    (re.compile(r"127\.0\.0\.1"), r"[\\w.-]+"),
    (re.compile(r"(?<!\d)1\.12\.0(?!\d)"), r"\\d+\\.\\d+\\.\\d+"),
)
"""Parts of texts that are a machine's own, and what stands for them (as the replacement of a pattern)."""

VOLATILE = frozenset(
    {
        "timestamp",
        "executor_pid",
        "ip",
        "port",
        "pid",
        "hostname",
        "version",
        "nanoseconds",
        "start_time",
        "elected_time",
        "registered_time",
        "reregistered_time",
        "unregistered_time",
        "heartbeat_interval_seconds",
        "ip_address",
        "failover_timeout",
        "flags",
        "estimated_drain_start_time_seconds",
        "build_date",
        "build_time",
        "build_user",
        "mtime",
        "nlink",
        "size",
        "uid",
        "gid",
    }
)
"""Fields of which only the type is compared."""

_NEEDS = " required by task and its executor is more than available "


@dataclass
class Bindings:
    """Recorded ids (and uuids in base64) and the ones that stand for them now."""

    live: dict[str, str] = field(default_factory=dict)
    recorded: dict[str, str] = field(default_factory=dict)

    def bind(self, recorded: str, live: str) -> str | None:
        """Take them for the same; what is wrong with that, if anything."""
        known = self.live.setdefault(recorded, live)
        owner = self.recorded.setdefault(live, recorded)
        if known != live:
            return f"{recorded} was {known} and is {live} now"
        if owner != recorded:
            return f"{live} stands for {owner} and for {recorded}"
        return None

    def text(self, recorded: str) -> str:
        """A recorded text with the ids of now; those not met yet stay."""
        found = ID.sub(lambda match: self.live.get(match[0], match[0]), recorded)
        return _BASE64.sub(lambda match: self.live.get(match[0], match[0]), found)

    def match(self, recorded: str, live: str) -> str | None:
        """Compare two texts, binding ids met for the first time; what differs, if anything."""
        recorded, live = _sorted_needs(recorded), _sorted_needs(live)
        unbound: list[str] = []
        found = re.fullmatch(self._pattern(recorded, unbound), live, re.DOTALL)
        if found is None:
            return f"expected {self.text(recorded)!r}, got {live!r}"
        problems = (self.bind(token, value) for token, value in zip(unbound, found.groups(), strict=True))
        return next((problem for problem in problems if problem), None)

    def _pattern(self, recorded: str, unbound: list[str]) -> str:
        parts, end = [], 0
        for token in ID.finditer(recorded):
            parts.append(_loose(recorded[end : token.start()]))
            end = token.end()
            if (known := self.live.get(token[0])) is not None:
                parts.append(re.escape(known))
            elif token[0] in unbound:
                parts.append(f"\\{unbound.index(token[0]) + 1}")
            else:
                unbound.append(token[0])
                parts.append(f"({ID.pattern})")
        return "".join([*parts, _loose(recorded[end:])])


def _loose(text: str) -> str:
    """A pattern for a text without ids."""
    spots = [
        (match.start(), match.end(), match.expand(pattern))
        for regex, pattern in _LOOSE
        for match in regex.finditer(text)
    ]
    parts, end = [], 0
    for start, stop, pattern in sorted(spots, key=lambda spot: (spot[0], -spot[1])):
        if start >= end:
            parts += [re.escape(text[end:start]), pattern]
            end = stop
    return "".join([*parts, re.escape(text[end:])])


def _sorted_needs(text: str) -> str:
    """Mesos lists resources in any order."""
    head, middle, tail = text.partition(_NEEDS)
    if not middle:
        return text
    lead, _, wanted = head.rpartition("Total resources ")
    return lead + "Total resources " + _sort(wanted) + middle + _sort(tail)


def _sort(listing: str) -> str:
    return "; ".join(sorted(listing.split("; ")))


def compare(recorded: object, live: object, bindings: Bindings, where: str = "") -> list[str]:
    """Everything in which a JSON value that came differs from the recorded one. Ids are bound on the way."""
    key = where.rpartition(".")[2]
    if key in VOLATILE:
        return _same_type(recorded, live, where)
    if isinstance(recorded, dict) and isinstance(live, dict):
        return _compare_objects(recorded, live, bindings, where)
    if isinstance(recorded, list) and isinstance(live, list):
        return _compare_lists(_ordered(key, recorded), _ordered(key, live), bindings, where)
    if isinstance(recorded, str) and isinstance(live, str):
        return _compare_texts(key, recorded, live, bindings, where)
    if type(recorded) is not type(live) or recorded != live:
        return [f"{where}: expected {_short(recorded)}, got {_short(live)}"]
    return []


def _same_type(recorded: object, live: object, where: str) -> list[str]:
    if type(recorded) is type(live):
        return []
    return [f"{where}: expected {_short(recorded)}, got {_short(live)} (another type)"]


_PERHAPS = frozenset({"reregistered_time"})
"""Fields that depend on what happened before."""


def _compare_objects(
    recorded: Mapping[str, object], live: Mapping[str, object], bindings: Bindings, where: str
) -> list[str]:
    recorded, live = ({key: value for key, value in each.items() if key not in _PERHAPS} for each in (recorded, live))
    problems = [f"{where}: no {key!r}" for key in recorded if key not in live]
    problems += [f"{where}: {key!r} is too much: {_short(live[key])}" for key in live if key not in recorded]
    shared = [key for key in recorded if key in live]
    if shared != [key for key in live if key in recorded]:
        problems.append(f"{where}: fields in the order {list(live)}, expected {list(recorded)}")
    for key in shared:
        problems += compare(recorded[key], live[key], bindings, f"{where}.{key}")
    return problems


def _compare_lists(recorded: list[Any], live: list[Any], bindings: Bindings, where: str) -> list[str]:
    if len(recorded) != len(live):
        return [f"{where}: expected {len(recorded)} elements, got {len(live)}: {_short(live)}"]
    live = _aligned(recorded, live, bindings)
    pairs = enumerate(zip(recorded, live, strict=True))
    return [problem for i, (a, b) in pairs for problem in compare(a, b, bindings, f"{where}[{i}]")]


def _aligned(recorded: list[Any], live: list[Any], bindings: Bindings) -> list[Any]:
    """Things with ids (and roles) come in any order."""
    names = [_name(each) for each in (*recorded, *live)]
    if None in names:
        return live
    wanted = [bindings.text(str(name)) for name in names[: len(recorded)]]
    found = {_name(each): each for each in live}
    return [found[name] for name in wanted] if set(wanted) == set(found) else live


def _name(value: object) -> str | None:
    """What is called by an id, or is a role."""
    if not isinstance(value, dict):
        return None
    name = value.get("id", value["name"] if "quota" in value else None)
    return name if isinstance(name, str) else None


def _compare_texts(key: str, recorded: str, live: str, bindings: Bindings, where: str) -> list[str]:
    if key == "uuid" and _BASE64.fullmatch(recorded):
        problem = bindings.bind(recorded, live) if _is_uuid(live) else f"{live!r} is no uuid in base64"
    else:
        problem = bindings.match(recorded, live)
    return [f"{where}: {problem}"] if problem else []


def _is_uuid(text: str) -> bool:
    return len(base64.b64decode(text)) == 16


def _ordered(key: str, values: list[Any]) -> list[Any]:
    """Lists of resources, and of names of roles, come in any order."""
    if key == "roles" and all(isinstance(value, str) for value in values):
        return sorted(values)
    if not re.search(r"(?:^|_)resources(?:_full)?$", key):
        return values
    return sorted(values, key=resource_key)


def resource_key(resource: object) -> str:
    """What tells entries of one list of resources apart."""
    if not isinstance(resource, Mapping):
        return str(resource)
    allocation = resource.get("allocation_info", {})
    return json.dumps([resource.get("name"), resource.get("role"), allocation.get("role")])


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else text[:300] + "…"


def shape(values: Iterable[object]) -> Any:
    """What JSON values of one kind look like: types of leaves, fields of objects and which of them are always there."""
    found = list(values)
    objects = [value for value in found if isinstance(value, dict)]
    lists = [value for value in found if isinstance(value, list)]
    leaves = {type(value).__name__ for value in found if not isinstance(value, dict | list)}
    keys = {key: None for value in objects for key in value}
    fields = {
        key: (all(key in value for value in objects), shape([value[key] for value in objects if key in value]))
        for key in keys
    }
    elements = shape([element for value in lists for element in value]) if lists else None
    return {"leaves": leaves, "object": fields if objects else None, "list": elements}


def compare_shape(expected: Any, live: object, where: str = "") -> list[str]:
    """Everything in which a value does not look like the recorded ones."""
    if isinstance(live, dict):
        return _object_shape(expected["object"], live, where)
    if isinstance(live, list):
        if expected["list"] is None:
            return [f"{where}: a list"]
        known = expected["list"]
        if not known["leaves"] and known["object"] is None and known["list"] is None:
            return []
        return [problem for i, each in enumerate(live) for problem in compare_shape(known, each, f"{where}[{i}]")]
    if type(live).__name__ not in expected["leaves"]:
        return [f"{where}: {_short(live)}, expected {sorted(expected['leaves'])}"]
    return []


def _map_shape(fields: Any, live: Mapping[str, object], where: str) -> list[str]:
    """Flags, metrics and paths: there may be any; their values are of the recorded kinds."""
    leaves = {leaf for _, each in fields.values() for leaf in each["leaves"]}
    odd = {key: value for key, value in live.items() if type(value).__name__ not in leaves}
    return [f"{where}: {odd}"] if odd or not live else []


def own(value: object, frameworks: Collection[str]) -> object:
    """A JSON value without what belongs to other frameworks: a real cluster has run many."""
    if isinstance(value, dict):
        return {key: own(each, frameworks) for key, each in value.items()}
    if isinstance(value, list):
        return [own(each, frameworks) for each in value if _owner(each) is None or _owner(each) in frameworks]
    return value


def _owner(value: object) -> str | None:
    """The framework that a task, an executor or a framework belongs to."""
    if not isinstance(value, dict):
        return None
    info = value.get("framework_info", {})
    owner = value.get("framework_id", info.get("id", value["id"] if "failover_timeout" in value else None))
    return owner.get("value") if isinstance(owner, dict) else owner


_OPTIONAL = frozenset({"ports", "gpus", "reregistered_time", "offered_resources"})
"""Fields that are there only if there is something to tell."""


def _object_shape(fields: Any, live: Mapping[str, object], where: str) -> list[str]:
    if fields is None:
        return [f"{where}: an object"]
    if where.endswith(".flags") or (fields and all("/" in key for key in fields)):
        return _map_shape(fields, live, where)
    missing = [key for key, (always, _) in fields.items() if always and key not in live and key not in _OPTIONAL]
    problems = [f"{where}: no {key!r}" for key in missing]
    for key, value in live.items():
        if key not in fields and key in _OPTIONAL:
            continue
        if key not in fields:
            problems.append(f"{where}: {key!r} is too much: {_short(value)}")
        else:
            problems += compare_shape(fields[key][1], value, f"{where}.{key}")
    return problems
