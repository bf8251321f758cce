"""``retz-server`` on a disk whose fsync takes ``RETZ_BENCH_FSYNC_MS`` longer than the real one's."""

from __future__ import annotations

import os
import time

from retz.server.main import main
from retz.store.files import FileLayer

DELAY_S = float(os.environ.pop("RETZ_BENCH_FSYNC_MS", "5")) / 1000
_really = FileLayer.fdatasync


def _slow(self: FileLayer, fd: int) -> None:
    time.sleep(DELAY_S)
    _really(self, fd)


if __name__ == "__main__":
    FileLayer.fdatasync = _slow  # type: ignore[method-assign]
    main()
