"""Whole frames of skylines, cluster and users at two sizes; those of the other screens are with their own tests."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from estimator.sample import tpch_q12
from tests.tui_frames import assert_golden
from tui.session import Session

from .http_site import ROOT, Site
from .test_tui_skylines import estimating, record_hours, window

pytestmark = pytest.mark.anyio

NOON = 1_795_176_000.0
"""2026-11-20 12:00 UTC."""

SIZES = [(80, 24), (120, 40)]


@pytest.fixture(autouse=True)
def at_noon() -> Iterator[None]:
    """The same time everywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        patch.setattr(Session, "now", lambda self: NOON)
        yield
    time.tzset()


def steady(text: str) -> str:
    """Without what the machine's own clock decides."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "yyyy-mm-dd hh:mm", text)


@pytest.mark.parametrize("size", SIZES)
async def test_skylines_and_a_pipeline(tmp_path: Path, size: tuple[int, int]) -> None:
    async with estimating(tmp_path, *tpch_q12()) as site, window(site, size=size) as it:
        await it.press("5")
        await it.says("9 runs of", "past runs")
        assert_golden(f"skylines-{size[0]}x{size[1]}", steady(it.text))
        page = await it.pipeline("tpch_q12")
        await it.until(lambda: not page.solving and "from 9 runs" in it.text and "% less" in it.text)
        assert_golden(f"pipeline-{size[0]}x{size[1]}", steady(it.text))


@pytest.mark.parametrize("size", SIZES)
async def test_the_cluster(site: Site, size: tuple[int, int]) -> None:
    record_hours(site, NOON)
    async with window(site, ROOT, size) as it:
        await it.press("6")
        await it.says("cpus held by user", "⣿⣿ ann", "⢕⢕ bob", "live")
        assert_golden(f"cluster-{size[0]}x{size[1]}", steady(it.text))


@pytest.mark.parametrize("size", SIZES)
async def test_users(site: Site, size: tuple[int, int]) -> None:
    record_hours(site, NOON)
    async with window(site, ROOT, size) as it:
        await it.press("7")
        await it.says("3 users", "ann: 0 queued")
        assert_golden(f"users-{size[0]}x{size[1]}", steady(it.text))
