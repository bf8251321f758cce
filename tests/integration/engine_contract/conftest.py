"""Engines under contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .site import Site


@pytest.fixture(params=["local", "null", "mesos"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """Every engine in turn."""
    place = Site(request.param, tmp_path / "engine")
    yield place
    place.clean()


@pytest.fixture(params=["local", "mesos"])
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """Engines that run commands."""
    place = Site(request.param, tmp_path / "engine")
    yield place
    place.clean()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Site]:
    """The local engine, for what it promises beyond the contract."""
    place = Site("local", tmp_path / "engine")
    yield place
    place.clean()
