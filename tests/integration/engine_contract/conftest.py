"""Engines under contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .site import Site


@pytest.fixture(params=["local", "null"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """Every engine in turn."""
    place = Site(request.param, tmp_path / "engine")
    yield place
    place.clean()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Site]:
    """The local engine, for what an engine that runs nothing cannot show."""
    place = Site("local", tmp_path / "engine")
    yield place
    place.clean()
