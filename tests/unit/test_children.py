"""Waiting for the end of child processes."""

from __future__ import annotations

import asyncio
import sys

import pytest

from retz.server.children import ended

pytestmark = pytest.mark.anyio

TALKS = "import sys, time; sys.stdout.write('x' * (1 << 20)); sys.stdout.flush(); time.sleep(1000)"


async def test_a_process_whose_output_nobody_read_is_waited_for() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", TALKS, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while not process.stdout._paused:  # type: ignore[attr-defined]  # noqa: ASYNC110 (nothing else tells)
            await asyncio.sleep(0.01)
        process.kill()
        await ended(process)
    assert process.returncode == -9
