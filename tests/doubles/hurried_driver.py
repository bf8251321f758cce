"""The Mesos driver's process, with shorter pauses: of :mod:`.hurried_server`."""

from __future__ import annotations

import faulthandler
import signal

from retz.engine.mesos import driver, subscription

if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)
    assert hasattr(subscription, "PAUSE_S") and hasattr(subscription, "MAX_PAUSE_S")
    subscription.PAUSE_S, subscription.MAX_PAUSE_S = 0.05, 0.2
    driver.say_alive.__defaults__ = (0.2,)
    driver.main()
