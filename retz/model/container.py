"""How a job is contained."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Volume(Struct, frozen=True, omit_defaults=True):
    """A container volume: by driver and name, mounted at ``container_path``."""

    driver: str
    name: str
    container_path: str
    mode: Literal["RO", "RW"] = "RO"
    options: dict[str, str] = {}


class Container(Struct, frozen=True, omit_defaults=True):
    """How a job is contained. ``none`` is a plain process (Retz calls it ``mesos``)."""

    type: Literal["none", "docker"] = "none"
    image: str | None = None
    volumes: tuple[Volume, ...] = ()
