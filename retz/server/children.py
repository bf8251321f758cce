"""Child processes of the server's that run a module of ours and answer in frames."""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec

from .frames import HEADER

_CHUNK = 1 << 16


async def start(module: str, *words: str) -> asyncio.subprocess.Process:
    """Start ``python -m module`` with pipes, in a session of its own; it imports what the server itself would.

    Raises:
        OSError: no process can be started.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        cwd="/",
        start_new_session=True,
    )


async def receive(process: asyncio.subprocess.Process, most: int) -> bytes:
    """The next message, without its length.

    Raises:
        asyncio.IncompleteReadError: its output ended.
        msgspec.ValidationError: it is longer than ``most`` bytes.
    """
    assert process.stdout is not None
    size = int.from_bytes(await process.stdout.readexactly(HEADER), "big")
    if size > most:
        raise msgspec.ValidationError(f"{size} bytes long, where {most} are allowed")
    return await process.stdout.readexactly(size)


async def ended(process: asyncio.subprocess.Process) -> None:
    """Wait for a process that was killed, or ends by itself. Nobody else may be reading its output any more.

    What it still had to say is read and thrown away: asyncio says that a process has ended only when its pipes have,
    and it does not look at a pipe while its buffer is full.
    """
    if process.stdout is not None:
        while await process.stdout.read(_CHUNK):
            continue
    await process.wait()
