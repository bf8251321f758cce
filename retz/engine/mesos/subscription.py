"""pymesos's driver, kept subscribed, and what it gets translated for the server.

What pymesos does that would end or block a driver for good is overridden here, each with its reason. Its loop
(``Process._run``) is used as it is: it calls :class:`~.stream.Stream` for everything it does with a connection.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from . import events
from .address import ZOOKEEPER, parse_master
from .calls import Answer, Caller, CallFailed
from .stream import Stream
from .wire import Connect, Disconnected, Malformed, Message, Refused, Subscribed

from pymesos.scheduler import MesosSchedulerDriver  # isort: skip  # .stream makes this possible

log = logging.getLogger("driver")

YEARS_S = 10 * 365 * 86400.0
"""pymesos's patience with a master that is away; at its end it raises."""

PAUSE_S = 0.2
MAX_PAUSE_S = 5.0
SETTLED_S = 5.0
"""A subscription that lasted so long was a good one: the next attempt follows at once."""


class Session:
    """One subscription, as far as calls need it. For one thread, but for :meth:`end` and :meth:`broken`."""

    def __init__(self, caller: Caller, framework: str, on_broken: Callable[[str], None]) -> None:
        self._caller = caller
        self._framework = framework
        self._on_broken = on_broken

    def call(self, calls: Sequence[tuple[str, dict[str, Any] | None]], *, repeat: bool) -> list[Answer]:
        """Make calls (their types, their contents), :data:`~.calls.IN_FLIGHT` at most. Returns the answers in order.

        Args:
            repeat: Whether those without an answer may be sent a second time.

        Raises:
            CallFailed: there is no answer to some of them.
        """
        bodies = [self._body(kind, content) for kind, content in calls]
        try:
            return self._caller.call(bodies)
        except CallFailed as error:
            if not repeat:
                raise
            done = list(error.answers)
        return done + self._caller.call(bodies[len(done) :])

    def broken(self, why: str) -> None:
        """It is of no use any more: subscribe again, which voids all offers and asks for everything anew."""
        self._on_broken(why)

    def end(self) -> None:
        """The stream ended: whoever waits for an answer need not."""
        self._caller.drop()

    def _body(self, kind: str, content: dict[str, Any] | None) -> bytes:
        body: dict[str, Any] = {"framework_id": {"value": self._framework}, "type": kind}
        if content is not None:
            body[kind.lower()] = content
        return msgspec.json.encode(body)


class Driver(MesosSchedulerDriver):  # type: ignore[misc]  # pymesos has no types
    """A driver that goes on, and never tears down.

    Args:
        connect: Where to, and as what.
        emit: Takes messages for the server; from any thread.
        decline: Takes ids of offers that could not be understood.

    Attributes:
        session: While subscribed.
        stream: The attempt or stream of now.
        doomed: Why the stream is to be left; empty for none.

    Raises:
        ValueError: the master's address cannot be used; for the operator.
    """

    def __init__(
        self,
        connect: Connect,
        emit: Callable[[Sequence[Message]], None],
        decline: Callable[[Sequence[str]], None],
    ) -> None:
        master = parse_master(connect.master)
        # failover=True keeps pymesos from a TEARDOWN when its thread ends, for whatever reason.
        super().__init__(
            None, dict(connect.framework), master, implicit_acknowledgements=False, failover=True, timeout=YEARS_S
        )
        # pymesos encodes as ASCII and raises for anything else.
        self._basic_credential = _basic(connect.principal, connect.secret)
        self.session: Session | None = None
        self.stream: Stream | None = None
        self.doomed = ""
        self._emit = emit
        self._decline = decline
        self._home: str | None = None
        self._failures = 0
        self._idle = False
        self._told: set[Message] = set()
        self._wake = threading.Event()
        self._begun = False
        self._stopping = False

    # -- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; returns at once."""
        super(MesosSchedulerDriver, self).start()
        self._begun = True  # a thread that has not begun is not alive either
        if self.master_uri.startswith(ZOOKEEPER):
            from .detector import Detector

            self.detector = Detector(self.master_uri, self.elected, self._zookeeper_away)
            self.detector.start()
        else:
            self._home = self.master_uri
            self.change_master(self._home)

    def stop(self, failover: bool = True) -> None:
        """Disconnect. pymesos's own would tear down unless told otherwise, and its ``abort`` comes here too."""
        self._stopping = True
        super().stop(failover=True)

    def join_for(self, seconds: float) -> None:
        """Wait for pymesos's thread; one that hangs cannot do harm any more."""
        if self._io_thread is not None:
            self._io_thread.join(seconds)

    @property
    def died(self) -> bool:
        """Whether pymesos's thread ended without having been told to."""
        return self._begun and not self._stopping and self._io_thread is not None and not self._io_thread.is_alive()

    def _teardown(self) -> None:
        """Never: Mesos would kill every running job."""

    def _shutdown(self) -> None:
        """See above."""

    # -- what pymesos asks -------------------------------------------------------------------------------------

    @property
    def framework(self) -> dict[str, Any]:
        """As the server said. pymesos would drop and add capabilities by a version that it cannot always parse."""
        return dict(self._framework)

    def _get_version(self, master: str | None) -> None:
        """Not asked for: that would block the thread that learns of a new leader for ten seconds."""

    def _backoff(self, num_conn_retry: int) -> float:
        """None: we wait in :meth:`before_connecting`, where news wakes us. pymesos's overflows after 1 024 attempts."""
        return 0.0

    def _notify(self) -> None:
        super()._notify()
        self._wake.set()

    def _close(self) -> None:
        """pymesos's connection for calls is not used; see :class:`Session`."""

    def _send(self, body: Any, *_: Any, **__: Any) -> Any:
        """Nothing of pymesos may speak past :class:`Session`."""
        raise RuntimeError("calls are made by the session")

    def before_connecting(self) -> None:
        """Wait a little if attempts fail, but not if there is news."""
        self.doomed = ""
        self._wake.clear()
        here = self._new_master == self._master == self._home  # nobody sent us elsewhere
        if self._failures and self._started and here:
            pause = min(MAX_PAUSE_S, PAUSE_S * 2 ** min(self._failures - 1, 10))
            self._sleep(pause * random.uniform(0.5, 1.0))

    def _sleep(self, seconds: float) -> None:
        self._wake.wait(seconds)

    # -- masters -----------------------------------------------------------------------------------------------

    def elected(self, leader: str | None) -> None:
        """ZooKeeper says who leads. From the detector's thread."""
        if self._idle or self._stopping:
            return
        if leader is None:
            self._tell(Disconnected("ZooKeeper knows no leading Mesos master; waiting for one"))
        if leader != self._home:
            self._failures = 0
            self._home = leader
            self.change_master(leader)

    def _zookeeper_away(self, why: str) -> None:
        log.warning("%s", why)
        if self.session is None and not self._idle:
            self._tell(Disconnected(why))

    def redirect(self, leader: str) -> None:
        """The master we asked says that another leads."""
        self.change_master(leader)

    def change_master(self, new_master: str | None) -> None:
        """Go to another master; None for none. From any thread."""
        super(MesosSchedulerDriver, self).change_master(new_master)

    def doom(self, why: str) -> None:
        """Leave the present stream and subscribe again. From any thread."""
        self.doomed = why
        self._notify()

    def on_close(self) -> None:
        """pymesos closed the stream; it opens the next by itself."""
        stream, session, self.session = self.stream, self.session, None
        self.stream = None
        if session is not None:
            session.end()
        if stream is None or self._stopping:
            return
        if stream.why and not self._idle:
            self._tell(Disconnected(stream.why), anyway=session is not None)
        if self._new_master == self._master:
            self._count(stream)
        elif stream.redirected and self._master != self._home:
            self._failures += 1  # sent on twice: they may be sending us round in circles

    def _count(self, stream: Stream) -> None:
        """Learn from how a stream ended."""
        if stream.subscribed is not None and time.monotonic() - stream.subscribed > SETTLED_S:
            self._failures = 0
        else:
            self._failures += 1
        if self._master != self._home and not self._idle:
            # Where a redirect led to is no good; only the address we were given can say who leads now.
            self.change_master(self._home)

    # -- events ------------------------------------------------------------------------------------------------

    def process_events(self, records: Any) -> None:
        """All events that came in one go.

        Raises:
            ValueError: the stream is broken.
        """
        messages: list[Message] = []
        try:
            for record in records:
                messages += self._understood(record)
        finally:
            if messages:
                self._emit(list(events.coalesce(messages)))

    def _understood(self, record: bytes) -> Sequence[Message]:
        """What the server gets of an event. Whatever is wrong with it, the stream goes on."""
        try:
            return self._process(events.read(record))
        except Exception as error:  # noqa: BLE001  # one that we did not foresee must not end the stream either
            log.warning("an event was not understood: %r: %r", error, record[:200])
            return [Malformed(f"{type(error).__name__}: {error}")]

    def _process(self, event: events.Read) -> Sequence[Message]:
        if event.unreadable:
            self._decline(event.unreadable)
        if event.subscription is not None:
            return [self._subscribed(event.subscription)]
        if event.refusal is not None:
            return self._error(event.refusal)
        return event.messages

    def _subscribed(self, event: events.Subscription) -> Message:
        stream = self.stream
        assert stream is not None
        address = str(self._master)
        self.framework_id = event.framework_id.value
        stream.expect_heartbeats(event.heartbeat_interval_seconds)
        caller = Caller(address, self.stream_id, self._basic_credential)
        session = Session(caller, event.framework_id.value, lambda why: self._leave(session, why))
        self.session = session
        self._told.clear()
        return Subscribed(event.framework_id.value, address, event.master_info.version)

    def _leave(self, session: Session, why: str) -> None:
        if self.session is session:
            log.warning("subscribing again: %s", why)
            self.doom(why)

    def _error(self, refused: Refused) -> Sequence[Message]:
        """The stream ends behind it. Where trying again would do harm, or no good, wait to be told."""
        if self.stream is not None:
            self.stream.why = f"the Mesos master said: {refused.why}"
        if refused.kind in ("superseded", "removed"):
            self._idle = True
            self.change_master(None)
            return [refused, Disconnected(f"the Mesos master said: {refused.why}")]
        self.tell_refused(refused)
        return []

    def tell_refused(self, refused: Refused) -> None:
        """The subscription was refused; told once, however often that is tried."""
        self._tell(refused)

    def explain(self, status: int, text: str) -> str:
        """A refused subscription, for the operator."""
        where = f"the Mesos master at {self._master}"
        if status == 401 and self._basic_credential is None:
            return f"{where} wants to know who we are: set retz.mesos.principal and retz.mesos.secret-file (HTTP 401)"
        if status == 401:
            return f"{where} does not accept retz.mesos.principal with the secret in retz.mesos.secret-file (HTTP 401)"
        if status == 403:
            return f"{where} does not permit retz.mesos.principal to register in these roles (HTTP 403: {text})"
        if status == 404 or status == 200:
            return f"what listens at {self._master} is not a Mesos master (HTTP {status}): check retz.mesos.master"
        return f"{where} refused the subscription (HTTP {status}: {text})"

    def _tell(self, message: Message, *, anyway: bool = False) -> None:
        """Tell what changed, not every attempt."""
        if anyway or message not in self._told:
            self._told.add(message)
            self._emit([message])


def _basic(principal: str | None, secret: str | None) -> str | None:
    if principal is None or secret is None:
        return None
    return "Basic " + b64encode(f"{principal}:{secret}".encode()).decode()
