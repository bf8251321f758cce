"""Resources, attributes and tasks in the older notation of /state and /slaves: plain names, amounts as numbers."""

from __future__ import annotations

from collections.abc import Iterable

from .model import Json

VERSION: Json = {
    "build_date": "2026-11-20 05:00:00 UTC",
    "build_time": 1795150800.0,
    "build_user": "root",
    "version": "1.12.0",
}

VERSION_INFO: Json = {
    "version": "1.12.0",
    "build_date": "2026-11-20 05:00:00 UTC",
    "build_time": 1795150800.0,
    "build_user": "root",
}

AGENT_CAPABILITIES = [
    "MULTI_ROLE",
    "HIERARCHICAL_ROLE",
    "RESERVATION_REFINEMENT",
    "RESOURCE_PROVIDER",
    "RESIZE_VOLUME",
    "AGENT_OPERATION_FEEDBACK",
    "AGENT_DRAINING",
    "TASK_RESOURCE_LIMITS",
]

SCALARS = ("disk", "mem", "gpus", "cpus")


def amounts(resources: Iterable[Json]) -> Json:
    """``{"disk":0.0,"mem":32.0,"gpus":0.0,"cpus":0.1,"ports":"[1-2, 5-6]"}``; without ports if there are none."""
    scalars = dict.fromkeys(SCALARS, 0.0)
    ranges: list[tuple[int, int]] = []
    for each in resources:
        if "scalar" in each:
            scalars[each["name"]] = round(scalars.get(each["name"], 0.0) + each["scalar"]["value"], 3)
        elif each["name"] == "ports":
            ranges += [(int(part["begin"]), int(part["end"])) for part in each["ranges"]["range"]]
    told: Json = dict(scalars)
    if ranges:
        told["ports"] = "[" + ", ".join(f"{begin}-{end}" for begin, end in sorted(ranges)) + "]"
    return told


def quantities(resources: Iterable[Json]) -> Json:
    """``{"cpus":0.1,"mem":32.0,"ports":101.0}``: only what there is, sorted, ports counted."""
    sums: dict[str, float] = {}
    for each in resources:
        if "scalar" in each:
            amount = each["scalar"]["value"]
        elif "ranges" in each:
            amount = float(sum(part["end"] - part["begin"] + 1 for part in each["ranges"]["range"]))
        else:
            continue
        sums[each["name"]] = round(sums.get(each["name"], 0.0) + amount, 3)
    return dict(sorted(sums.items()))


def reservation_of(resource: Json) -> str:
    """The role it is reserved for; ``*`` if for none."""
    reservations = resource.get("reservations")
    return str(reservations[-1]["role"] if reservations else resource.get("role", "*"))


def reserved(resources: Iterable[Json]) -> dict[str, list[Json]]:
    """Those that are reserved, by role."""
    by_role: dict[str, list[Json]] = {}
    for each in resources:
        if reservation_of(each) != "*":
            by_role.setdefault(reservation_of(each), []).append(each)
    return by_role


def unreserved(resources: Iterable[Json]) -> list[Json]:
    """Those that are not."""
    return [each for each in resources if reservation_of(each) == "*"]


def attributes(attributes: Iterable[Json]) -> Json:
    """``{"rack":"r1","level":3.0}``"""
    return {each["name"]: _value(each) for each in attributes}


def _value(attribute: Json) -> object:
    if "scalar" in attribute:
        return attribute["scalar"]["value"]
    if "text" in attribute:
        return attribute["text"]["value"]
    if "set" in attribute:
        return "{" + ", ".join(attribute["set"].get("item", [])) + "}"
    parts = attribute.get("ranges", {}).get("range", [])
    return "[" + ", ".join(f"{part['begin']}-{part['end']}" for part in parts) + "]"


def task(info: Json, framework_id: str, state: str, statuses: Iterable[Json]) -> Json:
    """A task, of master or agent."""
    roles = [each.get("allocation_info", {}).get("role") for each in info["resources"]]
    told: Json = {
        "id": info["task_id"]["value"],
        "name": info["name"],
        "framework_id": framework_id,
        "executor_id": info["executor"]["executor_id"]["value"] if "executor" in info else "",
        "slave_id": info["agent_id"]["value"],
        "state": state,
        "resources": amounts(info["resources"]),
        "role": next((role for role in roles if role), "*"),
        "statuses": [status(each) for each in statuses],
    }
    labels = info.get("labels", {}).get("labels")
    if labels:
        told["labels"] = labels
    for name in ("discovery", "container"):
        if name in info:
            told[name] = info[name]
    return told


def status(status: Json) -> Json:
    """An update: without message and reason."""
    told: Json = {"state": status["state"], "timestamp": status["timestamp"]}
    container = status.get("container_status")
    if container:
        told["container_status"] = {key: value for key, value in container.items() if key != "executor_pid"}
    return told


def executor_name(info: Json) -> str:
    """The name of the command executor of a task."""
    if "executor" in info:
        return str(info["executor"].get("name", ""))
    command = info.get("command", {})
    value = str(command.get("value", ""))
    short = value if len(value) <= 15 else value[:12] + "..."
    shown = f"sh -c '{short}'" if command.get("shell", True) else f"[{', '.join(command.get('arguments', [value]))}]"
    return f"Command Executor (Task: {info['task_id']['value']}) (Command: {shown})"


def v1_task(info: Json, framework_id: str, state: str, statuses: list[Json]) -> Json:
    """A task in the notation of /api/v1."""
    told: Json = {
        "name": info["name"],
        "task_id": info["task_id"],
        "framework_id": {"value": framework_id},
        "agent_id": info["agent_id"],
        "state": state,
        "resources": [without_role(each) for each in info["resources"]],
    }
    if "executor" in info:
        told["executor_id"] = info["executor"]["executor_id"]
    if statuses:
        told["statuses"] = statuses
        told["status_update_state"] = statuses[-1]["state"]
        if "uuid" in statuses[-1]:
            told["status_update_uuid"] = statuses[-1]["uuid"]
    for name in ("labels", "discovery", "container"):
        if name in info:
            told[name] = info[name]
    return told


def without_role(resource: Json) -> Json:
    """v1 operator calls leave the ``role`` of what is not reserved out."""
    if resource.get("role", "*") != "*":
        return resource
    return {key: value for key, value in resource.items() if key != "role"}
