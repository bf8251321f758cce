"""Fixtures of the integration tests. Asynchronous tests say ``pytestmark = pytest.mark.anyio``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .http_site import Site, running_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A running server; see :mod:`tests.integration.http_site`."""
    async with running_site(tmp_path) as running:
        yield running
