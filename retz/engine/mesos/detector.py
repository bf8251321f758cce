"""Who leads, according to ZooKeeper.

pymesos's own detector gives up for good when ZooKeeper is away at start or the masters' node does not exist yet.
This one asks, is told of changes, asks again every few seconds anyway, and never ends by itself.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError

ASK_EVERY_S = 10.0
RETRY_S = 2.0
PATIENCE_S = 10.0
PREFIX = "json.info_"


class Detector:
    """Watches the masters' nodes from a thread of its own.

    Args:
        uri: ``zk://host:2181,host:2181/mesos``; ``zk://user:password@...`` where the nodes are protected.
        elected: Told ``host:port`` of the leader whenever it may have changed; None while there is none.
        trouble: Told why ZooKeeper does not answer; the last leader stays until it says otherwise.
    """

    def __init__(self, uri: str, elected: Callable[[str | None], None], trouble: Callable[[str], None]) -> None:
        self._uri = uri
        self._elected = elected
        self._trouble = trouble
        self._changed = threading.Event()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin. Returns at once."""
        threading.Thread(target=self._run, name="detector", daemon=True).start()

    def stop(self) -> None:
        """End, soon."""
        self._stopped.set()
        self._changed.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            client = _client(self._uri)
            try:
                client.start(PATIENCE_S)
                self._watch(client)
            except (KazooException, KazooTimeoutError, OSError) as error:
                self._trouble(f"ZooKeeper ({self._servers()}) does not answer: {str(error) or type(error).__name__}")
            finally:
                _close(client)
            self._pause(RETRY_S)

    def _watch(self, client: Any) -> None:
        """Ask for as long as this client lives; a session that expired makes kazoo open another by itself."""
        while not self._stopped.is_set():
            self._changed.clear()
            leader, waiting = self._leader(client)
            if self._stopped.is_set():
                return
            self._elected(leader)
            self._pause(waiting)

    def _leader(self, client: Any) -> tuple[str | None, float]:
        """The leader's address, and how long to wait before asking again if nothing changes."""
        try:
            names = client.get_children_async("/", watch=self._wake).get(timeout=PATIENCE_S)
            for name in leaders(names):
                data, _ = client.get_async(f"/{name}").get(timeout=PATIENCE_S)
                return address(data), ASK_EVERY_S
        except NoNodeError:
            return None, RETRY_S  # no master ever registered, or the leader went between two questions
        return None, ASK_EVERY_S

    def _wake(self, _event: object) -> None:
        self._changed.set()

    def _pause(self, seconds: float) -> None:
        if not self._stopped.is_set():
            self._changed.wait(seconds)

    def _servers(self) -> str:
        return self._uri.partition("://")[2].rpartition("@")[2]


def leaders(names: Iterable[str]) -> list[str]:
    """The nodes of masters, the leading one first."""
    return sorted((name for name in names if name.startswith(PREFIX)), key=lambda name: name.removeprefix(PREFIX))


def address(data: bytes | None) -> str | None:
    """``host:port`` from a master's node (a MasterInfo in JSON); None if it says nothing usable."""
    try:
        place = json.loads(data or b"null")["address"]
        host, port = str(place.get("ip") or place["hostname"]), int(place["port"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _client(uri: str) -> Any:
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # it logs every attempt
    credentials, at, servers = uri.partition("://")[2].rpartition("@")
    auth = [("digest", credentials)] if at else None
    return KazooClient(servers, timeout=PATIENCE_S, auth_data=auth)


def _close(client: Any) -> None:
    try:
        client.stop()
        client.close()
    except (KazooException, KazooTimeoutError, OSError) as error:
        logging.getLogger(__name__).debug("closing the ZooKeeper client: %s", error)
