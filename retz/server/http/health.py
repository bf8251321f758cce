"""The unsigned pages: they name no user, job or application."""

from __future__ import annotations

import asyncio
from typing import Literal

from aiohttp import web
from msgspec import Struct

from .api import Call
from .metrics import render, size_of_journals
from .responses import json_of, text


class Health(Struct, omit_defaults=True):
    """Whether the server can do its work, else why not."""

    status: Literal["ok", "read-only", "engine-failure"]
    reason: str | None = None


async def healthz(call: Call) -> web.StreamResponse:
    """``GET /healthz``."""
    core = call.core
    if core.read_only is not None:
        return json_of(Health("read-only", "a write to the journal failed: look at the disk, then restart"), 503)
    if core.engine_failure is not None:
        return json_of(Health("engine-failure", "the engine cannot go on; 'retz status' and the log say why"), 503)
    return json_of(Health("ok"))


async def metrics(call: Call) -> web.StreamResponse:
    """``GET /metrics``."""
    journal_bytes = await asyncio.to_thread(size_of_journals, call.core.config.data_dir)
    return text(await render(call.api, journal_bytes), "text/plain; version=0.0.4; charset=utf-8")
