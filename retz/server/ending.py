"""The end of a child process."""

from __future__ import annotations

import asyncio

_CHUNK = 1 << 16


async def ended(process: asyncio.subprocess.Process) -> None:
    """Wait for a process that was killed, or ends by itself. Nobody else may be reading its output any more.

    What it still had to say is read and thrown away: asyncio says that a process has ended only when its pipes have,
    and it does not look at a pipe while its buffer is full.
    """
    if process.stdout is not None:
        while await process.stdout.read(_CHUNK):
            continue
    await process.wait()
