"""The child process that speaks Mesos's scheduler API: ``python -m retz.engine.mesos.driver``.

It is pymesos's ``MesosSchedulerDriver``, in a process of its own because pymesos takes over SIGINT, interrupts the main
thread when a callback raises, blocks under locks, parses megabytes of offers under the interpreter lock, and tears the
framework down, with every running job, at any exception. Here no TEARDOWN is ever sent: the method that would is empty.

Threads: one reads the server's messages and ends the process when the server is gone, the main thread makes calls,
pymesos's thread reads events (:mod:`.subscription`), one says that we live.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from . import compat
from .calls import IN_FLIGHT, Answer, CallFailed
from .subscription import Driver, Session
from .tasks import task_info
from .wire import (
    Accept,
    Accepted,
    Ack,
    Acknowledge,
    Alive,
    Connect,
    Decline,
    Frames,
    Kill,
    Message,
    NotAccepted,
    Reconcile,
    Refused,
    Revive,
    Stop,
    Suppress,
    TaskRef,
    ToDriver,
    frame,
)

log = logging.getLogger("driver")

ALIVE_EVERY_S = 5.0
SWITCH_INTERVAL_S = 0.0005
"""Events are decoded in one thread while another makes calls; with Python's 5 ms each would wait for the other."""

READ_BYTES = 256 * 1024
EXIT_BROKEN = 70

Emit = Callable[[Sequence[Message]], None]


class Outlet:
    """The way to the server. Blocks while the server does not read: then events stay with the master."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def emit(self, messages: Sequence[Message]) -> None:
        """Send; ends the process if the server is gone. From any thread."""
        data = memoryview(frame(messages))
        with self._lock:
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except OSError:
                    os._exit(0)


class Worker:
    """Does what the server says, in the main thread.

    Args:
        emit: Takes messages for the server.
    """

    def __init__(self, emit: Emit) -> None:
        self.inbox: queue.SimpleQueue[ToDriver] = queue.SimpleQueue()
        self.driver: Driver | None = None
        self._emit = emit
        self._todo: deque[ToDriver] = deque()
        self._acks: deque[Ack] = deque()

    def run(self) -> None:
        """Work until told to stop."""
        while self.step():
            pass

    def step(self) -> bool:
        """Do one thing, waiting for one if there is none; False after :class:`~.wire.Stop`."""
        self._fetch()
        # A launch waits for no acknowledgements: those may be thousands, and nobody waits for them.
        if self._todo and not (isinstance(self._todo[0], Stop) and self._acks):
            return self._do(self._todo.popleft())
        if self._acks:
            self._acknowledge([self._acks.popleft() for _ in range(min(IN_FLIGHT, len(self._acks)))])
        return True

    def _fetch(self) -> None:
        """Take in what was sent, waiting for the first message if there is nothing else to do."""
        while True:
            try:
                message = self.inbox.get(block=not self._todo and not self._acks)
            except queue.Empty:
                return
            if isinstance(message, Acknowledge):
                self._acks += message.acks
            else:
                self._todo.append(message)

    def _do(self, message: ToDriver) -> bool:
        match message:
            case Stop():
                self._replace(None)
                return False
            case Connect():
                self._connect(message)
            case Accept():
                self._accept(message)
            case Decline():
                self._call([("DECLINE", {"offer_ids": _values(message.offers), "filters": _filters(message.refuse_s)})])
            case Revive():
                self._call([("REVIVE", None)])
            case Suppress():
                self._call([("SUPPRESS", None)])
            case Kill():
                self._call([("KILL", _task(task)) for task in message.tasks])
            case Reconcile():
                self._call([("RECONCILE", {"tasks": [_task(task) for task in message.tasks]})])
            case Acknowledge():
                self._acks += message.acks
        return True

    def _connect(self, message: Connect) -> None:
        try:
            driver = Driver(message, self._emit, self._decline)
        except ValueError as error:
            self._replace(None)
            self._emit([Refused("other", str(error))])
            return
        self._replace(driver)
        driver.start()

    def _replace(self, driver: Driver | None) -> None:
        """Whoever was connected lets go, sparing its tasks."""
        former, self.driver = self.driver, driver
        if former is not None:
            former.stop()
            former.join_for(2.0)

    def _decline(self, offers: Sequence[str]) -> None:
        """Offers that nobody can read are not held either. From pymesos's thread."""
        self.inbox.put(Decline(list(offers), refuse_s=300.0))

    def _session(self) -> Session | None:
        return self.driver.session if self.driver else None

    def _accept(self, message: Accept) -> None:
        tasks = [task_info(launch) for launch in message.launches]
        body = {
            "offer_ids": _values(message.offers),
            "operations": [{"type": "LAUNCH", "launch": {"task_infos": tasks}}],
            "filters": _filters(message.refuse_s),
        }
        session = self._session()
        if session is None:
            self._emit([NotAccepted(message.call, "not connected to a Mesos master", certain=True)])
            return
        try:
            (answer,) = session.call([("ACCEPT", body)], repeat=False)
        except CallFailed as error:
            self._emit([NotAccepted(message.call, str(error), certain=not error.sent)])
            session.broken(f"an ACCEPT had no answer: {error}")
            return
        if answer.good:
            self._emit([Accepted(message.call)])
            return
        self._emit([NotAccepted(message.call, f"HTTP {answer.status}: {answer.text}", certain=answer.refused)])
        _judge(session, "ACCEPT", answer)

    def _acknowledge(self, acks: Sequence[Ack]) -> None:
        """One that does not arrive is not missed: Mesos sends the update again."""
        self._call([("ACKNOWLEDGE", _ack(ack)) for ack in acks])

    def _call(self, bodies: Sequence[tuple[str, dict[str, Any] | None]]) -> None:
        """Calls that may be lost with the connection, and may be repeated."""
        session = self._session()
        if session is None:
            log.debug("not connected: %d calls are left out", len(bodies))
            return
        for at in range(0, len(bodies), IN_FLIGHT):
            part = bodies[at : at + IN_FLIGHT]
            try:
                answers = session.call(part, repeat=True)
            except CallFailed as error:
                session.broken(f"{part[0][0]} had no answer: {error}")
                return
            for (kind, _), answer in zip(part, answers, strict=True):
                if not answer.good:
                    _judge(session, kind, answer)


def _judge(session: Session, kind: str, answer: Answer) -> None:
    """Tell the log; a master that does not know the stream (any more) is asked for another."""
    log.warning("%s was refused with HTTP %d: %s", kind, answer.status, answer.text)
    lost = "stream ID" in answer.text or "Framework cannot be found" in answer.text
    if lost or answer.status in (307, 403, 503):
        session.broken(f"{kind} was refused: {answer.text or answer.status}")


def _values(ids: Sequence[str]) -> list[dict[str, str]]:
    return [{"value": each} for each in ids]


def _filters(refuse_s: float) -> dict[str, float]:
    return {"refuse_seconds": refuse_s}


def _task(task: TaskRef) -> dict[str, Any]:
    body: dict[str, Any] = {"task_id": {"value": task.task}}
    if task.agent:
        body["agent_id"] = {"value": task.agent}
    return body


def _ack(ack: Ack) -> dict[str, Any]:
    return {"agent_id": {"value": ack.agent}, "task_id": {"value": ack.task}, "uuid": ack.uuid}


def read_messages(fd: int, inbox: queue.SimpleQueue[ToDriver]) -> None:
    """Take the server's messages in until it is gone; then end the process, whatever the others are doing."""
    frames, decoder = Frames(), msgspec.msgpack.Decoder(ToDriver)
    try:
        while data := os.read(fd, READ_BYTES):
            frames.feed(data)
            while (body := frames.next()) is not None:
                inbox.put(decoder.decode(body))
    except (OSError, ValueError) as error:
        log.critical("the server's messages cannot be read: %s", error)
        os._exit(EXIT_BROKEN)
    os._exit(0)


def say_alive(outlet: Outlet, worker: Worker, every_s: float = ALIVE_EVERY_S) -> None:
    """Say so every few seconds; end the process if pymesos's thread died, for the server starts another."""
    pause = threading.Event()
    while True:
        outlet.emit([Alive()])
        if worker.driver is not None and worker.driver.died:
            log.critical("the thread that reads events ended; starting anew")
            os._exit(EXIT_BROKEN)
        pause.wait(every_s)


def main() -> None:
    """Serve the server at the other end of standard input and output."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the pipe decides, so that the server can say goodbye first
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    messages, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # what anybody prints must not get among the messages
    compat.load_pymesos()
    outlet = Outlet(answers)
    worker = Worker(outlet.emit)
    threading.Thread(target=read_messages, args=(messages, worker.inbox), name="server", daemon=True).start()
    threading.Thread(target=say_alive, args=(outlet, worker), name="alive", daemon=True).start()
    try:
        worker.run()
    except Exception:
        log.exception("the driver cannot go on")
        os._exit(EXIT_BROKEN)
    os._exit(0)  # not by way of threads that may wait for something


if __name__ == "__main__":
    main()
