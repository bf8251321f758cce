"""``retz-server`` whose Mesos engine does in a second what takes others a minute: for tests that break things often.

Its disk is a slow one: what happens before a record is durable shall meet with accidents.
"""

from __future__ import annotations

import faulthandler
import signal
import time
from typing import Any

from retz.engine.mesos import demand, engine, process, reconciling, tracker
from retz.server.main import main
from retz.store.files import FileLayer

SHORTER = {
    (tracker, "KILL_AGAIN_S"): 0.3,
    (tracker, "ASK_AGAIN_S"): 0.5,
    (tracker, "AGAIN_MOST_S"): 2.0,
    (tracker, "TELL_AGAIN_S"): 1.0,
    (tracker, "RESULT_WAIT_S"): 2.0,
    (tracker, "SETTLE_S"): 0.5,
    (reconciling, "BATCH_WAIT_S"): 0.2,
    (reconciling, "AGAIN_S"): 0.2,
    (reconciling, "AGAIN_MOST_S"): 1.0,
    (reconciling, "IMPLICIT_EVERY_S"): 2.0,
    (engine, "IMPLICIT_JITTER_S"): 0.5,
    (engine, "TICK_S"): 0.1,
    (demand, "LINGER_S"): 0.2,
    (process, "FIRST_PAUSE_S"): 0.05,
    (process, "LONGEST_PAUSE_S"): 0.2,
}


DRIVER_SILENCE_S = 2.0
DISK_S = 0.03
_really = FileLayer.fdatasync


class HurriedChild(process.Child):
    """Starts the driver that waits less between its attempts, and gives it up sooner."""

    def __init__(self, name: str, module: str, *args: Any, **more: Any) -> None:
        if module == "driver":
            module, more["silence_s"] = "tests.doubles.hurried_driver", DRIVER_SILENCE_S
        super().__init__(name, module, *args, **more)


def slowly(self: FileLayer, fd: int) -> None:
    """A record is durable at the end of its time."""
    time.sleep(DISK_S)
    _really(self, fd)


if __name__ == "__main__":
    FileLayer.fdatasync = slowly  # type: ignore[method-assign]
    faulthandler.register(signal.SIGUSR1)
    for (module, name), value in SHORTER.items():
        assert hasattr(module, name), f"{module.__name__} has no {name} any more"
        setattr(module, name, value)
    engine.Child = HurriedChild  # type: ignore[attr-defined]
    main()
