"""Agents, frameworks and tasks of the double's master as its operator API writes them, in both notations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from weakref import WeakKeyDictionary

from . import legacy
from .model import AgentLink, AgentRecord, Framework, Json, MasterState, OfferRecord, TaskRecord

STATES = ("STAGING", "STARTING", "RUNNING", "KILLING", "FINISHED", "KILLED", "FAILED", "LOST", "ERROR", "UNREACHABLE")
"""Those that /state-summary counts."""

V1_CAPABILITIES = [{"type": name} for name in legacy.AGENT_CAPABILITIES]


def nanoseconds(at: float | None) -> Json:
    """A TimeInfo."""
    return {"nanoseconds": int((at or 0.0) * 1e9)}


def pid(link: AgentLink) -> str:
    """``slave(1)@127.0.0.1:5051``"""
    return f"{link.path.removeprefix('/')}@{link.ip}:{link.port}"


# -- agents --------------------------------------------------------------------------------------------------------


class Fixed:
    """What of an agent does not change, written once for all polls."""

    def __init__(self, link: AgentLink) -> None:
        unreserved, reserved = legacy.unreserved(link.resources), legacy.reserved(link.resources)
        self.attributes = legacy.attributes(link.attributes)
        self.amounts = legacy.amounts(link.resources)
        self.reserved = {role: legacy.amounts(each) for role, each in reserved.items()}
        self.unreserved = legacy.amounts(unreserved)
        self.reserved_full, self.unreserved_full = reserved, unreserved
        self.bare = [legacy.without_role(each) for each in link.resources]


_fixed: WeakKeyDictionary[object, Fixed] = WeakKeyDictionary()


def fixed(link: AgentLink) -> Fixed:
    """What of this agent does not change."""
    known = _fixed.get(link)
    if known is None:
        known = _fixed[link] = Fixed(link)
    return known


def offered(offers: Iterable[OfferRecord]) -> list[Json]:
    """All that is offered, added up."""
    return added(each for offer in offers for each in offer.resources)


def slave(master: MasterState, record: AgentRecord, full: bool) -> Json:
    """An agent of /state, or with ``full`` of /slaves."""
    known = fixed(record.link)
    used, waiting = master.used(record), offered(record.offers.values())
    short = {**_slave_head(record, used, waiting), **_drain_info(record)}
    if not full:
        return short
    return {
        **short,
        "reserved_resources_full": known.reserved_full,
        "unreserved_resources_full": known.unreserved_full,
        "used_resources_full": used,
        "offered_resources_full": waiting,
    }


def _slave_head(record: AgentRecord, used: list[Json], waiting: list[Json]) -> Json:
    link, known = record.link, fixed(record.link)
    told: Json = {
        "id": record.id,
        "hostname": link.hostname,
        "port": link.port,
        "attributes": known.attributes,
        "pid": pid(link),
        "registered_time": record.registered_time,
    }
    if record.reregistered_time is not None:
        told["reregistered_time"] = record.reregistered_time
    told |= {
        "resources": known.amounts,
        "used_resources": legacy.amounts(used),
        "offered_resources": legacy.amounts(waiting),
        "reserved_resources": known.reserved,
        "unreserved_resources": known.unreserved,
        "active": active(record),
        "deactivated": record.deactivated,
        "version": legacy.VERSION["version"],
        "capabilities": legacy.AGENT_CAPABILITIES,
    }
    return told


def active(record: AgentRecord) -> bool:
    """Whether its resources are offered."""
    return record.active and record.connected and not record.deactivated


def _drain_info(record: AgentRecord) -> Json:
    if record.draining is None:
        return {}
    asked = record.draining["config"]
    config: Json = {"mark_gone": bool(asked.get("mark_gone", False))}
    if "max_grace_period" in asked:
        config = {"max_grace_period": _duration(asked["max_grace_period"]), **config}
    told: Json = {"drain_info": {"state": record.draining["state"], "config": config}}
    start = record.draining.get("start_time")
    if start is not None:
        told["estimated_drain_start_time_seconds"] = start
    return told


def _duration(asked: Json) -> Json:
    return {"nanoseconds": int(asked.get("nanoseconds", 0) or float(asked.get("seconds", 0)) * 1e9)}


def recovered_slave(record: AgentRecord) -> Json:
    """An agent that was registered before the master failed over, and is not back."""
    link = record.link
    return {
        "id": record.id,
        "hostname": link.hostname,
        "port": link.port,
        "attributes": fixed(link).attributes,
    }


def slave_summary(master: MasterState, record: AgentRecord, tasks: list[TaskRecord]) -> Json:
    """An agent of /state-summary."""
    head = _slave_head(record, master.used(record), offered(record.offers.values()))
    return {**head, **counts(tasks), "framework_ids": sorted({task.framework_id for task in tasks})}


def counts(tasks: Iterable[TaskRecord]) -> Json:
    """Tasks by state."""
    found = Counter(task.state for task in tasks)
    return {f"TASK_{state}": found[f"TASK_{state}"] for state in STATES}


def agent_info(record: AgentRecord) -> Json:
    """AgentInfo."""
    link = record.link
    info: Json = {"hostname": link.hostname, "port": link.port, "resources": fixed(link).bare}
    if link.attributes:
        info["attributes"] = link.attributes
    return {**info, "id": {"value": record.id}, "checkpoint": True}


def agent(master: MasterState, record: AgentRecord) -> Json:
    """An agent of GET_AGENTS and AGENT_ADDED."""
    told: Json = {
        "agent_info": agent_info(record),
        "active": active(record),
        "deactivated": record.deactivated,
        "version": legacy.VERSION["version"],
        "pid": pid(record.link),
        "registered_time": nanoseconds(record.registered_time),
    }
    if record.reregistered_time is not None:
        told["reregistered_time"] = nanoseconds(record.reregistered_time)
    told["total_resources"] = record.link.resources
    for name, resources in (
        ("allocated_resources", master.used(record)),
        ("offered_resources", offered(record.offers.values())),
    ):
        if resources:
            told[name] = resources
    told["capabilities"] = V1_CAPABILITIES
    return {**told, **_v1_drain_info(record)}


def _v1_drain_info(record: AgentRecord) -> Json:
    told = _drain_info(record)
    start = told.pop("estimated_drain_start_time_seconds", None)
    if start is not None:
        told["estimated_drain_start_time"] = nanoseconds(start)
    return told


# -- tasks ---------------------------------------------------------------------------------------------------------


def first_seen(task: TaskRecord) -> float:
    """What /tasks sorts by."""
    return float(task.statuses[0]["timestamp"]) if task.statuses else 0.0


def task(record: TaskRecord) -> Json:
    """A task of /tasks and /state."""
    return legacy.task(record.info, record.framework_id, record.state, record.statuses)


def v1_task(record: TaskRecord) -> Json:
    """A task of GET_TASKS and TASK_ADDED."""
    told = legacy.v1_task(record.info, record.framework_id, record.state, record.statuses)
    if record.status_state is not None:
        told["status_update_state"] = record.status_state
    if record.status_uuid is not None:
        told["status_update_uuid"] = record.status_uuid
    return told


# -- frameworks ----------------------------------------------------------------------------------------------------


def used(framework: Framework) -> list[Json]:
    """What its tasks use."""
    return [each for task in framework.tasks.values() if not task.terminal for each in task.info["resources"]]


def framework_summary(record: Framework) -> Json:
    """A framework of /state-summary."""
    tasks = [*record.tasks.values(), *record.unreachable_tasks.values(), *record.completed_tasks]
    agents = sorted({task.agent_id for task in tasks})
    return {**_framework_head(record), **counts(tasks), "slave_ids": agents}


def _framework_head(record: Framework) -> Json:
    return {
        "id": record.id,
        "name": record.info.get("name", ""),
        "used_resources": legacy.amounts(used(record)),
        "offered_resources": legacy.amounts(offered(record.offers.values())),
        "capabilities": [each["type"] for each in record.info.get("capabilities", ()) if "type" in each],
        "hostname": record.info.get("hostname", ""),
        "webui_url": record.info.get("webui_url", ""),
        "active": record.active,
        "connected": record.connected,
        "recovered": record.recovered,
    }


def framework(record: Framework) -> Json:
    """A framework of /frameworks and /state."""
    told: Json = {
        **_framework_head(record),
        "user": record.info.get("user", ""),
        "failover_timeout": record.failover_timeout,
        "checkpoint": record.checkpoint,
        "registered_time": record.registered_time,
        "unregistered_time": record.unregistered_time or 0.0,
    }
    if record.principal is not None:
        told["principal"] = record.principal
    if record.reregistered_time is not None:
        told["reregistered_time"] = record.reregistered_time
    told["resources"] = legacy.amounts([*used(record), *offered(record.offers.values())])
    told |= {"roles": list(record.roles)} if record.multi_role else {"role": record.roles[0]}
    told |= {
        "tasks": [task(each) for each in record.tasks.values()],
        "unreachable_tasks": [task(each) for each in record.unreachable_tasks.values()],
        "completed_tasks": [task(each) for each in record.completed_tasks],
        "offers": [_offer(each) for each in record.offers.values()],
        "executors": [],
    }
    if "labels" in record.info:
        told["labels"] = record.info["labels"].get("labels", [])
    told["offer_constraints"] = {}
    return told


def _offer(offer: OfferRecord) -> Json:
    return {
        "id": offer.id,
        "framework_id": offer.framework_id,
        "allocation_info": {"role": offer.role},
        "slave_id": offer.agent_id,
        "resources": legacy.amounts(offer.resources),
    }


INFO_ORDER = (
    *("user", "name", "id", "failover_timeout", "checkpoint", "role", "roles", "hostname", "principal"),
    *("webui_url", "capabilities", "labels"),
)


def framework_info(record: Framework) -> Json:
    """FrameworkInfo in the order of its fields, with the defaults that Mesos writes."""
    info = {"failover_timeout": 0.0, "checkpoint": False, **record.info}
    info["failover_timeout"] = float(info["failover_timeout"])
    rest = [name for name in info if name not in INFO_ORDER]
    return {name: info[name] for name in (*INFO_ORDER, *rest) if name in info}


def framework_event(record: Framework) -> Json:
    """A framework of FRAMEWORK_ADDED and FRAMEWORK_UPDATED."""
    again = record.reregistered_time or record.registered_time
    return {
        "framework_info": framework_info(record),
        "active": record.active,
        "connected": record.connected,
        "recovered": record.recovered,
        "registered_time": nanoseconds(record.registered_time),
        "reregistered_time": nanoseconds(again),
        "unregistered_time": nanoseconds(record.unregistered_time),
    }


def v1_framework(master: MasterState, record: Framework) -> Json:
    """A framework of GET_FRAMEWORKS."""
    told = framework_event(record)
    if record.unregistered_time is None:
        del told["unregistered_time"]
    links = {each: master.agents[each].link for each in {offer.agent_id for offer in record.offers.values()}}
    parts = {
        "offers": [_v1_offer(each, links[each.agent_id]) for each in record.offers.values()],
        "allocated_resources": added(used(record)),
        "offered_resources": offered(record.offers.values()),
    }
    return {**told, **{name: value for name, value in parts.items() if value}, "offer_constraints": {}}


def _v1_offer(offer: OfferRecord, link: AgentLink) -> Json:
    address = {"hostname": link.hostname, "ip": link.ip, "port": link.port}
    return {
        "id": {"value": offer.id},
        "framework_id": {"value": offer.framework_id},
        "agent_id": {"value": offer.agent_id},
        "hostname": link.hostname,
        "url": {"scheme": "http", "address": address, "path": link.path},
        "resources": [legacy.without_role(each) for each in offer.resources],
        "attributes": link.attributes,
        "allocation_info": {"role": offer.role},
    }


def added(resources: Iterable[Json]) -> list[Json]:
    """Entries of one name, role and allocation added up."""
    sums: dict[tuple[str, str, str], Json] = {}
    for each in map(with_role, resources):
        key = (each["name"], legacy.reservation_of(each), str(each.get("allocation_info")))
        old = sums.get(key)
        if old is None:
            sums[key] = each
        elif "scalar" in each:
            value = round(old["scalar"]["value"] + each["scalar"]["value"], 3)
            sums[key] = {**old, "scalar": {"value": value}}
        elif "ranges" in each:
            ranges = [*old["ranges"]["range"], *each["ranges"]["range"]]
            sums[key] = {**old, "ranges": {"range": sorted(ranges, key=lambda part: int(part["begin"]))}}
    return list(sums.values())


def with_role(resource: Json) -> Json:
    """With the role that a framework need not name."""
    if "role" in resource:
        return resource
    allocation = {name: value for name, value in resource.items() if name == "allocation_info"}
    return {**{name: resource[name] for name in resource if name not in allocation}, "role": "*", **allocation}


def role(name: str, frameworks: list[Framework]) -> Json:
    """A role of /roles."""
    allocated = [each for record in frameworks for each in used(record) if _for(each, name)]
    waiting = [each for record in frameworks for each in offered(record.offers.values()) if _for(each, name)]
    consumed = legacy.quantities(allocated)
    return {
        "name": name,
        "weight": 1.0,
        "quota": {"role": name, "guarantee": {}, "limit": {}, "consumed": consumed},
        "resources": legacy.quantities([*allocated, *waiting]),
        "allocated": consumed,
        "offered": legacy.quantities(waiting),
        "reserved": {},
        "frameworks": [record.id for record in frameworks],
    }


def _for(resource: Json, role: str) -> bool:
    return str(resource.get("allocation_info", {}).get("role", "*")) == role


def v1_role(told: Json) -> Json:
    """A role of GET_ROLES, from one of /roles."""
    resources = [
        {"name": name, "type": "SCALAR", "scalar": {"value": value}}
        for name, value in told["resources"].items()
        if name != "ports"
    ]
    frameworks = [{"value": each} for each in told["frameworks"]]
    return {"name": told["name"], "weight": told["weight"], "frameworks": frameworks, "resources": resources}
