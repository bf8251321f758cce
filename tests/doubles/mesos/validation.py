"""What the master refuses: calls that are not well-formed (400), FrameworkInfos (ERROR), tasks (TASK_ERROR)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from .allocator import Bundle, number
from .model import Framework, Json

CALLS: dict[str, str | None] = {
    "SUBSCRIBE": "subscribe",
    "TEARDOWN": None,
    "ACCEPT": "accept",
    "DECLINE": "decline",
    "ACCEPT_INVERSE_OFFERS": "accept_inverse_offers",
    "DECLINE_INVERSE_OFFERS": "decline_inverse_offers",
    "REVIVE": None,
    "SUPPRESS": None,
    "KILL": "kill",
    "SHUTDOWN": "shutdown",
    "ACKNOWLEDGE": "acknowledge",
    "ACKNOWLEDGE_OPERATION_STATUS": "acknowledge_operation_status",
    "RECONCILE": "reconcile",
    "RECONCILE_OPERATIONS": "reconcile_operations",
    "MESSAGE": "message",
    "REQUEST": "request",
    "UPDATE_FRAMEWORK": "update_framework",
    "UNKNOWN": None,
}
"""Calls of the scheduler API, and the message each must carry."""

_ID = {"value": str}
_FRAMEWORK = {"user": str, "name": str}

_SHAPES: dict[str, Mapping[str, Any]] = {
    "subscribe": {"framework_info": _FRAMEWORK},
    "update_framework": {"framework_info": _FRAMEWORK},
    "decline": {"offer_ids": [_ID]},
    "accept": {"offer_ids?": [_ID], "operations?": [{}]},
    "kill": {"task_id": _ID},
    "acknowledge": {"agent_id": _ID, "task_id": _ID, "uuid": str},
    "reconcile": {"tasks?": [{"task_id": _ID}]},
    "framework_id": _ID,
}
"""Required fields and their kinds; a name with ``?`` is not required."""

_KINDS = {str: "string", bool: "boolean", int: "number", float: "number", list: "array", dict: "object"}
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_")
UUID_LENGTH = 24
"""Of 16 bytes in base64."""


class Refused(Exception):
    """400 with this text."""


def parse(body: bytes) -> Json:
    """A call, checked as far as its form goes.

    Raises:
        Refused: With Mesos's own words.
    """
    try:
        call = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise Refused("Failed to parse body into JSON: syntax error at line 1 near: ") from None
    if not isinstance(call, dict):
        raise Refused("Failed to convert JSON into Call protobuf: Expecting a JSON object")
    _check_shape(call)
    _check_call(call)
    return call


def _check_shape(call: Json) -> None:
    missing: list[str] = []
    for name, shape in _SHAPES.items():
        if name in call:
            missing.extend(_missing(call[name], shape, name, name))
    if missing:
        raise _conversion(f"Missing required fields: {', '.join(missing)}")
    uuid = call.get("acknowledge", {}).get("uuid")
    if uuid is not None:
        for character in uuid:
            if character not in _ALPHABET:
                raise _conversion(f"Failed to base64 decode bytes field 'uuid': Invalid character '{character}'")


def _missing(value: Any, shape: Any, path: str, name: str) -> Iterator[str]:
    """Paths of required fields that are not there; kinds are checked on the way."""
    kind = type(shape) if isinstance(shape, (dict, list)) else shape
    if type(value) is not kind:
        raise _conversion(f"Not expecting a JSON {_KINDS.get(type(value), 'null')} for field '{name}'")
    if isinstance(shape, list):
        for index, item in enumerate(value):
            if shape[0]:
                yield from _missing(item, shape[0], f"{path}[{index}]", name)
    elif isinstance(shape, dict):
        for field, inner in shape.items():
            bare = field.rstrip("?")
            if bare in value:
                yield from _missing(value[bare], inner, f"{path}.{bare}", bare)
            elif bare == field and not isinstance(inner, list):
                yield f"{path}.{bare}"


def _conversion(why: str) -> Refused:
    return Refused(f"Failed to convert JSON into Call protobuf: {why}")


def _invalid(why: str) -> Refused:
    return Refused(f"Failed to validate scheduler::Call: {why}")


def _check_call(call: Json) -> None:
    kind = call.get("type")
    if kind not in CALLS:
        raise _invalid("Expecting 'type' to be present")
    needed = CALLS[kind]
    if kind == "SUBSCRIBE":
        _check_subscribe(call)
        return
    if "framework_id" not in call:
        raise _invalid("Expecting 'framework_id' to be present")
    if needed is not None and needed not in call:
        raise _invalid(f"Expecting '{needed}' to be present")
    if kind == "ACKNOWLEDGE" and len(call["acknowledge"]["uuid"]) != UUID_LENGTH:
        raise _invalid("Not a valid UUID")


def _check_subscribe(call: Json) -> None:
    if "subscribe" not in call:
        raise _invalid("Expecting 'subscribe' to be present")
    outside = call.get("framework_id", {}).get("value", "")
    inside = call["subscribe"]["framework_info"].get("id", {}).get("value", "")
    if outside != inside:
        raise _invalid("'framework_id' differs from 'subscribe.framework_info.id'")


def check_principal(authenticated: str | None, info: Json) -> None:
    """A framework may name no other principal than the one it authenticated as."""
    named = info.get("principal")
    if authenticated is not None and named is not None and named != authenticated:
        raise _invalid(
            f"Authenticated principal '{authenticated}' does not match principal '{named}' set in `FrameworkInfo`"
        )


def framework_error(info: Json) -> str | None:
    """What is wrong with a FrameworkInfo; None if nothing is."""
    multi = any(each.get("type") == "MULTI_ROLE" for each in info.get("capabilities", ()))
    roles = info.get("roles", [])
    if multi and "role" in info:
        return "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable"
    if not multi and roles:
        return "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable"
    twice = sorted({role for role in roles if roles.count(role) > 1})
    if twice:
        return f"'FrameworkInfo.roles' contains duplicate items: {{ {', '.join(twice)} }}"
    for role in roles if multi else [info.get("role", "*")]:
        problem = _role_error(role)
        if problem:
            return f"'FrameworkInfo.{'roles' if multi else 'role'}' contains invalid role: {problem}"
    return None


def _role_error(role: str) -> str | None:
    for part in role.split("/"):
        if part.startswith("-"):
            return f"Role component '{part}' is invalid because it starts with a dash"
        if not part or part in (".", ".."):
            return f"Role component '{part}' is invalid"
    return None


def normalised(info: Json, role: str) -> Json:
    """A TaskInfo as the master keeps it: floats, and ``allocation_info`` in each resource."""
    return {**info, "resources": [_resource(each, role) for each in info.get("resources", ())]}


def _resource(resource: Json, role: str) -> Json:
    kept: Json = {"name": resource["name"], "type": resource["type"]}
    if resource["type"] == "RANGES":
        kept["ranges"] = resource.get("ranges", {"range": []})
    else:
        kept["scalar"] = {"value": float(resource["scalar"]["value"])}
    kept.update((key, resource[key]) for key in ("role", "reservations") if key in resource)
    kept["allocation_info"] = resource.get("allocation_info", {"role": role})
    return kept


def task_error(framework: Framework, info: Json, agent_id: str) -> str | None:
    """What is wrong with a TaskInfo by itself, before its resources are compared with the offers'."""
    return (
        _id_error(info["task_id"]["value"])
        or _duplicate(framework, info["task_id"]["value"])
        or _agent_error(info["agent_id"]["value"], agent_id)
        or _command_error(info)
        or _resources_error(info)
    )


def _id_error(task_id: str) -> str | None:
    if not task_id:
        return "ID must not be empty"
    if len(task_id) > 255:
        return "ID must not be greater than 255 characters"
    if task_id in (".", ".."):
        return f"'{task_id}' is disallowed"
    if re.search(r"[/\\\x00-\x1f\x7f]", task_id):
        return f"'{task_id}' contains invalid characters"
    return None


def _duplicate(framework: Framework, task_id: str) -> str | None:
    return f"Task has duplicate ID: {task_id}" if task_id in framework.tasks else None


def _agent_error(named: str, offered: str) -> str | None:
    return None if named == offered else f"Task uses invalid agent {named} while agent {offered} is expected"


def _command_error(info: Json) -> str | None:
    if ("command" in info) == ("executor" in info):
        return "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"
    return None


def _resources_error(info: Json) -> str | None:
    if not info.get("resources"):
        return "Task uses no resources"
    for each in info["resources"]:
        value = each.get("scalar", {}).get("value")
        if value is not None and value <= 0:
            return f"Resource '{each['name']}:{number(value)}' is invalid: Invalid scalar resource: value <= 0"
        if each["name"] == "gpus" and value is not None and value != int(value):
            why = "Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer"
            return f"Task uses invalid resources: {why}"
    return None


def shortage(info: Json, need: Bundle, offered: Bundle, role: str, order: tuple[tuple[str, str], ...]) -> str | None:
    """Whether a (normalised) task fits into what is left of its offers; if not, what Mesos says."""
    roles = {each["allocation_info"]["role"] for each in info["resources"]}
    if roles == {role} and offered.contains(need):
        return None
    wanted = need.text(next(iter(roles - {role}), role))
    return (
        f"Total resources {wanted} required by task and its executor is more than available {offered.text(role, order)}"
    )
