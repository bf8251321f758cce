"""``/ping`` and ``/status``: unsigned, and naming no user, job or application."""

from __future__ import annotations

from aiohttp import web

from retz.model.resources import from_vector, subtract

from ..api import Call
from ..responses import SERVER, json_bytes
from . import messages
from .answers import answer
from .translate import quantity


async def ping(call: Call) -> web.StreamResponse:
    """``GET /ping``."""
    return json_bytes(b'"OK"')


async def status(call: Call) -> web.StreamResponse:
    """``GET /status``."""
    core = call.core
    running = core.running()
    active = sum(agent.state == "active" for agent in core.agents())
    sums = core.sums()
    free = subtract(subtract(sums.total.vector, sums.used.vector), sums.others.vector)
    cpus, mem, disk, gpus, ports = (max(0, amount) for amount in free)
    return answer(
        messages.StatusAnswer(
            queue_length=core.db.jobs.count("state", "QUEUED"),
            running_length=running,
            total_used=quantity(sums.used, nodes=running),
            num_slaves=active,
            offers=active,
            total_offered=quantity(from_vector((cpus, mem, disk, gpus, ports)), nodes=active),
            master=core.engine.master,
            stanchion_queue_length=0,
            server_version=SERVER,
        )
    )
