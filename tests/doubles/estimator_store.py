"""A skyline store whose readers can be held at a gate, for tests of the processes around it.

Worker processes find it by its dotted path and take its directory from the environment.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from pathlib import Path

from estimator.model import RecurrenceId
from estimator.skylinestore.base import Runs
from estimator.skylinestore.files import FileStore

NAME = "tests.doubles.estimator_store.GatedStore"
VARIABLE = "RETZ_TEST_GATED_STORE"
_DEADLINE_S = 30.0


class GatedStore(FileStore):
    """Who has read the history of ``slow*`` waits at the gate; of ``broken`` it fails; all readings are counted."""

    def __init__(self) -> None:
        super().__init__(Path(os.environ[VARIABLE]))

    def get_history(self, run: RecurrenceId | None) -> Runs | None:
        print("a store that talks")  # must not get between a worker and its parent
        assert run is not None
        if run.pipeline == "broken":
            raise RuntimeError("a fault in somebody's own class")
        with open(Path(os.environ[VARIABLE]) / "asked", "a") as asked:
            asked.write(f"{run.pipeline}\n")
        found = super().get_history(run)
        if run.pipeline.startswith("slow"):
            with open(Path(os.environ[VARIABLE]) / "gate", "rb") as gate:
                gate.read()
        return found


class Gate:
    """The test's side of the gate."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        os.mkfifo(directory / "gate")

    async def somebody(self) -> int:
        """Wait until a reader stands at the gate; closing the descriptor lets him through."""
        return await asyncio.to_thread(self.now)

    def now(self) -> int:
        """The same, without asyncio."""
        end = time.monotonic() + _DEADLINE_S
        while True:
            try:
                return os.open(self._directory / "gate", os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO or time.monotonic() > end:
                    raise
            time.sleep(0.005)

    def asked(self) -> list[str]:
        """Whose history was read, in order."""
        path = self._directory / "asked"
        return path.read_text().split() if path.exists() else []
