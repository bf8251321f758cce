"""The Mesos driver's process with a fault in it: it raises where pymesos calls us, at events that hold a certain word.

The word is in ``RETZ_TEST_FAULT``; without it there is no fault.
"""

from __future__ import annotations

import os
from typing import Any

from retz.engine.mesos import driver, subscription

WORD = os.environ.get("RETZ_TEST_FAULT", "").encode()


class Faulty(subscription.Driver):
    """Raises what nobody foresaw."""

    def process_events(self, records: Any) -> None:
        found = list(records)
        if WORD and any(WORD in record for record in found):
            raise RuntimeError("a callback raised")
        super().process_events(found)


if __name__ == "__main__":
    driver.Driver = Faulty  # type: ignore[attr-defined]
    driver.say_alive.__defaults__ = (0.05,)
    driver.main()
