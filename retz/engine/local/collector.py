"""Removes sandboxes slowly: thousands at once make a file system create new ones twenty times slower for seconds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import stat
import subprocess
import time
from collections import deque
from collections.abc import Iterable

from .sandbox import sandbox_path

_log = logging.getLogger(__name__)
REST = 3.0
"""Time off between two removals, as a multiple of the time the last one took."""
REST_MIN_S = 0.002


class Collector:
    """One background task that removes one sandbox after the other while there are any."""

    def __init__(self, dir_fd: int) -> None:
        self._dir_fd = dir_fd
        self._waiting: deque[str] = deque()
        self._task: asyncio.Task[None] | None = None

    def add(self, tasks: Iterable[str]) -> None:
        """The sandboxes of these tasks may go."""
        self._waiting.extend(tasks)
        if self._waiting and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Finish the removal under way, forget the rest: the server asks again after a restart."""
        self._waiting.clear()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while self._waiting:
            path = sandbox_path(self._waiting.popleft())
            took = await asyncio.to_thread(self._remove, path)
            await asyncio.sleep(max(REST_MIN_S, REST * took))

    def _remove(self, path: str) -> float:
        before = time.monotonic()
        try:
            shutil.rmtree(path, dir_fd=self._dir_fd)
        except FileNotFoundError:
            pass  # collected before
        except PermissionError as error:
            if os.geteuid() == 0:  # no mode stops root; and what root opens up must not be a user's to choose
                _log.warning("cannot remove the sandbox %s: %s", path, error)
            else:
                self._remove_protected(path)
        except RecursionError:
            self._remove_deep(path)
        except OSError as error:
            if error.errno == errno.EMFILE:
                self._remove_deep(path)
            else:
                _log.warning("cannot remove the sandbox %s: %s", path, error)
        with contextlib.suppress(OSError):
            os.rmdir(path.rpartition("/")[0], dir_fd=self._dir_fd)  # its shard, if this was the last in it
        return time.monotonic() - before

    def _remove_deep(self, path: str) -> None:
        """Thousands of directories in each other are too much for a library that goes down by itself."""
        done = subprocess.run(
            ["rm", "-rf", "--", path],
            cwd=f"/proc/{os.getpid()}/fd/{self._dir_fd}",
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            _log.warning("cannot remove the sandbox %s: %s", path, done.stderr.strip()[:300])

    def _remove_protected(self, path: str) -> None:
        """Jobs may leave directories that nobody may write to, such as module caches."""
        try:
            # Top down, so that a directory is opened up before it is entered.
            for _, names, _, fd in os.fwalk(path, dir_fd=self._dir_fd):
                for name in names:
                    if not stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                        os.chmod(name, 0o700, dir_fd=fd)
            shutil.rmtree(path, dir_fd=self._dir_fd)
        except OSError as error:
            _log.warning("cannot remove the sandbox %s: %s", path, error)
