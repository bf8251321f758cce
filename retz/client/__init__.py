"""Clients of the native API: :class:`Client` and :class:`AsyncClient` (docs/sdk.md).

Imported lazily: the command line takes :mod:`retz.client.transport` from here without paying for httpx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import ApiError, ConnectionLost, NoCredentials, NoServer, RetzError, Untrusted

if TYPE_CHECKING:
    from retz.model.submission import JobSpec

    from .asynchronous import AsyncClient
    from .sync import Client
    from .types import Event, Job

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "ConnectionLost",
    "Event",
    "Job",
    "JobSpec",
    "NoCredentials",
    "NoServer",
    "RetzError",
    "Untrusted",
]

_LAZY = {
    "AsyncClient": "retz.client.asynchronous",
    "Client": "retz.client.sync",
    "Event": "retz.client.types",
    "Job": "retz.client.types",
    "JobSpec": "retz.model.submission",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
